"""Lines in whole chunks: what a killed process left is continued, or begins anew for something else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.evaluation.journal import Journal, chunks, json_line, require_absent

ITEMS = [{"n": n, "text": "é\u2028 \u0085" * (n % 3)} for n in range(10)]


def write(path: Path, *, most: int = 99, identity: Any = 1) -> Journal:
    """Write the items from where an earlier journal ended, at most so many chunks of three, and close it."""
    journal = Journal(path, {"of": identity})
    for some in list(chunks(ITEMS[journal.num_done :], 3))[:most]:
        journal.append(map(json_line, some))
    journal.close()
    return journal


def opened(path: Path, identity: Any = 1) -> Journal:
    journal = Journal(path, {"of": identity})
    journal.close()
    return journal


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.jsonl"
    write(path).finish()
    return path.read_bytes()


def test_lines_are_those_that_were_written(whole: bytes) -> None:
    assert [json.loads(line) for line in whole.decode().split("\n")[:-1]] == ITEMS


@pytest.mark.parametrize("num_chunks", range(1, 5))
def test_every_chunk_is_continued_to_the_same_bytes(num_chunks: int, whole: bytes, tmp_path: Path) -> None:
    """What was written behind it, half a line or whole ones, is cut off."""
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    write(path, most=num_chunks)
    kept = part.read_bytes()
    for more in (b"", b'{"n"', whole[len(kept) :]):
        part.write_bytes(kept + more)
        journal = opened(path)
        assert journal.num_done == min(10, 3 * num_chunks) and part.read_bytes() == kept
        assert list(journal.lines()) == ITEMS[: journal.num_done] and not path.exists()
    write(path).finish()
    assert path.read_bytes() == whole and not part.exists()


def test_a_damaged_or_cut_file_begins_anew_with_a_warning(whole: bytes, tmp_path: Path) -> None:
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    for change in (
        lambda content: content[:-1],
        lambda content: content.replace(b'"n": 1', b'"n": 7'),
        lambda content: b"",
    ):
        write(path, most=2)
        part.write_bytes(change(part.read_bytes()))
        with pytest.warns(SeedbedWarning, match=r"a\.jsonl\.part is damaged or missing; its answers begin"):
            assert opened(path).num_done == 0
        write(path).finish()
        assert path.read_bytes() == whole
        path.unlink(), part.with_name("a.jsonl.part.json").unlink()


def test_something_else_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, most=2)
    assert opened(path, identity=2).num_done == 0


@pytest.mark.parametrize("about", [None, "{", "[]", "{}", '{"identity": {"of": 1}, "num_lines": 3}'])
def test_files_of_something_else_are_refused(about: str | None, tmp_path: Path) -> None:
    part, beside = tmp_path / "a.jsonl.part", tmp_path / "a.jsonl.part.json"
    part.write_text("mine")
    if about is not None:
        beside.write_text(about)
    for _ in range(2):
        with pytest.raises(UsageError, match="is not what an interrupted command left; move them"):
            Journal(tmp_path / "a.jsonl", {"of": 1})
    assert part.read_text() == "mine" and (about is None or beside.read_text() == about)
    assert len([*tmp_path.iterdir()]) == 1 + (about is not None)


def test_a_whole_file_is_kept_until_it_is_forgotten(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path).finish()
    again = write(path)
    assert again.is_whole and again.num_done == 10 and list(again.lines()) == ITEMS
    again.finish()
    assert path.read_bytes() == whole
    again.forget()
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    other = opened(path)
    assert not other.is_whole and other.num_done == 0 and path.read_bytes() == whole


def test_a_finished_file_is_not_that_of_a_later_job(whole: bytes, tmp_path: Path) -> None:
    """Beside it, the later job was interrupted, and what it had was removed."""
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    write(path).finish()
    write(path, most=1, identity=2)
    part.unlink()
    with pytest.warns(SeedbedWarning, match="is damaged or missing; its answers begin anew"):
        journal = opened(path, identity=2)
    assert not journal.is_whole and journal.num_done == 0 and path.read_bytes() == whole


def test_a_part_with_the_name_of_the_whole_is_not_whole(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, most=1)
    (tmp_path / "a.jsonl.part").rename(path)
    with pytest.warns(SeedbedWarning, match="begin anew"):
        journal = opened(path)
    assert not journal.is_whole and journal.num_done == 0
    write(path).finish()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("ends", ["close", "forget"])
def test_one_journal_at_a_time_writes_a_file(ends: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = Journal(path, {"of": 1})
    code = f"""from pathlib import Path
from seedbed.evaluation.journal import Journal
Journal(Path({str(path)!r}), {{}})"""
    other = subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, text=True)
    assert "a.jsonl is being written by another process; wait for it" in other.stderr
    with pytest.raises(UsageError, match="is being written by another process"):
        Journal(path, {"of": 1})
    first.finish()
    getattr(first, ends)()
    assert not (tmp_path / "a.jsonl.part.lock").exists()
    write(path).finish()


def test_halves_of_characters_are_escaped() -> None:
    assert json_line({"a": "é"}) == '{"a": "é"}'
    assert (
        json.loads(json_line({"a": "é\ud800"})) == {"a": "é\ud800"} and json_line({"a": "\ud800"}).isascii()
    )


def test_numbers_that_are_not_finite_are_null() -> None:
    line = json_line({"a": float("nan"), "b": [1.5, {"c": float("-inf")}], "d": (float("inf"),)})
    assert json.loads(line) == {"a": None, "b": [1.5, {"c": None}], "d": [None]}


def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    require_absent(path, force=False)
    path.touch()
    require_absent(path, force=True)
    with pytest.raises(UsageError, match="exists; give another name, or --force"):
        require_absent(path, force=False)
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        require_absent(tmp_path, force=True)
