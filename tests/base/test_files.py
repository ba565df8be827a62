"""Files are whole or absent, also on a full disk."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.base.errors import HardwareError
from seedbed.base.files import disk_error, write_file

TRY_TO_WRITE = """
import resource, sys
from pathlib import Path
from seedbed.base.errors import HardwareError
from seedbed.base.files import write_file

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), b"x" * 2000)
except HardwareError as error:
    print(error)
"""


def test_a_file_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_write_leaves_the_earlier_file_and_prints_one_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_file(path, b"old")
    done = subprocess.run(
        [sys.executable, "-c", TRY_TO_WRITE, path], capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"no space left to write {path}")
    assert "`ulimit -f`" in line and line.endswith("then run the same command again")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_says_how_much_is_free(tmp_path: Path) -> None:
    message = str(disk_error(tmp_path / "plan.json", errno.ENOSPC))
    assert "MiB free" in message and message.endswith("free some space, then run the same command again")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"cannot write .*plan\.json: No such file or directory"):
        write_file(tmp_path / "missing" / "plan.json", b"new")
