"""One reader for each form of file: JSON Lines, JSON, CSV and TSV, CoNLL, Parquet; it yields records.

A record comes with its origin for messages, such as `train.jsonl:7`.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import DataError, UsageError
from seedbed.data.files import byte_lines, not_encoded, read_text, suffix

Records = Iterator[tuple[str, Any]]
Reader = Callable[[], Records]
SQUAD = re.compile(r'\{\s*("version"\s*:\s*"[^"]*"\s*,\s*)?"data"\s*:\s*\[')
SPACE = re.compile(r"\s*")
LINE_END = re.compile(r"\r*\n|\r")
BACKSLASH = re.compile(r'(\\["\\])|\\')  # before a quote or a backslash, or any other
SAMPLE_LINES = 200  # of a table, that show how it is written
LONG_CELL = 20  # lines of a cell, from which on it is looked at whether they are rows
TABLES = (".csv", ".tsv", ".tab")
DELIMITERS = (",", "\t", ";", "|")
TAG = re.compile(r"O|[BIESLU]-\S+")  # of the entities in a file whose ending does not say that it has tags


def reader(file: Path, columns: Sequence[str] = (), fields: Sequence[str] = ()) -> Reader | None:
    """The reader of a file by its ending; None for a text.

    `columns` are those of a table without a header; `fields` are enough where a form can select them.
    """
    ending = suffix(file)
    if ending in (".jsonl", ".ndjson"):
        return lambda: _json_lines(file)
    if ending == ".json":
        return lambda: _json(file)
    if ending in TABLES:
        return lambda: _table(file, columns)
    if ending == ".parquet":
        return lambda: _parquet(file, fields)
    return None


def is_conll(file: Path, text: str) -> bool:
    """Whether a text is words with tags, one a line: by its ending, or by tags of entities in every line."""
    if suffix(file) in (".conll", ".iob", ".iob2", ".bio"):
        return True
    lines = [_cells(line) for line in LINE_END.split(text[:4096])[:-1] if line.strip()]
    words = [cells for cells in lines if cells[0] != "-DOCSTART-"]
    widths = {len(cells) for cells in words}
    return (
        len(words) > 4
        and len(widths) == 1
        and min(widths) > 1
        and all(TAG.fullmatch(cells[-1]) for cells in words)
    )


def conll(file: Path, text: str, *, needs_tags: bool = True) -> Records:
    """Sentences as `tokens` and `tags`: the first and the last column; blank lines are between sentences.

    Without `needs_tags` a file may have words alone. A line that begins with `# ` is a comment where a
    sentence begins, or with other columns than the rows.
    """
    tokens: list[str] = []
    tags: list[str] = []
    first = width = 0
    for number, line in enumerate([*LINE_END.split(text), ""], 1):
        cells = _cells(line)
        if line.startswith("# ") and not (tokens and len(cells) == width):
            continue
        if not any(cells) or cells[0] == "-DOCSTART-":
            if tokens:
                yield f"{file}:{first}", {"tokens": tokens, "tags": tags} if width > 1 else {"tokens": tokens}
            tokens, tags = [], []
        elif (len(cells) == 1 and (needs_tags or width > 1)) or not (cells[0] and cells[-1]):
            raise DataError(
                f"{file}:{number} is {line.strip()[:40]!r}, not a word and its tag; write both, with a tab "
                "between them"
            )
        elif width and len(cells) != width:
            raise DataError(
                f"{file}:{number} has {len(cells)} columns, the rows before it have {width}: {line[:40]!r}; "
                "write a tab between the columns, or no blank in a word"
            )
        else:
            first, width = (first if tokens else number), width or len(cells)
            tokens.append(cells[0])
            tags.append(cells[-1])


def _cells(line: str) -> list[str]:
    """The columns of a line: between tabs, or else blanks; a no-break space is a character of a word."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _json_lines(file: Path) -> Records:
    for number, line in enumerate(byte_lines(file), 1):
        if not line.isspace():
            yield f"{file}:{number}", _parse(line.rstrip(b"\r\n"), file, f"{file}:{number}")


