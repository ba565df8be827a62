"""The files of a source, and their bytes as text: UTF-8, or the encoding of a byte order mark; gzip."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from seedbed.base.arguments import path_of
from seedbed.base.errors import DataError, nearest
from seedbed.data.builtin import BUILTIN, builtin_files

COMPRESSED = ".gz"
# Bytes of a compressed file that are read: no text is so repetitive, and gzip packs zeros a thousandfold.
MOST_TIMES, ALWAYS_BYTES = 200, 64 << 20
HEAD_BYTES = 8192  # of a file, that show what it is
# The encoding that a byte order mark names; UTF-32's begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class NotUsable(DataError):
    """A file that does not have what is read; in a folder it is skipped, and listed with the reason."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def source_files(
    source: str | Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[Path]:
    """The files of a source in reading order; DataError if there is none.

    Of a folder: all that are not hidden, that one of the patterns `include` matches (if there are any), and
    none of `exclude`. A pattern is that of a path in the folder, of a folder in it, or of a name.
    """
    if str(source).startswith("builtin:"):
        return builtin_files(builtin_name(source))
    path = path_of("data", source)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _folder_files(path, include, exclude)
    if path.exists():
        raise DataError(f"{path} is neither a file nor a folder; give one of them")
    if not path.parent.is_dir():
        raise DataError(f"{path} does not exist, nor does its folder {path.parent}; give a file that exists")
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], cutoff=0.3)
    hint = (
        f"similar names: {', '.join(near)}" if near else f"give a file that exists, or {' or '.join(BUILTIN)}"
    )
    raise DataError(f"{path} does not exist; {hint}")


def _folder_files(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    try:
        inside = {file: file.relative_to(folder) for file in folder.rglob("*")}
        files = [f for f, p in inside.items() if not any(part[0] == "." for part in p.parts) and f.is_file()]
    except OSError as error:
        raise DataError(
            f"{error.filename} in the folder {folder} cannot be read: {error.strerror}; change its rights, "
            "or give another folder"
        ) from None
    if not files:
        raise DataError(f"the folder {folder} has no file; give a folder with text or files of records")
    kept = [
        file
        for file in files
        if (not include or _matches(inside[file], include)) and not _matches(inside[file], exclude)
    ]
    if not kept:
        raise DataError(
            f"data.include and data.exclude leave none of the {len(files)} files of {folder}; give patterns "
            f"such as '*.txt' that match its files: {min(inside[f] for f in files).as_posix()}"
        )
    return sorted(kept, key=lambda file: inside[file].as_posix())


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    places = [path.name, *(p.as_posix() for p in (path, *path.parents[:-1]))]
    return any(fnmatchcase(place, pattern.rstrip("/")) for pattern in patterns for place in places)


def builtin_name(source: str | Path) -> str:
    """The name of a built-in corpus; DataError if there is no such corpus."""
    if str(source) not in BUILTIN:
        raise DataError(f"no corpus is named {str(source)!r}; {nearest(str(source), BUILTIN)}")
    return str(source)


def suffix(file: Path) -> str:
    """The ending of a file's name in small letters, without that of a compressed file."""
    return Path(file.name.lower().removesuffix(COMPRESSED)).suffix


@contextmanager
def open_bytes(file: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, decompressed up to a multiple of its size.

    Errors: NotUsable beyond that.
    """
    if file.suffix.lower() != COMPRESSED:
        with file.open("rb") as plain:
            yield plain
        return
    with gzip.open(file) as packed:
        yield io.BufferedReader(_Bounded(packed, file, MOST_TIMES * file.stat().st_size + ALWAYS_BYTES))


class _Bounded(io.RawIOBase):
    """The bytes of a compressed file, which ends with an error beyond a number of them."""

    def __init__(self, packed: gzip.GzipFile, file: Path, most_bytes: int) -> None:
        self._packed, self._file, self._most_bytes = packed, file, most_bytes

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, by reading."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place in the decompressed bytes."""
        return self._packed.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        count = self._packed.readinto(buffer)
        if self._packed.tell() > self._most_bytes:
            raise NotUsable(
                f"{self._file} has more than {MOST_TIMES} times as many bytes as its compressed form, which "
                "no text has; decompress it first if it is sound",
                "too many bytes for its compressed size",
            )
        return count


def read_text(file: Path) -> str:
    """The text of a file; NotUsable if it is not text."""
    with open_bytes(file) as stream:
        head = stream.read(HEAD_BYTES)
        encoding = _encoding(head, file)
        raw = head + stream.read()
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise not_encoded(file, str(file), error) from error


def head_text(file: Path) -> str:
    """The beginning of a file's text; NotUsable if it is not text by its first bytes."""
    with open_bytes(file) as stream:
        head = stream.read(HEAD_BYTES)
    return head.decode(_encoding(head, file), errors="ignore")


def byte_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file in UTF-8, with their ends; NotUsable if it is not text by its first bytes."""
    with open_bytes(file) as stream:
        encoding = _encoding(stream.read(HEAD_BYTES), file)
        if encoding.startswith("utf-8"):
            stream.seek(0 if encoding == "utf-8" else len(codecs.BOM_UTF8))
            yield from stream
            return
    for line in io.StringIO(read_text(file), newline=""):
        yield line.encode("utf-8", errors="surrogatepass")


def not_encoded(file: Path, origin: str, error: UnicodeDecodeError) -> NotUsable:
    """The error for bytes that are not of the encoding; `origin` is the file, or a line of it."""
    name = error.encoding.upper().removesuffix("-SIG")
    place = f"byte 0x{error.object[error.start]:02X} at offset {error.start}"
    return NotUsable(f"{origin} is not {name}: {place}; save it as UTF-8, or leave it out", f"not {name}")


def _encoding(head: bytes, file: Path) -> str:
    """The encoding of a file that begins with these bytes; NotUsable if it is not text."""
    found = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    what = "a PDF" if head.startswith(b"%PDF-") else "binary" if b"\0" in head else ""
    if what and (found == "utf-8" or what == "a PDF"):
        raise NotUsable(f"{file} is {what}, not text; save its text as UTF-8, or leave it out", what)
    return found


def unreadable(file: Path, error: Exception) -> DataError:
    """The error for a file that the system or gzip cannot read."""
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{file} cannot be read: {reason}; check that it is complete and that you may read it")
