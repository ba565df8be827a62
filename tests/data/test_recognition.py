"""The form of records is found by their fields, and a folder is read for what it mostly has."""

import codecs
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedbed.base.errors import DataError
from seedbed.data.corpora import Reading, read_documents
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
FORMS: dict[str, tuple[Any, str, str]] = {
    "text": ({"text": "t"}, "text", "text"),
    "text among others": ({"id": 3, "Text": "t", "url": "u"}, "Text", "text"),
    "sentence": ({"sentence": "t", "label": 1}, "sentence label", "labels"),
    "review": ({"Review": "t", "Class": "good", "id": 1}, "Review Class", "labels"),
    "category": ({"text": "t", "category": True}, "text category", "labels"),
    "input and a number": ({"input": "t", "target": 1}, "input target", "labels"),
    "tokens": ({"id": "0", "tokens": ["a"], "ner_tags": [1]}, "tokens ner_tags", "tags"),
    "pos": ({"tokens": ["a"], "pos_tags": ["DET"], "text": "a"}, "tokens pos_tags", "tags"),
    "words": ({"words": "a b", "tags": "X Y"}, "words tags", "tags"),
    "input and tags": ({"input": ["a"], "target": ["X"]}, "input target", "tags"),
    "prompt": ({"prompt": "p", "completion": "c"}, "prompt completion", "pairs"),
    "input": ({"input": "p", "target": "c"}, "input target", "pairs"),
    "question": ({"question": "p", "answer": "c"}, "question answer", "pairs"),
    "alpaca": ({"instruction": "i", "input": "", "output": "o", "text": "io"}, "instruction output", "pairs"),
    "messages": ({"messages": TURNS, "text": "qa"}, "messages", "conversations"),
    "conversations": ({"conversations": [{"from": "human", "value": "q"}]}, "conversations", "conversations"),
}


def write(path: Path, *records: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def found(source: str, learns_from: Any = None, **how: Any) -> tuple[str, str]:
    """The fields, and what is learned from them."""
    settings, learned = recognised(DataSettings(train=source, **how), learns_from)
    assert recognised(settings, learned) == (settings, learned)  # as in settings.toml
    return " ".join(filter(None, (settings.text_field, settings.input, settings.target))), learned


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_found_by_its_fields(name: str, tmp_path: Path) -> None:
    record, fields, learned = FORMS[name]
    assert found(write(tmp_path / "a.jsonl", record)) == (fields, learned)


@pytest.mark.parametrize(
    ("record", "learns_from", "fields"),
    [
        ({"text": "t", "label": 1}, "text", "text"),
        ({"text": "t", "label": "positive"}, "pairs", "text label"),
        ({"prompt": "t", "completion": "c"}, "labels", "prompt completion"),
        ({"prompt": "t", "completion": "c"}, "conversations", "prompt completion"),
        ({"instruction": "t", "output": "c", "text": "tc"}, "text", "text"),
        ({"instruction": "t", "output": "c"}, "conversations", "instruction output"),
    ],
)
def test_an_objective_takes_the_fields_that_it_learns_from(
    record: Any, learns_from: str, fields: str, tmp_path: Path
) -> None:
    assert found(write(tmp_path / "a.jsonl", record), learns_from) == (fields, learns_from)


@pytest.mark.parametrize(("answers", "learns_from"), [(["Lob", "Kritik"], "labels"), (None, "pairs")])
def test_named_answers_that_repeat_are_labels(
    answers: list[str] | None, learns_from: str, tmp_path: Path
) -> None:
    rows = [f"Guten Tag {n};{answers[n % 2] if answers else f'Antwort {n}'}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["Nachricht;Kategorie", *rows]))
    named = DataSettings(train=str(tmp_path / "a.csv"), input="Nachricht", target="Kategorie")
    assert recognised(named)[1] == learns_from


def test_fields_that_are_named_win(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"text": "t", "label": 1, "title": "x", "kind": "y", "stars": 4})
    assert found(source, text_field="title") == ("title", "text")
    assert found(source, input="title", target="kind") == ("title kind", "pairs")
    assert found(source, input="title", target="stars") == ("title stars", "labels")
    assert found(source, "labels", input="title", target="kind") == ("title kind", "labels")
    assert found(source, form="text") == ("", "text")
    talk = write(tmp_path / "b.jsonl", {"dialogue": TURNS})
    assert found(talk, text_field="dialogue", form="messages") == ("dialogue", "conversations")


@pytest.mark.parametrize("learns_from", [None, "labels"])
def test_an_unknown_form_lists_the_fields_and_the_usual_ones(learns_from: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"headline": "t", "stars": 1})
    with pytest.raises(DataError) as caught:
        found(source, learns_from)
    expected = (
        "messages, tokens and tags, instruction and output, prompt and completion, text and label or text"
    )
    expected = expected if learns_from is None else "prompt and completion or text and label"
    assert f"has records with the fields headline, stars; expected are {expected}: name yours" in str(
        caught.value
    )
    (tmp_path / "a.csv").write_text("so good,1\nso bad,0\n")
    with pytest.raises(
        DataError, match=r'the fields so good, 1; .* without a header with data.columns="text'
    ):
        found(str(tmp_path / "a.csv"))
    assert found(str(tmp_path / "a.csv"), columns="text,label") == ("text label", "labels")