def _json(file: Path) -> Records:
    """The records of a list, parsed one by one; a file whose first line is a record has JSON Lines."""
    first = next((line for line in byte_lines(file) if not line.isspace()), b"").strip()
    is_line = first.startswith(b"{") and first.endswith(b"}")
    if is_line and not SQUAD.match(first[:200].decode(errors="ignore")):
        yield from _json_lines(file)
        return
    text = read_text(file)
    at = _behind(text, 0)
    if SQUAD.match(text, at):
        yield from _squad(file, text)
        return
    is_list = text.startswith("[", at)
    decoder, number = json.JSONDecoder(), 0
    at = _behind(text, at + 1) if is_list else at
    try:
        while not (is_list and not number and text.startswith("]", at)):
            number += 1
            record, at = decoder.raw_decode(text, at)
            at = _behind(text, at)
            yield f"{file} record {number}", record
            if not is_list or text.startswith("]", at):
                break
            if not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _behind(text, at + 1)
        if rest := text[at + is_list :].strip():
            raise json.JSONDecodeError("Extra data", text, text.rindex(rest))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON ({error}); correct or remove it") from error


def _squad(file: Path, text: str) -> Records:
    """The questions of a SQuAD file (Rajpurkar et al. 1606.05250), each with its paragraph as `context`."""
    number = 0
    for article in _parse(text.encode(), file, str(file))["data"]:
        for paragraph in article.get("paragraphs", [article]) if isinstance(article, dict) else [article]:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                raise DataError(f"{file} has `data` without `paragraphs` that have `qas`; give SQuAD's form")
            for question in paragraph["qas"]:
                number += 1
                if not isinstance(question, dict):
                    raise DataError(f"{file} question {number} is not an object; give SQuAD's form")
                yield f"{file} question {number}", {"context": paragraph.get("context", ""), **question}


def _behind(text: str, at: int) -> int:
    """The place after white space."""
    found = SPACE.match(text, at)
    assert found is not None
    return found.end()


def _parse(raw: bytes, file: Path, origin: str) -> Any:
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        raise not_encoded(file, origin, error) from error
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{origin} is not JSON ({reason}); correct or remove it") from error


class Dialect(NamedTuple):
    """How a table is written."""

    delimiter: str
    is_quoted: bool
    has_escapes: bool = False  # \" for a quote in a quoted cell, and \\ for a backslash

    def rows(self, lines: Iterator[str], *, strict: bool = False) -> Any:
        """The rows of lines, with `line_num`; `strict`: csv.Error for a letter behind a quoted cell."""
        csv.field_size_limit(sys.maxsize)  # of the module; a text may be long
        return csv.reader(
            (BACKSLASH.sub(_escaped, line) for line in lines) if self.has_escapes else lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE,
            escapechar="\\" if self.has_escapes else None,
            strict=strict,
        )


def _escaped(found: re.Match[str]) -> str:
    """A backslash that escapes nothing, written as one that is a character."""
    return found[1] or r"\\"


def dialect_of(lines: Sequence[str], num_columns: int | None) -> Dialect:
    """The dialect that gives the most rows the columns of the header; without escapes (RFC 4180) if equal.

    `csv.Sniffer` looks at all text alike, and takes the commas of long texts for delimiters.
    """

    def score(dialect: Dialect) -> tuple[float, int]:
        widths = list(_widths(dialect.rows(iter(lines), strict=True)))
        width = num_columns or next(filter(None, widths), 0)
        return (widths.count(width) / len(widths) if width > 1 else 0.0), width

    escapes = (False, True) if any('\\"' in line for line in lines) else (False,)
    found = max((Dialect(each, True, escape) for escape in escapes for each in DELIMITERS), key=score)
    plain = Dialect(found.delimiter, False)
    if (
        score(found)[0] < 1
        and score(plain)[0] == 1
        and any(
            c[:1] == '"' and (len(c) == 1 or c[-1] != '"') for row in plain.rows(iter(lines)) for c in row
        )
    ):
        return plain  # a quote at the beginning of a cell is a letter
    return found


