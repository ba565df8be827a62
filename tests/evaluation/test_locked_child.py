"""Each layer of the lock by itself: another user than root, kernels without a layer, and the parent's end."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECRET, REFUSED = "decoy-5f2b", "PermissionError"
CLIB = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"

# In a process of its own: become another user (1), who can start this Python wherever it is; refuse a system
# call with ENOSYS, as a kernel without it does (2); and run a program.
SCRIPT = """
import ctypes, os, struct, sys
from seedbed.base.errors import UsageError
from seedbed.evaluation import locked_child as child
from seedbed.evaluation.locked_process import require_lock, run_locked
if sys.argv[1] == "other" and os.getuid() == 0:
    os.setgroups([]); os.setgid(65534)
    child.call("prctl", 8, 1, 0, 0, 0)  # keep the capabilities
    os.setuid(65534)
    (header, a), (one, b) = child.address(struct.pack("=Ii", 0x20080522, 0)), child.address(
        struct.pack("=6I", 2, 2, 2, 0, 0, 0))
    child.call("capset", header, one)
    child.call("prctl", 47, 2, 1, 0, 0)  # ambient: also of the programs that it starts
if sys.argv[2]:
    number = child.numbers(child.USED + " " + child.REFUSED)[sys.argv[2]]
    steps = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000))
    code, a = child.address(b"".join(struct.pack("HBBI", *step) for step in steps))
    code, b = child.address(struct.pack("HxxxxxxQ", 4, code))
    child.call("prctl", 38, 1, 0, 0, 0)
    child.call("seccomp", 1, 0, code)
try:
    require_lock()
    print(os.getuid(), run_locked(sys.argv[3]))
except UsageError as error:
    print("refused:", error)
"""


def script(*arguments: str, temporary: Path) -> str:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert not done.stderr
    assert not list(temporary.iterdir())
    return done.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users may write, for the temporary folders of a script."""
    with tempfile.TemporaryDirectory(prefix="seedbed-open-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


OTHER_USER = {
    "json": ("import json, decimal", "passed=True"),
    "user": ("import os\nraise ValueError(os.getresuid())", "(65534, 65534, 65534)"),
    "fork": ("import os\nos.fork()", REFUSED),
    "own process": ("import os\nos.kill(os.getppid(), 0)", REFUSED),
    "capability": (CLIB + "assert libc.mount(0, b'.', b'tmpfs', 0, 0) == 0", "AssertionError"),
    "threads": (
        "import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=(9,)).start()",
        "RuntimeError",
    ),
    "own file": ("open('DECOYS/mine', 'w')", REFUSED),
    "closed folders": ("import os\nos.mkdir('a')\nos.mkdir('a/b', 0)\nos.mkdir('c', 0)", "Outcome"),
}


@pytest.mark.parametrize(("program", "said"), OTHER_USER.values(), ids=OTHER_USER)
def test_another_user_than_root_has_a_user_namespace(open_folder: Path, program: str, said: str) -> None:
    with tempfile.TemporaryDirectory(prefix="seedbed-decoys-") as name:
        mine = Path(name) / "mine"
        mine.write_text(SECRET)
        if os.geteuid() == 0:
            os.chown(mine, 65534, 65534)
            os.chown(name, 65534, 65534)
        printed = script("other", "", program.replace("DECOYS", name), temporary=open_folder)
        assert mine.read_text() == SECRET
    user, _, rest = printed.partition(" ")
    if user == "refused:":
        assert "unshare: " in rest or "without root it needs Landlock" in rest
    else:
        assert int(user) > 0 and said in rest


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("seccomp", "seccomp: Function not implemented"), ("unshare", "unshare: Function not implemented"),
     ("landlock_create_ruleset", "without root it needs Landlock"), ("prctl", "prctl: Function not")],
)  # fmt: skip
def test_without_a_layer_nothing_runs(open_folder: Path, missing: str, reason: str) -> None:
    printed = script("other", missing, f"open('{open_folder}/ran', 'w')", temporary=open_folder)
    assert printed.startswith("refused: a process that runs answers cannot be locked down here: ")
    assert reason in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "said"),
    [("import json, decimal\nassert json.loads('1')", "passed=True"), ("open('SECRET')", REFUSED),
     ("import os\nos.fork()", REFUSED), (CLIB + "assert libc.socket(2, 1, 0) >= 0", "AssertionError")],
)  # fmt: skip
def test_without_landlock_permissions_are_roots_bound(
    open_folder: Path, tmp_path: Path, program: str, said: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    program = program.replace("SECRET", str(secret))
    printed = script("same", "landlock_create_ruleset", program, temporary=open_folder)
    assert said in printed if os.geteuid() == 0 else "without root it needs Landlock" in printed


def parents() -> dict[int, int]:
    """Every process and its parent."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            found[int(status.parent.name)] = int(status.read_text().split("PPid:")[1].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_ends_with_its_parent(open_folder: Path, number: signal.Signals) -> None:
    source = "from seedbed.evaluation.locked_process import run_locked\n"
    source += 'run_locked(\'open("started", "w")\\nwhile True: pass\', seconds=60)'
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(open_folder)}
    parent = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 30
        while not list(open_folder.glob("*/started")):
            assert time.monotonic() < deadline and parent.poll() is None
            select.select([], [], [], 0.01)
        (child,) = [pid for pid, above in parents().items() if above == parent.pid]
        ended = os.pidfd_open(child)
    finally:
        parent.send_signal(number)
        code = parent.wait()
    assert code == -number
    assert select.select([ended], [], [], 5)[0]
    os.close(ended)
    assert bool(list(open_folder.iterdir())) == (number != signal.SIGINT)
