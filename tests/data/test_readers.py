"""Records of each form of file, as people and programs write them."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from seedbed.base.errors import DataError
from seedbed.data.corpora import Document, Reading, read_documents
from seedbed.data.files import NotUsable, read_text
from seedbed.data.labels import encode_labelled
from seedbed.data.prepare import prepare_shards
from seedbed.data.readers import reader
from seedbed.data.settings import DataSettings
from seedbed.text.training import train_tokenizer

ROWS = [
    {"text": "plain", "label": "good"},
    {"text": 'says "no", twice;\tand more | text', "label": "bad"},
    {"text": "two\nlines, and\r\nthree", "label": "good"},
    {"text": " ünï ", "label": "bad"},
]


def records(file: Path, columns: Any = ()) -> list[Any]:
    read = reader(file, columns)
    assert read is not None
    return [record for _, record in read()]


def write(file: Path, **how: Any) -> Path:
    with file.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as stream:
        table = csv.DictWriter(stream, list(ROWS[0]), **how)
        table.writeheader()
        table.writerows(ROWS)
    return file


@pytest.mark.parametrize(
    ("ending", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ";"), (".tab", "|")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_is_read_as_it_was_written(
    ending: str, delimiter: str, encoding: str, tmp_path: Path
) -> None:
    for number, how in enumerate(
        ({}, {"quoting": csv.QUOTE_ALL}, {"doublequote": False, "escapechar": "\\"}, {"lineterminator": "\n"})
    ):
        file = write(tmp_path / f"{number}{ending}", delimiter=delimiter, encoding=encoding, **how)
        assert records(file) == ROWS
        packed = file.with_name(f"{file.name}.GZ")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        assert records(packed) == ROWS


def test_a_quote_in_a_table_without_quotes_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"so it begins\t1\nand "ends" here\t0\n" "\t1\n')
    found = [record["text"] for record in records(tmp_path / "a.tsv")]
    assert found == ['"so it begins', 'and "ends" here', '" "']


def test_line_ends_inside_quotes_are_of_the_cell(tmp_path: Path) -> None:
    rows = [(f"Dear team, hello\nmy order {i} is late", "ship") for i in range(200)]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    assert records(tmp_path / "a.csv") == [{"text": text, "label": label} for text, label in rows]


def test_a_late_quote_that_swallows_rows_is_named_and_a_long_cell_is_read(tmp_path: Path) -> None:
    lines = [f"a nice day {i},p" for i in range(600)]
    path = tmp_path / "late.csv"
    path.write_text(
        "\n".join(["text,label", *lines[:300], '"' + lines[300], *lines[301:420], 'end",n', *lines])
    )
    with pytest.raises(DataError, match=r"late\.csv:302 has a quoted cell of 121 lines, each of which looks"):
        list(read_documents(path, learns_from="labels"))
    poem = "\n".join(f"line {i}{',' * (i % 2)}" for i in range(60))
    path.write_text(f'text,label\n"{poem}",p\nshort,n\n')
    assert [document.text for document in read_documents(path, learns_from="labels")] == [poem, "short"]


def test_a_table_of_long_texts_with_commas_has_the_delimiter_of_its_header(tmp_path: Path) -> None:
    rows = [f"one, two, three, four{n};{n % 2}" for n in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["text;label", *rows, ""]))
    assert records(tmp_path / "a.csv")[3] == {"text": "one, two, three, four3", "label": "1"}
    (tmp_path / "b.csv").write_text("\n".join(rows))
    assert records(tmp_path / "b.csv", ["text", "label"])[3]["text"] == "one, two, three, four3"
    (tmp_path / "b.csv").write_text("text\nalone\n")
    assert records(tmp_path / "b.csv") == [{"text": "alone"}]


def test_names_of_columns_are_those_of_the_header_or_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,1\n\n , \ntwo,0\n")
    assert [r["text"] for r in records(tmp_path / "a.csv")] == ["one", "two"]
    assert records(tmp_path / "a.csv", ("text", "label")) == records(
        tmp_path / "a.csv"
    )  # a header all the same
    found = DataSettings(train="a.csv", columns="text, label")
    assert found.columns == ("text", "label") == DataSettings(train="a", columns=("text", "label")).columns


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "text,label\none,1\ntwo, three,0\n",
            r"a\.csv:3 has 3 columns, expected are 2 \(text, label\); correct",
        ),
        ("text,text\none,1\n", r"a\.csv:1 has two columns named 'text'"),
        ("text,label\none,1\n\xff\xfe,0", None),
    ],
)
def test_a_row_that_does_not_match_is_named(content: str, words: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=words or r"a\.csv:3 is not UTF-8: byte 0xFF at offset 0; save it"):
        records(tmp_path / "a.csv")


def test_a_backslash_at_the_end_of_a_cell_is_no_escape(tmp_path: Path) -> None:
    rows = [["path", "text", "label"], *([f"C:\\dir{n}\\", f"film {n}, rated 0", "neg"] for n in range(300))]
    rows[7][1] = "two\nlines"
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [list(record.values()) for record in records(tmp_path / "a.csv")] == rows[1:]
    (tmp_path / "a.csv").write_text('text,label\n"path C:\\",x\nb,y\n')
    assert records(tmp_path / "a.csv")[0]["text"] == "path C:\\"


def test_a_backslash_escapes_only_a_quote_or_a_backslash(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"say \\"x\\", now",x\n"C:\\new\\\\",y\n"",z\n')
    assert [r["text"] for r in records(tmp_path / "a.csv")] == ['say "x", now', "C:\\new\\", ""]


def test_a_carriage_return_alone_ends_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,label\n"first\rsecond",x\nc,y\n')
    assert [r["text"] for r in records(tmp_path / "a.csv")] == ["first\rsecond", "c"]
    (tmp_path / "a.csv").write_bytes(b'text,label\r"a",x\rb,y\r')
    assert [r["text"] for r in records(tmp_path / "a.csv")] == ["a", "b"]
    (tmp_path / "a.csv").write_bytes(b"text,label\na\rb,x\nc,y\n")
    with pytest.raises(DataError, match=r"a\.csv:2 has 1 columns, expected are 2 \(text, label\)"):
        records(tmp_path / "a.csv")


def test_a_text_of_any_length_is_a_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 500_000},1\n")
    assert len(records(tmp_path / "a.csv")[0]["text"]) == 500_000


SENTENCES = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n\n. . O O\n# NN I-NP O"


@pytest.mark.parametrize("name", ["a.conll", "a.iob", "a.bio", "A.CONLL.GZ", "a.txt"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "\r\r\n"])
def test_conll_is_words_with_the_tag_in_the_last_column(name: str, ends: str, tmp_path: Path) -> None:
    lines = SENTENCES.split("\n") + (["", "A DT I-NP O", "b NN I-NP O"] if name == "a.txt" else [])
    for separator in (" ", "\t"):
        raw = ends.join(line.replace(" ", separator) for line in lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("GZ") else raw)
        found = list(read_documents(tmp_path / name, learns_from="tags"))
        assert [(d.text, d.answer) for d in found[:2]] == [("EU rejects", "B-ORG O"), (". #", "O O")]
        assert found[0].origin == f"{tmp_path / name}:3"
    texts = [d.text for d in read_documents(tmp_path / name)]
    assert len(texts) == 1 and "EU" in texts[0]  # a text, where text is learned


def test_comments_of_conll_are_left_out_and_a_word_without_a_tag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("# id 7 of 9\nAda\tB-PER\n#\tO\n\t\n# doc2\nwas\tO\n")
    found = list(read_documents(tmp_path / "a.conll", learns_from="tags"))
    assert [(d.text, d.answer) for d in found] == [("Ada #", "B-PER O"), ("was", "O")]
    (tmp_path / "b.conll").write_text("Ada\tB-PER\nwas\n")
    with pytest.raises(DataError, match=r"b\.conll:2 is 'was', not a word and its tag; write both"):
        list(read_documents(tmp_path / "b.conll", learns_from="tags"))
    (tmp_path / "b.conll").write_text("# doc2\nAda B-PER\n# O\n\n# doc3\nwas O\n")
    found = list(read_documents(tmp_path / "b.conll", learns_from="tags"))
    assert [(d.text, d.answer) for d in found] == [("Ada #", "B-PER O"), ("was", "O")]


def test_a_row_of_conll_of_another_width_is_named_and_a_no_break_space_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("in O\nNew York B-LOC\n")
    with pytest.raises(DataError, match=r"a\.conll:2 has 3 columns, the rows before it have 2: 'New York B-"):
        list(read_documents(file, learns_from="tags"))
    file.write_text("10\u00a0000 B-NUM\nmen O\n\nNo O\n")
    document = next(read_documents(file, learns_from="tags"))
    assert document == Document("10\u00a0000 men", f"{file}:1", "B-NUM O")
    tokenizer = train_tokenizer([], "bytes")
    (row,) = encode_labelled([document], tokenizer, ("B-NUM", "O"), "tags")
    assert row[1] == [1, *[0] * 7, 2, 0, 0]  # of the bytes


def test_a_line_that_is_not_json_is_named_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b"}\n' * 25 + '{"text": \n')
    with pytest.raises(DataError, match=r"b\.jsonl:26 is not JSON \(Expecting value at column 10\); correct"):
        list(read_documents(tmp_path))


def test_a_json_file_has_a_list_or_lines(tmp_path: Path) -> None:
    several = [{"text": "one"}, {"text": "two\n", "n": [1, {"a": "]"}]}]
    for content in (
        json.dumps(several),
        json.dumps(several, indent=1),
        "\n".join(map(json.dumps, several)),
        "\n" + "\r\n\r\n".join(map(json.dumps, several)) + "\r\n",
    ):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            (tmp_path / "a.json").write_bytes(content.encode(encoding))
            assert records(tmp_path / "a.json") == several
    (tmp_path / "a.json").write_text(" [ ] \n")
    assert records(tmp_path / "a.json") == []
    (tmp_path / "a.json").write_text(json.dumps(several[0], indent=1))
    assert records(tmp_path / "a.json") == several[:1]


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}, ', '[{"text": "a"} 1]', '[{"text": "a"}] x', "[1,]", "", "nul"]
)
def test_json_that_is_not_complete_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json is not JSON \(.*line 1 column \d+.*\); correct"):
        records(tmp_path / "a.json")


def test_names_of_classes_in_parquet_are_labels_in_their_order(tmp_path: Path) -> None:
    names = ["world", "sports", "business", "science"]
    schema = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    tags = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}
    schema["info"]["features"]["ner_tags"] = tags
    table = pyarrow.table(
        {"text": ["a", "b"], "label": [2, 0], "tokens": [["x"], ["y"]], "ner_tags": [[1], [0]]}
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps(schema)})
    parquet.write_table(table, tmp_path / "a.parquet")
    reading = Reading()
    found = list(read_documents(tmp_path / "a.parquet", learns_from="labels", reading=reading))
    assert [d.answer for d in found] == ["business", "world"] and reading.class_names == tuple(names)
    settings = DataSettings(train=reading.files[0], validation=reading.files[0], deduplicate=False)
    bytes_alone = train_tokenizer([], "bytes")
    shards = prepare_shards(settings, bytes_alone, tmp_path / "out", learns_from="labels")
    assert shards.labels == tuple(names)  # logit i is class i
    found = list(read_documents(tmp_path / "a.parquet", learns_from="tags"))
    assert [(d.text, d.answer) for d in found] == [("x", "B-PER"), ("y", "O")]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ('{"info": null}', ("0", "1")),
        ("not JSON", ("0", "1")),
        ('{"info": {"features": [{"name": "label", "names": ["neg", "pos"]}]}}', ("neg", "pos")),
        ('{"info": {"features": ["label"]}}', ("0", "1")),
        ('{"info": {"features": {"label": {"feature": [1], "names": 2}}}}', ("0", "1")),
    ],
)
def test_metadata_of_another_form_is_ignored(metadata: str, names: Any, tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", "b"], "label": [0, 1]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
    found = read_documents(tmp_path / "a.parquet", learns_from="labels")
    assert tuple(document.answer for document in found) == names


def test_a_compressed_file_is_read_up_to_a_multiple_of_its_size(tmp_path: Path) -> None:
    """A gigabyte of one letter has a megabyte as gzip."""
    bomb, sound = tmp_path / "bomb.txt.gz", tmp_path / "sound.txt.gz"
    bomb.write_bytes(gzip.compress(b"a" * (150 << 20), 9))
    with pytest.raises(NotUsable, match=r"bomb.txt.gz has more than 200 times as many bytes"):
        read_text(bomb)
    text = "the same line again\n" * 100_000
    sound.write_bytes(gzip.compress(text.encode(), 9))
    assert read_text(sound) == text