def _widths(rows: Any) -> Iterator[int]:
    """The number of columns of each row that is not blank; 0 for one with wrong quotes.

    A last row that only the end of the sample cuts has none: it has no more lines than the longest of others.
    """
    most = before = 0
    while True:
        try:
            if width := len(next(rows)):
                yield width
            most = max(most, rows.line_num - before)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" not in str(error) or not 1 < most >= rows.line_num - before:
                yield 0
        before = rows.line_num


def _table(file: Path, columns: Sequence[str]) -> Records:
    """The rows of CSV or TSV by the names of their columns, in a header or in `data.columns`."""
    lines = _decoded_lines(file)
    sample = list(islice(lines, SAMPLE_LINES))
    if not any(line.strip() for line in sample):
        return
    dialect = dialect_of(sample, len(columns) or None)
    rows = dialect.rows(chain(sample, lines))
    names: list[str] = list(columns)
    try:
        before = 0
        for row in rows:
            origin, num_lines = f"{file}:{before + 1}", rows.line_num - before
            before = rows.line_num
            row = [cell.strip() for cell in row] if not names else row
            if not any(map(str.strip, row)) or row == names:
                continue
            if not names:
                names = row
                if repeated := next((name for name in names if names.count(name) > 1), None):
                    raise DataError(f"{origin} has two columns named {repeated!r}; give them other names")
                continue
            if len(row) != len(names):
                raise DataError(
                    f"{origin} has {len(row)} columns, expected are {len(names)} ({_short(names)}); correct "
                    "the line: a text with the delimiter needs quotes"
                )
            if num_lines > LONG_CELL and _has_rows(row, dialect.delimiter):
                raise DataError(
                    f"{origin} has a quoted cell of {num_lines} lines, each of which looks like a row: a "
                    'quote is missing, or begins a text; correct it (a quote inside a quoted cell is "")'
                )
            yield origin, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num} is not readable as a table: {error}; correct it") from error


def _has_rows(row: Sequence[str], delimiter: str) -> bool:
    """Whether every line inside a cell has the delimiters of a row."""
    inner = [line for cell in row for line in cell.splitlines()[1:-1] if line.strip()]
    return len(inner) > LONG_CELL // 2 and all(line.count(delimiter) == len(row) - 1 for line in inner)


def _short(names: Sequence[str]) -> str:
    return ", ".join(name[:20] for name in names[:10])


def _decoded_lines(file: Path) -> Iterator[str]:
    for number, line in enumerate(byte_lines(file), 1):
        try:
            text = line.decode()
            # A carriage return alone ends a line too.
            yield from io.StringIO(text, newline="") if "\r" in text.rstrip("\r\n") else (text,)
        except UnicodeDecodeError as error:
            raise not_encoded(file, f"{file}:{number}", error) from error


def _parquet(file: Path, fields: Sequence[str]) -> Records:
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"{file} is a Parquet file: install the extra `data`: pip install 'seedbed[data]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            columns = list(fields) if fields and {*fields} <= {*table.schema_arrow.names} else None
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file} row {number}", record
    except (ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} is not a readable Parquet file: {error}; write it again") from error


def class_names(file: Path, field: str) -> tuple[str, ...]:
    """The names of the classes 0, 1, .. of a field of a Parquet file that the library `datasets` wrote."""
    if suffix(file) != ".parquet":
        return ()
    metadata = importlib.import_module("pyarrow.parquet").read_schema(file).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        if isinstance(features, list):
            features = {feature["name"]: feature for feature in features}
        names = features[field].get("feature", features[field])["names"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ()  # no metadata, or of another form
    return tuple(map(str, names)) if isinstance(names, list) else ()
