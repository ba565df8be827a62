"""The parts of an example say what must be predicted, and the page shows them as they are."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report.examples import legend, parts
from seedbed.report.run_report import render


def piece(text: str, *, kind: str = "text", role: str = "read", answer: str | None = None) -> dict[str, Any]:
    return {"id": 1, "token": text, "text": text, "kind": kind, "role": role, "answer": answer}


MASKED = [piece("[CLS]", kind="control"), piece("the"),
          piece("[MASK]", kind="mask", role="masked", answer=" cat"),
          piece(" sat", role="kept", answer=" sat"), piece("\n\x1b")]  # fmt: skip
WRITTEN = [piece("<pad>", kind="control"), piece("<extra_id_0>", kind="sentinel", role="target"),
           piece(" a", role="target"), piece("", role="target"), piece("b", role="target")]  # fmt: skip


def example(reads: list[dict[str, Any]], writes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"reads": reads, "writes": writes, "num_tokens": 5, "num_targets": 2, "label": None} | more


def write(run: Path, *examples: dict[str, Any]) -> None:
    (run / "examples.json").write_text(json.dumps({"examples": examples}))


@pytest.fixture
def run(tmp_path: Path, folders: ModuleType) -> Path:
    return Path(folders.write_run(tmp_path / "base"))


def test_what_must_be_predicted_stands_in_guillemets() -> None:
    plain = "".join(part.text for part in parts(MASKED))
    assert plain == "[CLS]the«[MASK]→ cat»« sat→ sat»⏎\ufffd"
    assert [part.text for part in parts(MASKED) if part.is_target] == [" cat", " sat"]
    assert "".join(part.text for part in parts(WRITTEN)) == "<pad>«<extra_id_0> ab»"
    assert [p.text for p in parts(WRITTEN)] == ["<pad>", "«", "<extra_id_0>", " ab", "»"]
    half = piece("", role="replaced", answer="é")  # of a character, with nothing to show: its place is shown
    assert "".join(part.text for part in parts([half])) == "«→é»"
    said = legend([example(MASKED, [])])
    assert "a→b" in said and "⏎" in said and "⇥" not in said


def test_a_run_shows_its_first_examples(run: Path, read_page: Callable[[str], Any]) -> None:
    write(run, example(MASKED, WRITTEN), example(MASKED, [], label="good"))
    page = read_page(render(run))
    first, second = page.texts["h4"]
    assert re.search(r"\b1: 5 tokens read, 2 .*predicted.*\b40%", first)
    assert re.search(r"\b2: 5 tokens read, one label .*predicted", second)
    reads, writes = page.texts["h5"]
    assert "encoder" in reads and "decoder" in writes
    assert [text for text in page.texts["ins"] if text == " cat"] == [" cat"] * 2 and "good" in page.texts[
        "ins"
    ]


def test_records_with_labels_have_one_each(run: Path, read_page: Callable[[str], Any]) -> None:
    write(run, example([piece("fine")], [], label="good"))
    page = read_page(render(run))
    assert any("one label to be predicted" in text for text in page.texts["h4"])
    assert ".." not in page.words and ". ." not in page.words  # there is no mark to explain


def test_old_runs_have_no_such_section_and_no_notice(run: Path, read_page: Callable[[str], Any]) -> None:
    page = read_page(render(run))
    assert "examples" not in [attributes.get("id") for _, attributes in page.elements]
    assert "li" not in page.texts or not any("examples" in text for text in page.texts["li"])


@pytest.mark.parametrize(
    "damage",
    [b"", b"{\xff\x00", b"[1, 2", b"[]", b"{}", b'{"examples": 5}', b'{"examples": [{}, "a"]}'],
)
def test_a_damaged_file_is_a_notice(run: Path, read_page: Callable[[str], Any], damage: bytes) -> None:
    (run / "examples.json").write_bytes(damage)
    page = read_page(render(run))
    assert any(text.startswith("base: examples.json is damaged") for text in page.texts["li"])


@pytest.mark.parametrize(
    "change", [{"num_tokens": "5"}, {"reads": [{"text": 5}]}, {"reads": [piece("a") | {"kind": None}]}]
)
def test_a_damaged_example_is_a_notice(
    run: Path, read_page: Callable[[str], Any], change: dict[str, Any]
) -> None:
    write(run, example(MASKED, []) | change)
    page = read_page(render(run))
    assert any(text.startswith("base: examples.json is damaged") for text in page.texts["li"])


def test_text_and_control_strings_are_escaped_and_long_ones_cut(
    run: Path, read_page: Callable[[str], Any]
) -> None:
    evil = "<script>alert(1)</script>"
    names = [piece(evil, kind="control"), piece(evil, role="target"), piece(evil, role="kept", answer=evil)]
    write(run, example(names, [piece("word " * 100_000)], label=evil))
    text = render(run)
    page = read_page(text)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert page.words.count(evil) == 5 and len(text) < 100_000 and "\u2026" in page.words


def test_runs_with_the_same_examples_share_them(
    tmp_path: Path, folders: ModuleType, read_page: Callable[[str], Any]
) -> None:
    demo = folders.write_demo(tmp_path / "demo")
    for name in ("transformer", "lstm"):
        write(demo / "runs" / name, example([], WRITTEN))
    assert "h5" not in read_page(render(demo)).texts
    assert render(demo).count("Example 1:") == 1
    write(demo / "runs" / "lstm", example(MASKED, []))
    assert not any("100" in text for text in read_page(render(demo)).texts["h2"])
    assert render(demo).count("Example 1:") == 2
