"""The words of the code and the documents are the field's: forms that have no other meaning are found."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A form (a space is any white space, also across lines of a comment), what to write instead, and an example.
# Words with another meaning ("control characters", "a mark on the line") are not among them.
FORMS = (
    (r"control tokens?", "special token", "its control tokens"),
    (r"(nats|bits|tokens|bytes) an? (token|byte|target|step|parameter|layer)", "per", "2.1 bits a byte"),
    (r"likeliest", "most likely; top-1", "the likeliest token"),
    (r"(go|goes|going|went) on( (with|after|from)|[,;.:])", "resume, continue", "a run goes on with it"),
    (r"(lie|lies) (in|at|there|beside|below|behind)", "is in, is stored in", "what lies in a folder"),
    (r"(is|are|was|were|be) (told|heard)", "is reported, is shown, is used", "a user is told"),
    (r"told|tells (whether|which|what|how|you)", "reported, shown", "the user is then told"),
    (r"the (house|rooms?)", "the architecture, the package", "the house keeps its order"),
    (r"(turn|turns|turned) (q|k|queries|keys)", "rotates, rotated", "turned queries"),
    (r"(hears?|heard) of", "used, reported", "what the step hears of"),
    (r"bare (products?|calls?)", "matmuls alone; fast path", "1.2 of the bare products"),
    (r"(is|are) no (folder|file|path|number|duration|bundle|run|checkpoint|list|JSON|TOML|Parquet|gzip)",
     "is not a", "that is no folder"),
    (r"cannot be([;,.:]|$)", "is not allowed", "steps=-1 cannot be; give more"),
    (r"what (it|that|this|they) (come|comes) to", "the result", "what it comes to"),
    (r"the most tokens of", "the maximum number of tokens", "the most tokens of an answer"),
    (r"in the room of", "in the memory that ... freed", "in the room of the logits"),
    (r"(dear|dearer|dearest)", "expensive", "the dearer one"),
)  # fmt: skip
DOCUMENTS = ("*.md", "docs/*.md", "Makefile", ".ci/*", "src/**/*.py", "tests/**/*.py", "benchmarks/*.py")
FILES = sorted({file for pattern in DOCUMENTS for file in ROOT.glob(pattern)} - {Path(__file__)})


def compiled(form: str) -> re.Pattern[str]:
    return re.compile(rf"\b{form}".replace(" ", r"(?:\s+(?:#\s+)?)") + r"(?![\w-])", re.MULTILINE)


@cache
def own_text(file: Path) -> str:
    """The text of a file without its quotations, which are between lines of ~~~."""
    text = file.read_text(encoding="utf-8")
    return re.sub(r"^~~~.*?^~~~$", lambda quoted: "\n" * quoted[0].count("\n"), text, flags=re.S | re.M)


def places(form: str, files: list[Path]) -> Iterator[str]:
    for file in files:
        text = own_text(file)
        for found in compiled(form).finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{file.relative_to(ROOT)}:{line}: {' '.join(found[0].split())}"


@pytest.mark.parametrize(("form", "better", "example"), FORMS, ids=[example for _, _, example in FORMS])
def test_a_foreign_form_is_not_used(form: str, better: str, example: str) -> None:
    assert compiled(form).search(example)
    found = list(places(form, FILES))
    assert not found, f"write {better!r} instead:\n" + "\n".join(found)
