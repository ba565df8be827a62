"""A model card is shown, and nothing in it can load, link or run."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from seedbed.report.card import MOST_LETTERS, card

HOSTILE = """# Title <script>alert(1)</script>

![picture](https://example.org/a.png) [link](https://example.org) <https://example.org>
<img src=x onerror=alert(1)>

<script>alert(2)</script>

[name]: https://example.org
[name]

| a | b |
| - | - |
| <b>1</b> | `<i>` |
"""


def test_nothing_loads_links_or_runs(read_page: Callable[[str], Any]) -> None:
    page = read_page(card(HOSTILE))
    tags = {tag for tag, _ in page.elements}
    assert tags <= {"div", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert not any(attributes.keys() - {"class"} for _, attributes in page.elements)
    assert "Title <script>alert(1)</script>" in page.texts["h3"]
    assert "<img src=x onerror=alert(1)>" in "".join(page.texts["p"])
    assert page.texts["td"] == ["<b>1</b>", "<i>"]


def test_headings_begin_at_the_third_level(read_page: Callable[[str], Any]) -> None:
    page = read_page(card("# One\n\n## Two\n\n###### Six\n"))
    assert page.texts["h3"] == ["One"] and page.texts["h4"] == ["Two"] and page.texts["h6"] == ["Six"]


def test_metadata_is_shown_as_written(read_page: Callable[[str], Any]) -> None:
    page = read_page(card("---\nlicense: apache-2.0\ntags: [a, <b>]\n---\n# Name\n"))
    assert page.texts["pre"] == ["license: apache-2.0\ntags: [a, <b>]"]
    assert "---" not in "".join(page.texts["div"])
    assert "h3" in read_page(card("---\nnever closed\n# Name\n")).texts


def test_a_card_without_end_is_cut_and_says_so(read_page: Callable[[str], Any]) -> None:
    page = read_page(card("word " * MOST_LETTERS))
    *shown, said = page.texts["p"]
    assert f"{MOST_LETTERS:,}" in said
    assert len("".join(shown)) <= MOST_LETTERS


@given(text=st.text(st.sampled_from("<>&\"'#*_`[]()!|-\n\t :/\\x\x00\ud800~>1.+=")))
def test_any_card_gives_closed_harmless_elements(text: str) -> None:
    from html.parser import HTMLParser

    seen: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append(tag)
            assert not {name for name, _ in attributes} - {"class", "style", "start"}

    markup = card(text)
    markup.encode("utf-8")
    Tags().feed(markup)
    assert not {"script", "img", "a", "iframe", "style", "link", "svg"} & set(seen)
