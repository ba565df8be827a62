"""A locked process runs an answer with its tests; a hostile one fails, ends in time, and leaves nothing.

Every target that a hostile program names is a decoy of this file.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from seedbed.base.errors import UsageError
from seedbed.evaluation import locked_child, locked_process
from seedbed.evaluation.locked_process import Outcome, require_lock, run_locked

SECRET = "decoy-5f2b"
ANSWER = "def add(a, b):\n    return a + b\n"
CLIB = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
REFUSED, TIME, ERROR = "PermissionError", "time limit of 0.5 s", "Error: [Errno "


def has_landlock() -> bool:
    try:
        return locked_child.call("landlock_create_ruleset", 0, 0, 1) > 0
    except OSError:
        return False


class Decoys(NamedTuple):
    """Files that all users may read and write; without Landlock, in a folder that is closed to them."""

    folder: Path
    server: socket.socket

    def assert_untouched(self) -> None:
        assert (self.folder / "secret").read_text() == SECRET
        assert (self.folder / "secret").stat().st_mode & 0o777 == 0o666
        assert sorted(path.name for path in self.folder.iterdir()) == ["open", "secret"]
        assert not list((self.folder / "open").iterdir())
        with pytest.raises(BlockingIOError):
            self.server.accept()


@pytest.fixture
def decoys() -> Iterator[Decoys]:
    with tempfile.TemporaryDirectory(prefix="seedbed-decoys-") as name, socket.socket() as server:
        folder = Path(name)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o666)
        (folder / "open").mkdir()
        (folder / "open").chmod(0o777)
        folder.chmod(0o777 if has_landlock() else 0o700)
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield Decoys(folder, server)


def processes() -> dict[int, tuple[int, int]]:
    """Every process: its parent and its user."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                lines = (folder / "status").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            rows = dict(line.split(":", 1) for line in lines)
            found[int(folder.name)] = (int(rows["PPid"]), int(rows["Uid"].split()[0]))
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`run_locked`, with a check of the time, and that no process and no folder remains."""
    made: list[tuple[int, Path]] = []
    own = locked_process._own

    def recorded(folder: Path) -> int:
        made.append((own(folder), folder))
        return made[-1][0]

    def checked(program: str, *, seconds: float = 5.0, memory_bytes: int = 256 << 20) -> Outcome:
        before = processes()
        started = time.monotonic()
        outcome = run_locked(program, seconds=seconds, memory_bytes=memory_bytes)
        assert time.monotonic() - started < seconds + 2
        (uid, folder), new = made.pop(), processes()
        assert not folder.exists()
        assert not [pid for pid, (parent, _) in new.items() if parent == os.getpid() and pid not in before]
        assert not uid or uid not in {user for _, user in new.values()}
        assert outcome.reason.isprintable() and len(outcome.reason) <= 200
        return outcome

    monkeypatch.setattr(locked_process, "_own", recorded)
    return checked


PASSING = {
    "an answer": ANSWER + "assert add(1, 2) == 3",
    "imports": "import re, json, random, decimal, hashlib, statistics, typing, threading, zlib, difflib",
    "a dataclass": "import dataclasses\n@dataclasses.dataclass\nclass A:\n x: 'int' = 1\nassert A() == A(1)",
    "a codec": "assert '\u20ac'.encode('cp1252') == b'\\x80'",
    "files": "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'a')\nopen('b', 'w').close()",
    "a thread": "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
    "a block of main": "if __name__ == '__main__':\n    raise ValueError",
    "a signal to itself": "import signal\nsignal.raise_signal(signal.SIGCHLD)",
    # harmless, as nothing of it remains
    "much output": "import sys\nfor _ in range(50):\n print('x' * 10**6)\n sys.stderr.write('x' * 10**6)",
    "a thread that stays": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()",
    "a loop at exit": "import atexit, time\natexit.register(time.sleep, 99)",
}  # fmt: skip

FAILING = {
    "wrong": (ANSWER + "assert add(1, 2) == 4", "AssertionError"),
    "syntax": ("def f(:", "SyntaxError: invalid syntax (<answer>, line 1)"),
    "zero byte": ("\0", "null bytes"),
    "surrogate": ("'\ud800'", "UnicodeEncodeError"),
    "no input": ("input()", "EOFError"),
    "sys.exit": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "os._exit": ("import os\nos._exit(0)", "ended by os._exit"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    # time
    "loop": ("while True: pass", TIME),
    "sleep": ("import time\nwhile True: time.sleep(9)", TIME),
    "stopped": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", TIME),
    "swallow": ("while True:\n try:\n  while True: pass\n except BaseException: pass", TIME),
    "ignored signals": (
        "import signal\nfor s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        " try: signal.signal(s, signal.SIG_IGN)\n except OSError: pass\nwhile True: pass", TIME),
    "loop in str": ("class E(Exception):\n def __str__(self):\n  while True: pass\nraise E", TIME),
    "closed descriptors": ("import os\nos.closerange(0, 100)\nwhile True: pass", TIME),
    "closed, then the end": ("import os\nos.closerange(0, 100)", "ended by os._exit"),
    # processes
    "fork": ("import os\nos.fork()", REFUSED),
    "fork bomb": ("import os\nwhile True:\n try: os.fork()\n except OSError: pass", TIME),
    "subprocess": ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])", REFUSED),
    "posix_spawn": ("import os, sys\nos.posix_spawn(sys.executable, ['python'], {})", REFUSED),
    "exec": ("import os, sys\nos.execv(sys.executable, ['python'])", REFUSED),
    "system": ("import os\nassert os.system('exit 0') == 0", "AssertionError"),
    "multiprocessing": ("import multiprocessing as m\nm.get_context('fork').Process().start()", REFUSED),
    "threads": ("import threading as t, time\nt.stack_size(32768)\ntry:\n"
                " while True: t.Thread(target=time.sleep, args=(9,)).start()\n"
                "except RuntimeError: raise ValueError(t.active_count())", "ValueError: 16"),
    "kill the parent": ("import os\nos.kill(os.getppid(), 9)", REFUSED),
    "kill all": ("import os\nassert os.getuid() > 0\nos.kill(-1, 9)", REFUSED),
    "kill the group": ("import os\nos.killpg(0, 9)", REFUSED),
    "signal through a descriptor": ("import os, signal\nsignal.pidfd_send_signal(0, 9)", ERROR),
    "signal at input": ("import fcntl, os\nfcntl.fcntl(os.pipe()[0], 8, os.getppid())", REFUSED),
    "limits of the parent": ("import os, resource\nresource.prlimit(os.getppid(), 4, (0, 0))", REFUSED),
    "outlive the parent": (CLIB + "assert libc.prctl(1, 0, 0, 0, 0) == 0", "AssertionError"),
    "ptrace": (CLIB + "assert libc.ptrace(16, os.getppid(), 0, 0) == 0", "AssertionError"),
    # memory
    "bytes": ("x = bytes(1 << 30)", "memory limit of 256 MiB"),
    "list": ("x = [0]\nwhile True: x += x", "memory limit of 256 MiB"),
    "endless list": ("x = []\nwhile True: x.append(bytes(10**5))", "memory limit of 256 MiB"),
    "memfd": ("import os\nos.memfd_create('a')", REFUSED),
    "shared memory": (CLIB + "assert libc.shmget(0, 4096, 0o1600) >= 0", "AssertionError"),
    "higher limit": ("import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", "ValueError"),
    "recursion": ("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 1 + f(n + 1)\nf(0)", ""),
    "recursion in C": ("import sys\nsys.setrecursionlimit(10**6)\ndef f(x): sorted([0], key=f)\nf(0)", ""),
    "segfault": ("import ctypes\nctypes.string_at(0)", "ended by signal 11"),
    "abort": ("import os\nos.abort()", "ended by signal 6, Aborted"),
    "real-time signal": ("import os\nos.kill(os.getpid(), 40)", "ended by signal 40"),
    # files
    "read": ("raise ValueError(open('DECOYS/secret').read())", REFUSED),
    "list a folder": ("import os\nos.listdir('DECOYS')", REFUSED),
    "write": ("open('DECOYS/open/a', 'w')", REFUSED),
    "overwrite": ("open('DECOYS/secret', 'w')", REFUSED),
    "truncate": ("import os\nos.truncate('DECOYS/secret', 0)", REFUSED),
    "delete": ("import os\nos.unlink('DECOYS/secret')", REFUSED),
    "delete a folder": ("import os\nos.rmdir('DECOYS/open')", REFUSED),
    "make a folder": ("import os\nos.mkdir('DECOYS/open/a')", REFUSED),
    "rename": ("import os\nos.rename('DECOYS/secret', 'a')", ERROR),
    "rename into": ("import os\nopen('a', 'w')\nos.rename('a', 'DECOYS/secret')", ERROR),
    "symbolic link": ("import os\nos.symlink('DECOYS/secret', 'a')\nopen('a', 'w')", REFUSED),
    "link to a folder": ("import os\nos.symlink('DECOYS/open', 'a')\nopen('a/b', 'w')", REFUSED),
    "hard link": ("import os\nos.link('DECOYS/secret', 'a')", REFUSED),
    "upwards": ("open('../' * 9 + 'DECOYS/secret')", REFUSED),
    "chmod": ("import os\nos.chmod('DECOYS/secret', 0)", REFUSED),
    "utime": ("import os\nos.utime('DECOYS/secret')", REFUSED),
    "setuid": ("import os\nos.setuid(0)", ERROR),
    "a user namespace": (CLIB + "assert libc.unshare(0x10000000) == 0", "AssertionError"),
    "mount": (CLIB + "assert libc.mount(0, b'.', b'tmpfs', 0, 0) == 0", "AssertionError"),
    "big file": ("with open('a', 'wb') as f:\n while True: f.write(bytes(1 << 20))", "File too large"),
    "big files": ("n = 0\nwhile True:\n n += 1\n with open(str(n), 'wb') as f: f.write(bytes(8 << 20))",
                  "limit of 64 MiB"),
    "many files": ("n = 0\nwhile True:\n n += 1\n open(str(n), 'w').close()", "and 1,000 files"),
    "deep folders": ("import os\nwhile True:\n os.mkdir('d' * 99)\n os.chdir('d' * 99)", "limit of 64 MiB"),
    "open files": ("x = []\nwhile True: x.append(open('a', 'w'))", "Too many open files"),
    "closed folders": ("import os\nfor a in ('a', 'a/b', 'c'): os.mkdir(a, 0o700 * (a == 'a'))\n1/0", ""),
    # the network
    "connect": ("import socket\nsocket.create_connection(('127.0.0.1', PORT))", REFUSED),
    "datagram": ("import socket as s\ns.socket(type=s.SOCK_DGRAM).sendto(b'', ('127.0.0.1', PORT))", REFUSED),
    "socket in C": (CLIB + "assert libc.socket(2, 1, 0) >= 0", "AssertionError"),
    "io_uring": (CLIB + "assert libc.syscall(425, 1, bytes(120)) >= 0", "AssertionError"),
    # the result
    "long message": ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
    "control characters": ("raise ValueError('\\x1b[2J\\r\\n\\u202e\\ud800 \u00fc')",
                           r"ValueError: \x1b[2J\r\n\u202e\ud800 " + "\u00fc"),
    "a name": ("raise type('\\x1b\\n', (Exception,), {})", r"\x1b\n"),
    "a long name": ("raise type('x' * 10**6, (Exception,), {})", "xxx"),
    "exit in str": ("import os\nclass E(Exception):\n def __str__(self): os._exit(0)\nraise E", "os._exit"),
    "error in str": ("class E(Exception):\n def __str__(self): raise SystemExit\nraise E", "E"),
    "write a pass": ("import os\nfor n in range(3, 9):\n try: os.write(n, b'a')\n except OSError: pass", ""),
    "fill the result": ("import os\nwhile True:\n for n in range(3, 9):\n  try: os.write(n, bytes(4096))\n"
                        "  except OSError: pass", "wrote to the pipe of the result"),
}  # fmt: skip


@pytest.mark.parametrize("program", PASSING.values(), ids=PASSING)
def test_a_program_that_ends_passes(run: Callable[..., Outcome], program: str) -> None:
    assert run(program) == (True, "")


@pytest.mark.parametrize(("program", "reason"), FAILING.values(), ids=FAILING)
def test_any_other_fails_in_time_and_harms_nothing(
    run: Callable[..., Outcome], decoys: Decoys, program: str, reason: str
) -> None:
    program = program.replace("'../' * 9 + 'DECOYS", f"'../' * 9 + '{str(decoys.folder)[1:]}")
    program = program.replace("DECOYS", str(decoys.folder)).replace(
        "PORT", str(decoys.server.getsockname()[1])
    )
    outcome = run(program, seconds=0.5 if reason == TIME else 10.0)
    assert not outcome.passed and reason in outcome.reason
    assert SECRET not in outcome.reason
    decoys.assert_untouched()


@pytest.mark.parametrize("source", ["dict(os.environ)", "open('/proc/self/environ').read()"])
def test_the_environment_is_not_inherited(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("A", SECRET)
    outcome = run(f"import os\nassert {SECRET!r} not in str({source})\nraise ValueError('none')")
    assert outcome.reason == "ValueError: none" or REFUSED in outcome.reason


def test_each_call_has_its_own_user_and_folder() -> None:
    program = "import os, time\ntime.sleep(0.1)\nraise ValueError(f'{os.getuid()} {os.getcwd()}')"
    with ThreadPoolExecutor(4) as pool:
        users, folders = zip(
            *(one.reason.split()[1:] for one in pool.map(run_locked, [program] * 8)), strict=True
        )
    assert len(set(folders)) == 8
    assert len(set(users)) == (8 if os.geteuid() == 0 else 1)


def test_a_taken_user_is_not_chosen(tmp_path: Path) -> None:
    assert locked_process._is_used(os.geteuid(), tmp_path)
    for name in ("a", "b"):
        (tmp_path / (locked_process.PREFIX + name)).mkdir()
    folder = tmp_path / (locked_process.PREFIX + "a")
    if os.geteuid() == 0:
        os.chown(folder, 0x7FFE0000, -1)
        assert not locked_process._is_used(0x7FFE0000, folder)
        os.chown(tmp_path / (locked_process.PREFIX + "b"), 0x7FFE0000, -1)
        assert locked_process._is_used(0x7FFE0000, folder)


@pytest.mark.parametrize("settings", [{"seconds": 0.0}, {"seconds": float("inf")}, {"memory_bytes": 1 << 20}])
def test_limits_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="give"):
        run_locked("", **settings)  # type: ignore[arg-type]


def test_the_lock_is_available_here() -> None:
    require_lock()


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="needs Linux, not darwin"):
        require_lock()
