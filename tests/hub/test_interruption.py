"""A save that is killed or finds the disk full leaves the earlier bundle; each in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from seedbed.base.errors import HardwareError
from seedbed.hub.bundle import save_bundle
from seedbed.models.network import build, family, initialize

SETUP = """
import os, resource, subprocess, sys
from dataclasses import replace
from pathlib import Path

import torch

from seedbed.base.errors import HardwareError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import build, family, initialize

torch.set_num_threads(1)  # a fork loses the other threads
folder = Path(sys.argv[1])


def make(seed):
    module = build(replace(family("gpt2").sized(64, 1), vocab_size=vocab_size, max_positions=16)).eval()
    initialize(module, torch.Generator().manual_seed(seed))
    return module


def seed_of(path):
    found = open_bundle(path)[0].embed.weight
    return next(seed for seed in (0, 1, 2) if torch.equal(found, make(seed).embed.weight))
"""

KILLED = """
vocab_size = 50
# Every call that changes the disk is a moment; the child dies before the n-th of them, as from kill -9.
CALLS = ("mkdir", "rename", "rmdir", "unlink", "fsync")
moments = 0


def die_at(moment):
    global moments

    def watch(name):
        original = getattr(os, name)

        def call(*arguments, **options):
            global moments
            moments += 1
            if moments == moment:
                os._exit(9)
            return original(*arguments, **options)

        setattr(os, name, call)

    for name in CALLS:
        watch(name)


# Seeds of the bundle after a death at each moment; `beside`: an earlier save died between its renames.
def outcomes(*, beside):
    for moment in range(1, 200):
        save_bundle(folder / "model", make(0), force=True)
        if beside:
            (folder / "model").rename(folder / "model.replaced")
        child = os.fork()
        if child == 0:
            die_at(moment)
            save_bundle(folder / "model", make(1), force=True)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        yield seed_of(folder / "model")
        if code == 0:
            return
        assert code == 9, code
        # The killed one's files do not disturb the next save.
        save_bundle(folder / "model", make(2), force=True)
        assert seed_of(folder / "model") == 2
        assert [path.name for path in folder.iterdir()] == ["model"], list(folder.iterdir())


for beside in (False, True):
    print("".join(map(str, outcomes(beside=beside))))
"""

FULL = """
vocab_size = 2000
def refused(path):
    try:
        save_bundle(path, make(1), force=True)
    except HardwareError as error:
        return str(error)


save_bundle(folder / "model", make(0))
mounted = folder / "small"
mounted.mkdir()
# A real small disk where one may be mounted; a limit of the files' size where not.
is_mounted = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", "size=400k", "none", mounted], capture_output=True
).returncode == 0
try:
    if is_mounted:
        message = refused(mounted / "model")
        assert "no space left to write" in message and "No space left on device" in message, message
        assert not list(mounted.iterdir()), list(mounted.iterdir())
finally:
    if is_mounted:
        subprocess.run(["umount", mounted], check=True)
for limit in (100, 2000, 300_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    message = refused(folder / "model")
    assert "no space left to write" in message and "File too large" in message, message
    assert "what was written before is intact" in message and "\\n" not in message
    assert seed_of(folder / "model") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["model", "small"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
save_bundle(folder / "model", make(1), force=True)
print(seed_of(folder / "model"))
"""


def run(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(SETUP + script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_save_leaves_the_earlier_bundle_or_the_new_one(tmp_path: Path) -> None:
    for outcomes in run(KILLED, tmp_path).split():
        assert len(outcomes) > 10
        # The earlier one up to the moment of the renames, the new one from then on.
        assert set(outcomes) == {"0", "1"} and outcomes == "".join(sorted(outcomes))


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(5, "I/O error"), HardwareError)]
)
def test_a_save_that_fails_in_its_last_step_restores_the_earlier_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, seen: type[BaseException]
) -> None:
    """Ctrl-C or an error between the two renames."""
    module = build(family("lstm").sized(8, 1))
    initialize(module, torch.Generator().manual_seed(0))
    save_bundle(tmp_path / "model", module, card="old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(seen):
        save_bundle(tmp_path / "model", module, card="new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "README.md").read_text() == "old"


def test_a_full_disk_is_reported_and_the_earlier_bundle_stays(tmp_path: Path) -> None:
    assert run(FULL, tmp_path).split() == ["1"]
