"""Runs a program that nobody has read, an answer with its tests, in a fresh locked process (Linux).

`locked_child` takes the lock before the program's first line:

- An own user. Root becomes a user id that no other process has; any other user enters a user namespace, in
  which no id is mapped, and gives up its capabilities.
- System calls (seccomp): no socket, no second process, no other program, no signal to another process and no
  access to its memory, no namespaces, mounts, shared memory or io_uring, no change of a file's mode, owner or
  attributes. Namespaces without any network are a second bound, where the kernel allows them.
- Files (Landlock): it reads Python and the system's libraries, and writes its temporary folder, which is
  deleted. Where the kernel has no Landlock, permissions remain the bound of root's programs: they read what
  all may read and write where all may write, such as /tmp. Other users are refused: they own their files.
- Limits of time, memory, threads, open files, a file's size, and of the folder's content, which is measured
  every 50 ms. Output is discarded, input is empty, no variable of the environment is inherited. The process
  ends with its parent.

The lock protects the machine, not the score: a program that searches the memory of its process for the word
that means "passed" can forge a pass. It can also learn that a file exists, its attributes and its size; use
the processor and the disk until its time limit (a file that is deleted but still mapped is not counted); and
attack the kernel through the calls that remain, against which only a virtual machine helps.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from seedbed.base.errors import UsageError

START_SECONDS = 30.0  # until the lock is taken, 0.05 s on an idle machine; not a part of the time limit
LOOK_SECONDS = 0.05
MAX_FOLDER_BYTES, MAX_FOLDER_ENTRIES = 64 << 20, 1000
MIN_MEMORY_BYTES = 64 << 20  # Python and its imports take about 20
MAX_REASON, MAX_RESULT_BYTES = 200, 8192
CHILD = Path(__file__).with_name("locked_child.py")
PREFIX = "seedbed-answer-"  # of the temporary folders
# The tenth below is of user ids that nothing assigns by default: containers end at 0x6FFFFFFF.
MAX_USER_ID = 0x7FFF0000
NUM_TRIES = 10  # in a container of 65,536 user ids, two calls may choose the same


class Outcome(NamedTuple):
    """Whether a program ran to its end without an exception, and one line of the reason where it did not."""

    passed: bool
    reason: str


def require_lock() -> None:
    """Run an empty program, so that a system without the lock is reported before anything else is done.

    Errors: UsageError with the layer that is missing.
    """
    outcome = run_locked("", seconds=START_SECONDS)
    if not outcome.passed:
        raise UsageError(f"an empty program fails in a locked process: {outcome.reason}")


def run_locked(program: str, *, seconds: float = 10.0, memory_bytes: int = 512 << 20) -> Outcome:
    """Run the text of a program in a fresh locked process.

    It passes if it runs to its end without any exception; `sys.exit(0)` is one. Its `__name__` is "answer",
    so a block for "__main__" does not run, as in HumanEval's own evaluation. Memory is that of its addresses.
    Errors: UsageError where this system cannot lock a process down, or a limit is not allowed.
    """
    if not 0 < seconds < math.inf:
        raise UsageError(f"a time limit of {seconds} s is not allowed: give seconds above 0")
    if memory_bytes < MIN_MEMORY_BYTES:
        raise UsageError(
            f"memory_bytes={memory_bytes} is too little for Python: give {MIN_MEMORY_BYTES} or more"
        )
    if sys.platform != "linux":
        raise UsageError(
            f"running answers needs Linux, not {sys.platform}: use a container or a virtual machine"
        )
    word = secrets.token_hex(16).encode()
    result, reason = _run(program, word, seconds, memory_bytes)
    state, _, rest = result.partition(b"\n")
    if state != b"locked":
        why = (
            result.decode("utf-8", "replace").removeprefix("refused ") or reason or "it ended before the lock"
        )
        raise UsageError(
            f"a process that runs answers cannot be locked down here: {_one_line(why)}; "
            "use Linux 5.13 or newer, as root or with user namespaces, or a virtual machine"
        )
    if rest == word and not reason:
        return Outcome(True, "")
    said = rest[1:].decode("utf-8", "replace") if rest.startswith(b"!") else ""
    if said.startswith("MemoryError"):
        said = f"memory limit of {memory_bytes >> 20} MiB"
    return Outcome(False, _one_line(reason or said or "ended by os._exit"))


def _run(program: str, word: bytes, seconds: float, memory_bytes: int) -> tuple[bytes, str]:
    """Start, wait for and end one process -> what it wrote, and why it was ended.

    The reason is "" for a process that ended by itself, not by a signal.
    """
    folder, process = Path(tempfile.mkdtemp(prefix=PREFIX)), None
    # Ctrl-C between the start and the assignment would leave a process that nobody ends.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        settings = (_own(folder), os.getpid(), memory_bytes, 2 * math.ceil(seconds) + 1)
        with tempfile.TemporaryFile() as task:
            task.write(b" ".join([word, *(str(setting).encode() for setting in settings)]) + b"\n")
            task.write(program.encode("utf-8", "surrogatepass"))
            task.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(CHILD)],
                stdin=task, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder,
                start_new_session=True,
                env={"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
            )  # fmt: skip
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            result, reason = _wait(process, folder, seconds)
    finally:
        if process is not None:
            process.kill()  # the only process of its user: it could start no other
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        _delete(folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if process.returncode < 0:
        reason = reason or f"ended by signal {-process.returncode}, {signal.strsignal(-process.returncode)}"
    return result, reason


def _own(folder: Path) -> int:
    """Give the folder to an unused user id -> the id, or 0 where this process may not."""
    if os.geteuid():
        return 0
    rows = [
        [int(number) for number in row.split()] for row in Path("/proc/self/uid_map").read_text().splitlines()
    ]
    first, _, num_ids = max(rows)
    end = min(first + num_ids - 2, MAX_USER_ID)  # the last but one of a container is "nobody"
    start = max(first + 1, end - end // 10)
    if start >= end:
        return 0
    for _ in range(NUM_TRIES):
        uid = start + secrets.randbelow(end - start)
        try:
            os.chown(folder, uid, uid)
        except OSError:
            return 0
        if not _is_used(uid, folder):
            return uid
    raise UsageError(f"no user id from {start} to {end} is unused: run fewer answers in parallel")


def _is_used(uid: int, folder: Path) -> bool:
    """Whether a process or the folder of another locked process has a user id."""
    others = [f"/proc/{name}" for name in os.listdir("/proc") if name.isdecimal()]
    others += [str(other) for other in folder.parent.glob(PREFIX + "*") if other != folder]
    for other in others:
        with suppress(OSError):  # it has ended
            if os.stat(other).st_uid == uid:
                return True
    return False


def _wait(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> tuple[bytes, str]:
    """Wait until the process ends or exceeds a limit -> what it wrote, and the limit or ""."""
    assert process.stdout is not None
    result, limit, is_open = b"", f"no lock after {START_SECONDS:g} s", True
    deadline = time.monotonic() + START_SECONDS
    ready = select.poll()
    ready.register(process.stdout, select.POLLIN)
    while (left_seconds := deadline - time.monotonic()) > 0:
        pause_seconds = min(left_seconds, LOOK_SECONDS)
        if not is_open:  # it has ended, or has closed its output
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause_seconds)
                return result, ""
        elif ready.poll(1000 * pause_seconds):
            is_locked = bool(result)
            chunk = os.read(process.stdout.fileno(), MAX_RESULT_BYTES)
            result, is_open = result + chunk, bool(chunk)
            if not is_locked:
                deadline, limit = time.monotonic() + seconds, f"time limit of {seconds:g} s"
        if len(result) > MAX_RESULT_BYTES:
            return result, "wrote to the pipe of the result"
        if _is_full(folder):
            return result, f"limit of {MAX_FOLDER_BYTES >> 20} MiB and {MAX_FOLDER_ENTRIES:,} files"
    return result, limit


def _is_full(folder: Path) -> bool:
    """Whether the content of a folder exceeds its limits; it ends at the first that does."""
    waiting, size_bytes, num_entries = [str(folder)], 0, 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    num_entries += 1
                    size_bytes += 512 * entry.stat(follow_symlinks=False).st_blocks
                    if size_bytes > MAX_FOLDER_BYTES or num_entries > MAX_FOLDER_ENTRIES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue  # deleted in the meantime
        except OSError:
            return True  # so deep that its path is too long, or closed to its owner
    return False


def _delete(folder: Path) -> None:
    """Delete a folder however deep it is, which `shutil.rmtree` cannot: what is below is moved up first."""
    fresh = (f"{secrets.token_hex(8)}{number}" for number in count())
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while names := os.listdir(top):
            for name in names:
                if not _is_opened_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    for below in os.listdir(inner):
                        _is_opened_folder(below, inner)
                        os.rename(below, next(fresh), src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _is_opened_folder(name: str, parent: int) -> bool:
    """Whether a name is that of a folder, not of a link to one; its owner can then read and move it."""
    if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
        return False
    os.chmod(name, 0o700, dir_fd=parent)
    return True


def _one_line(text: str) -> str:
    """The text, which an answer controls, in one short line without characters that a terminal obeys."""
    parts = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:MAX_REASON])
    line = "".join(parts).strip().removesuffix(":")
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 3] + "..."