def test_a_table_as_excel_writes_it_in_germany_is_told_its_settings(tmp_path: Path) -> None:
    rows = [f'{n},5;"Hallo ""{n}"",\n\u00fcber Post";{"Rechnung" if n % 2 else "Versand"}' for n in range(9)]
    source = tmp_path / "de.csv"
    source.write_bytes("\r\n".join(["\ufeffBetrag;Nachricht;Kategorie", *rows, ""]).encode())
    words = "such as --set data.input=Nachricht --set data.target=Kategorie, or leave"
    with pytest.raises(DataError, match=words):
        found(str(source))
    with pytest.raises(DataError, match=r"fields are Betrag, Nachricht, Kategorie; .* with data\.text_field"):
        list(read_documents(source))
    settings = DataSettings(train=str(source), input="Nachricht", target="Kategorie")
    documents = list(read_documents(source, settings, learns_from="labels"))
    assert [(d.text, d.answer) for d in documents][1] == ('Hallo "1",\nüber Post', "Rechnung")


def test_each_file_of_a_folder_has_its_own_names_of_the_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "one", "label": "x"})
    (tmp_path / "b.csv").write_text("Text,Label\ntwo,y\n")
    (tmp_path / "c.csv").write_text("sentence,label\nthree,x\n")
    (tmp_path / "d.csv").write_text("prompt,completion\nfour,x\n")
    reading = Reading()
    settings, learned = recognised(DataSettings(train=str(tmp_path), exclude=("d.csv",)))
    read = read_documents(tmp_path, replace(settings, exclude=()), learns_from=learned, reading=reading)
    assert [(d.text, d.answer) for d in read] == [("one", "x"), ("two", "y"), ("three", "x")]
    assert list(reading.skipped.values()) == ["no field 'text'"]
    named = DataSettings(train=str(tmp_path), input="one", target="two")
    with pytest.raises(DataError, match="has no record"):
        list(read_documents(tmp_path, named, learns_from="labels"))


def test_a_few_texts_beside_records_are_notes_on_them(tmp_path: Path) -> None:
    records = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    write(tmp_path / "d" / "train.jsonl", *records)
    (tmp_path / "d" / "README.md").write_text("All about them.")
    source = str(tmp_path / "d")
    assert found(source) == ("text label", "labels")
    reading = Reading()
    assert len(list(read_documents(source, learns_from="labels", reading=reading))) == 40
    assert reading.skipped == {f"{source}/README.md": "a text without an answer"}
    assert str(reading) == "read 1 file, 40 documents; skipped 1: README.md (a text without an answer)"
    assert len(list(read_documents(source))) == 41  # the objective says that text is learned
    (tmp_path / "d" / "book.txt").write_text("A long text. " * 100)
    words = r"d has files of several forms: text \(README\.md\) and text and label \(train\.jsonl\); "
    with pytest.raises(DataError, match=words):
        found(source)
    assert found(source, exclude="book.txt") == ("text label", "labels")
    assert found(source, include="*.md, book*") == ("text", "text")
    assert found(source, "labels") == ("text label", "labels")


