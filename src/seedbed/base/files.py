"""Files that are whole or not there: written aside, synced and renamed, with errors a user can act on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seedbed.base.errors import HardwareError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names lies on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    Errors: HardwareError for an OSError.
    """
    aside = path.with_name(path.name + ".partial")
    with disk_errors(path):
        try:
            aside.write_bytes(content)
            sync(aside)
            aside.replace(path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path`, the full disk above all, into a HardwareError of one line."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error.errno or 0) from error


def disk_error(path: Path, number: int) -> HardwareError:
    """Say that the operating system refused to write `path` with the error `number`, and what to do."""
    kept = "what was written before is intact"
    file = next((part for part in (path, *path.parents) if part.is_file()), None)
    if number in (errno.ENOTDIR, errno.EEXIST) and file is not None:
        return HardwareError(f"cannot write {path}: {file} is a file, not a folder; choose another name")
    if number == errno.EFBIG:
        return HardwareError(
            f"no space left to write {path}: {os.strerror(number)} for its disk or for `ulimit -f`; "
            f"{kept}: raise the limit or choose another disk, then run the same command again"
        )
    if number in NO_SPACE:
        folder = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(folder).free / 2**20
        return HardwareError(
            f"no space left to write {path}: {free:.1f} MiB free on its disk ({os.strerror(number)}); "
            f"{kept}: free some space, then run the same command again"
        )
    return HardwareError(
        f"cannot write {path}: {os.strerror(number)}; {kept}: choose a folder that can be written"
    )
