"""Documents from every kind of source, and one line for each problem."""

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from seedbed.base.errors import DataError, SeedbedError, UsageError
from seedbed.base.settings import load_settings
from seedbed.data.corpora import Document, Reading, deduplicate, read_documents
from seedbed.data.settings import DataSettings


def texts(source: Path | str, **options: Any) -> list[str]:
    settings = DataSettings(train=str(source), **options)
    return [document.text for document in read_documents(source, settings)]


def write_table(path: Path, columns: dict[str, list[object]]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfFirst line\r\n\n  \xc3\xbc\n")
    assert list(read_documents(file)) == [Document("First line\r\n\n  ü\n", str(file))]  # no byte order mark


def test_a_separator_cuts_a_text_into_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\n \n\n")
    settings = DataSettings(train="a.txt", document_separator="\n\n")
    documents = list(read_documents(tmp_path / "a.txt", settings))
    assert [d.text for d in documents] == ["one", "two"]
    assert [d.origin for d in documents] == [f"{tmp_path}/a.txt part 1", f"{tmp_path}/a.txt part 2"]


PARAGRAPHS = [f"  Paragraph {n}:\n    indented,  with blanks.  " for n in range(60)]


@pytest.mark.parametrize("separator", ["\n\n", "\\n\\n", "\r\n\r\n", "\\r\\n\\r\\n"])
@pytest.mark.parametrize("between", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\n\n", "\r\n\r\n\r\n"])
def test_blank_lines_are_between_paragraphs_in_every_form(
    between: str, separator: str, tmp_path: Path
) -> None:
    ends = "\r\n" if "\r" in between else "\n"
    (tmp_path / "a.txt").write_bytes(between.join(PARAGRAPHS).replace("\n    ", f"{ends}    ").encode())
    found = texts(tmp_path / "a.txt", document_separator=separator)
    assert [text.replace("\r\n", "\n") for text in found] == PARAGRAPHS


def test_a_separator_is_taken_from_a_shell_and_from_toml(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('document_separator = "\\n\\n"\n')
    for typed in ("\\n\\n", '"\\n\\n"', "\n\n"):
        flag = load_settings(DataSettings, {"train": "a"}, overrides=[f"document_separator={typed}"])
        assert flag.separator == load_settings(DataSettings, {"train": "a"}, tmp_path / "s.toml").separator
    for written, text in (
        ("\\t", "a\tb"),
        ("\\\\n", "a\\nb"),
        ("---", "a---b"),
        ("\\n---\\n", "a\r\n---\r\nb"),
    ):
        (tmp_path / "a.txt").write_bytes(text.encode())
        assert texts(tmp_path / "a.txt", document_separator=written) == ["a", "b"]


def test_an_instruction_has_its_input_behind_it(tmp_path: Path) -> None:
    records = [
        {"instruction": "Sum up.", "input": "A long story.", "output": "Short."},
        {"instruction": "Greet.", "input": "", "output": "Hello."},
        {"instruction": "Part.", "output": "Bye."},
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    pairs = [(d.text, d.answer) for d in read_documents(tmp_path / "a.json", learns_from="pairs")]
    assert pairs == [
        ("Sum up.\n\nA long story.\n\n", "Short."),
        ("Greet.\n\n", "Hello."),
        ("Part.\n\n", "Bye."),
    ]
    talks = [json.loads(d.text) for d in read_documents(tmp_path / "a.json", learns_from="conversations")]
    assert talks[0] == [
        {"role": "user", "content": "Sum up.\n\nA long story."},
        {"role": "assistant", "content": "Short."},
    ]
    assert [talk[0]["content"] for talk in talks[1:]] == ["Greet.", "Part."]


def test_records_of_json_lines_json_and_parquet(tmp_path: Path) -> None:
    records = [{"text": "one ü", "n": 1}, {"n": 2, "text": "two"}, {"text": " \n"}]
    lines = "\n\n".join(json.dumps(record) for record in records)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps(records))
    write_table(tmp_path / "a.parquet", {"text": [r["text"] for r in records], "n": [1, 2, 3]})
    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"):
        assert texts(tmp_path / name) == ["one ü", "two"], name
    origins = [next(read_documents(tmp_path / name)).origin for name in ("a.jsonl", "a.json", "a.parquet")]
    assert origins == [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/a.json record 1", f"{tmp_path}/a.parquet row 1"]


def test_another_field(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "no", "story": "yes"}')
    assert texts(tmp_path / "a.json", text_field="story") == ["yes"]


def test_a_folder_is_its_files_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.md", "a.txt", "b.txt", ".git/config", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    assert texts(tmp_path) == ["a.txt", "b.txt", "b/a.md", "b/z.txt", "packed"]


BAD = {
    "not_utf8.txt": (b"gr\xfcn", r"not_utf8\.txt is not UTF-8: byte 0xFC at offset 2; save it as UTF-8"),
    "cut.txt": (b"ok \xe2\x82", r"cut\.txt is not UTF-8: byte 0xE2 at offset 3"),
    "bad.jsonl": (b'{"text": "a"}\n{"text": \n', r"bad\.jsonl:2 is not JSON \(.*\); correct or remove it"),
    "deep.jsonl": (b"[" * 100_000, r"deep\.jsonl:1 is not JSON \(.*recursion.*\)"),
    "latin.jsonl": (b'\n{"text": "gr\xfcn"}\n', r"latin\.jsonl:2 is not UTF-8: byte 0xFC at offset 12"),
    "field.jsonl": (
        b'{"txt": "a", "n": 1}',
        r"field\.jsonl:1: no field 'text'; did you mean 'txt'\? its fields are txt, n; expected text "
        r"\(name another with data\.text_field\)",
    ),
    "type.jsonl": (b'{"text": 5}', r"type\.jsonl:1: the field 'text' is int, not text; set data\.text_field"),
    "list.jsonl": (b"[1]", r"list\.jsonl:1: expected an object with the field 'text', got list"),
    "half.jsonl": (b'{"text": "\\ud83c!"}', r"half\.jsonl:1: the lone surrogate \\ud83c is not a character"),
    "bad.json": (b"[1, 2", r"bad\.json is not JSON"),
    "number.json": (b"[7]", r"number\.json record 1: expected an object .*, got int"),
    "bad.parquet": (b"PAR1 no", r"bad\.parquet is not a readable Parquet file: "),
    "bad.txt.gz": (b"no", r"bad\.txt\.gz cannot be read: Not a gzipped file"),
    "cut.txt.gz": (gzip.compress(b"text" * 99)[:-9], r"cut\.txt\.gz cannot be read: Compressed file ended"),
    "flip.jsonl.gz": (gzip.compress(b"")[:10] + b"\xff" * 9, r"flip\.jsonl\.gz cannot be read: Error -3"),
    "blank.txt": (b" \n\t\n", r"blank\.txt has no text; give a file or folder with at least one document"),
    "blank.jsonl": (b'\n{"text": ""}\n', r"blank\.jsonl has no text"),
    "empty.txt": (b"", r"empty\.txt has no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_parquet_rows_that_hold_no_text_are_named(tmp_path: Path) -> None:
    null = write_table(tmp_path / "null.parquet", {"text": ["a", None]})
    with pytest.raises(DataError, match=r"null\.parquet row 2: the field 'text' is NoneType, not text"):
        list(read_documents(null))
    other = write_table(tmp_path / "other.parquet", {"txt": ["a"]})
    with pytest.raises(DataError, match=r"other\.parquet row 1: no field 'text'; .* 'txt'"):
        list(read_documents(other))


def test_parquet_without_its_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_table(tmp_path / "a.parquet", {"text": ["a"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"a\.parquet is a Parquet file: .* pip install 'seedbed\[data\]'"):
        list(read_documents(file))


def test_what_does_not_exist_is_named_with_what_lies_near(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("x")
    cases = {
        tmp_path / "storys.txt": r"storys\.txt does not exist; similar names: stories\.txt",
        tmp_path / "Q": r"Q does not exist; give a file that exists, or builtin:code or builtin:prose",
        tmp_path / "no" / "a.txt": r"a\.txt does not exist, nor does its folder",
        "builtin:proze": r"no corpus is named 'builtin:proze'; did you mean 'builtin:prose'\?",
    }
    for source, message in cases.items():
        with pytest.raises(DataError, match=message):
            list(read_documents(source))
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    with pytest.raises(DataError, match=r"the folder .*empty has no file"):
        list(read_documents(tmp_path / "empty"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SeedbedError, match=r"pipe is neither a file nor a folder"):
        list(read_documents(tmp_path / "pipe"))


def test_deduplication_is_exact_and_keeps_the_first() -> None:
    documents = [Document(text, f"{n}") for n, text in enumerate(["a", "b", "a", "a ", "b", "A"])]
    assert [d.origin for d in deduplicate(documents)] == ["0", "1", "3", "5"]
    known = {documents[0].digest}
    assert [d.origin for d in deduplicate(documents, known=known)] == ["1", "3", "5"]
    assert len(known) == 4
    reading = Reading(num_documents=6)
    list(deduplicate(documents, reading=reading))
    assert (reading.num_documents, reading.num_duplicates) == (4, 2)
    assert str(reading) == "read 0 files, 4 documents; left out 2 equal to one of them"