@pytest.mark.parametrize("learns_from", [None, "text"])
def test_records_of_no_known_form_are_not_skipped_for_a_note(learns_from: Any, tmp_path: Path) -> None:
    talks = [{"dialogue": f"a: {n} b: yes", "summary": "yes", "n": n} for n in range(40)]
    write(tmp_path / "d" / "train.jsonl", *talks)
    (tmp_path / "d" / "LICENSE.txt").write_text("Free for all.")
    with pytest.raises(
        DataError, match=r"train\.jsonl has records with the fields dialogue, summary, n; exp"
    ):
        found(str(tmp_path / "d"), learns_from)
    assert found(str(tmp_path / "d"), learns_from, text_field="dialogue") == ("dialogue", "text")
    assert found(str(tmp_path / "d"), learns_from, exclude="*.jsonl") == ("text", "text")


def test_two_forms_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.jsonl", {"text": "t", "label": 1})
    write(tmp_path / "d" / "b.jsonl", {"messages": TURNS})
    with pytest.raises(
        DataError, match=r"text and label \(a\.jsonl\) and messages \(b\.jsonl\); choose some"
    ):
        found(str(tmp_path / "d"))
    assert found(str(tmp_path / "d"), "conversations") == ("messages", "conversations")


def messy(folder: Path) -> dict[str, str]:
    """A folder as people have it; the reason for which a file of it is skipped."""
    (folder / "notes").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name, content in {
        "a.txt": b"plain\r\ntext",
        "b.TXT.GZ": gzip.compress(b"packed"),
        "notes/c.md": codecs.BOM_UTF8 + "ünï".encode(),
        "d.txt": "sixteen ü".encode("utf-16"),
        "e.txt": codecs.BOM_UTF32_BE + "thirty-two".encode("utf-32-be"),
        "f.txt": "cafés".encode("latin-1"),
        "g.pdf": b"%PDF-1.4 plain",
        "h.bin": bytes(range(256)),
        "i.txt": b"",
        "j.txt": b" \n",
        "k.jsonl": b'{"id": 1}\n',
        "l.csv": b"",
        ".hidden": b"hidden",
        ".git/config": b"hidden",
        **{f"notes/copy{n}.txt": b"the same" for n in range(9)},
    }.items():
        (folder / name).write_bytes(content)
    names = {"f.txt": "not UTF-8", "g.pdf": "a PDF", "h.bin": "binary", "i.txt": "empty", "j.txt": "empty"}
    return names | {"k.jsonl": "no field 'text'", "l.csv": "empty"}


def test_what_is_not_text_in_a_folder_is_skipped_and_listed(tmp_path: Path) -> None:
    skipped, reading = messy(tmp_path / "d"), Reading()
    source = str(tmp_path / "d")
    texts = [document.text for document in read_documents(source, reading=reading)]
    assert texts == ["plain\r\ntext", "packed", "sixteen ü", "thirty-two", "ünï", *["the same"] * 9]
    assert reading.skipped == {f"{source}/{name}": reason for name, reason in skipped.items()}
    assert len(reading.files) == reading.num_documents == 14
    assert str(reading).startswith(
        "read 14 files, 14 documents; skipped 7: f.txt (not UTF-8), g.pdf (a PDF), "
    )
    for name, reason in skipped.items():  # a file that is named must be text
        words = "has no text" if reason == "empty" else reason
        with pytest.raises(DataError, match=words):
            list(read_documents(tmp_path / "d" / name))


def test_patterns_select_files_of_a_folder(tmp_path: Path) -> None:
    messy(tmp_path)

    def texts(**how: Any) -> list[str]:
        return [d.text for d in read_documents(tmp_path, DataSettings(train="d", **how))]

    assert texts(exclude="notes/") == ["plain\r\ntext", "packed", "sixteen ü", "thirty-two"]
    assert texts(include=("*.md", "a.*")) == ["plain\r\ntext", "ünï"]
    assert texts(include="*.txt", exclude="copy*, notes/copy[1-9].txt, [d-z].txt") == ["plain\r\ntext"]
    with pytest.raises(DataError, match=r"leave none of the 21 files of .*; give patterns .*: a\.txt$"):
        texts(include="*.doc")
