"""What the tests of the report share: folders as trainings write them, and a reader of pages."""

import importlib.util
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

VOID = {"meta", "br", "link", "hr"}


class Reader(HTMLParser):
    """Reads a page: its elements with their attributes, its text, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.inside, f"never closed: {self.inside}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        assert tag in VOID, f"<{tag} /> closes nothing in HTML"

    def handle_endtag(self, tag: str) -> None:
        assert self.inside and self.inside[-1] == tag, f"</{tag}> closes {self.inside[-3:]}"
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        for tag in set(self.inside):
            self.texts[tag][-1] += data

    @property
    def words(self) -> str:
        """All text that a reader sees, white space made even."""
        return " ".join("".join(self.texts["main"]).split())


@pytest.fixture(scope="session")
def read_page() -> type[Reader]:
    """The reader of pages."""
    return Reader


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """The module `run_folders.py` beside this file."""
    spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
