"""Lines in whole chunks: what a killed process left is continued, or begins anew for something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from seedbed.base.errors import UsageError
from seedbed.evaluation.journal import Journal, chunks, json_line, require_absent

ITEMS = [{"n": n, "text": "é\u2028 \u0085" * (n % 3)} for n in range(10)]


def write(path: Path, *, most: int = 99, identity: Any = 1, chunk: int = 3) -> Journal:
    """Write the items from where an earlier journal ended, at most so many chunks of them."""
    journal = Journal(path, {"of": identity}, chunk=chunk)
    for some in list(chunks(ITEMS[journal.num_done :], chunk))[:most]:
        journal.append(map(json_line, some))
    return journal


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.jsonl"
    write(path).finish()
    return path.read_bytes()


def test_lines_are_those_that_were_written(whole: bytes) -> None:
    assert [json.loads(line) for line in whole.decode().split("\n")[:-1]] == ITEMS


def test_every_cut_is_continued_to_the_same_bytes(whole: bytes, tmp_path: Path) -> None:
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    for size in [*range(0, len(whole), 13), len(whole)]:
        write(path)
        part.write_bytes(whole[:size])
        journal = Journal(path, {"of": 1}, chunk=3)
        assert journal.num_done == whole[:size].count(b"\n") // 3 * 3
        assert list(journal.lines()) == ITEMS[: journal.num_done] and not path.exists()
        write(path).finish()
        assert path.read_bytes() == whole
        path.unlink()


def test_something_else_begins_anew(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, most=2)
    assert Journal(path, {"of": 2}, chunk=3).num_done == 0
    write(path, most=2)
    (tmp_path / "a.jsonl.part.json").write_text("{")
    assert Journal(path, {"of": 1}, chunk=3).num_done == 0
    write(path, most=1)
    (tmp_path / "a.jsonl.part").unlink()
    assert Journal(path, {"of": 1}, chunk=3).num_done == 0


def test_a_whole_file_is_kept_until_it_is_forgotten(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path).finish()
    again = write(path)
    assert again.is_whole and again.num_done == 10 and list(again.lines()) == ITEMS
    again.finish()
    assert path.read_bytes() == whole
    again.forget()
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    other = Journal(path, {"of": 1}, chunk=3)
    assert not other.is_whole and other.num_done == 0 and path.read_bytes() == whole


def test_halves_of_characters_are_escaped() -> None:
    assert json_line({"a": "é"}) == '{"a": "é"}'
    assert (
        json.loads(json_line({"a": "é\ud800"})) == {"a": "é\ud800"} and json_line({"a": "\ud800"}).isascii()
    )


def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    require_absent(path, force=False)
    path.touch()
    require_absent(path, force=True)
    with pytest.raises(UsageError, match="exists; give another name, or --force"):
        require_absent(path, force=False)
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        require_absent(tmp_path, force=True)
