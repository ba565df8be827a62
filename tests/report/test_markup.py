"""Elements escape by construction: text and attributes come out as the same text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.markup import Markup, compact, element, escape, printable

# Any code point, halves of surrogate pairs and control characters included.
ANY_TEXT = st.text(st.characters(exclude_categories=[]))


class One(HTMLParser):
    """Reads back one element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(text=ANY_TEXT, value=ANY_TEXT)
def test_text_and_attributes_read_back_as_they_went_in(text: str, value: str) -> None:
    written = element("p", text, title=value)
    written.encode("utf-8")
    read = One(written)
    assert read.tags == [("p", {"title": printable(value)})]
    assert read.text == printable(text)


def test_control_characters_and_half_surrogates_become_the_replacement_character() -> None:
    assert printable("a\x00b\ud800c\x85d\te\nf\r\ng\rh") == "a\ufffdb\ufffdc\ufffdd\te\nf\ng\nh"


def test_markup_is_not_escaped_again() -> None:
    inner = element("b", "1 < 2")
    assert inner == "<b>1 &lt; 2</b>"
    assert element("p", inner, None, 3) == "<p><b>1 &lt; 2</b>3</p>"
    assert escape(inner) is inner and inner.__html__() == inner
    assert isinstance(element("p"), Markup) and not hasattr("text", "__html__")


def test_names_of_attributes() -> None:
    assert element("path", class_="a", stroke_width=2, d=None) == '<path class="a" stroke-width="2"></path>'


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (1.24, "1.2"), (-0.04, "0"), (0.0, "0"), (100.0, "100"), (-3.26, "-3.3")]
)
def test_coordinates_are_short(value: float, text: str) -> None:
    assert compact(value) == text
