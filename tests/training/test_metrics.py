"""Metrics are appended, survive a cut line, and read back as one history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.base.errors import HardwareError
from seedbed.training.metrics import MetricsFile, metrics_problem, read_metrics


def write(path: Path, lines: list[dict[str, object]]) -> None:
    file = MetricsFile(path)
    for line in lines:
        file.record(line)
    file.end()


def steps(*numbers: int, loss: float = 1.0) -> list[dict[str, object]]:
    return [{"kind": "step", "step": n, "loss": loss} for n in numbers]


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [*steps(1, 2), {"kind": "evaluation", "step": 2, "loss": 0.5}]
    write(path, lines)
    assert read_metrics(path) == lines


def test_what_a_resumed_run_did_again_is_superseded_and_nothing_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, [*steps(1, 2, 3), {"kind": "evaluation", "step": 3, "loss": 9.0}])
    before = path.read_bytes()
    write(path, [{"kind": "resume", "step": 1, "problems": []}, *steps(2, loss=0.5)])
    assert path.read_bytes().startswith(before)
    got = read_metrics(path)
    assert [(line["kind"], line["step"]) for line in got] == [("step", 1), ("resume", 1), ("step", 2)]
    assert got[-1]["loss"] == 0.5


def test_a_line_that_a_crash_cut_is_left_out_at_the_end_and_later_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, steps(1, 2))
    with path.open("ab") as file:
        file.write(json.dumps(steps(3)[0]).encode()[:-7])
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    write(path, [{"kind": "resume", "step": 2, "problems": []}, *steps(3)])
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 2, 3]


def test_a_line_may_be_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, steps(1, 2))
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert [line["step"] for line in read_metrics(path)] in ([], [1], [1, 2])


def test_a_bit_that_flips_in_any_place_is_named_and_its_line_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"kind": "step", "step": n, "loss": 1.5e-05 * n} for n in (1, 2, 3)]
    write(path, lines)
    assert read_metrics(path) == lines and metrics_problem(path) == ""
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        left = [{k: line[k] for k in ("kind", "step", "loss")} for line in read_metrics(path)]
        assert all(line in lines for line in left)
        if left != lines:
            assert "cut or damaged and left out, the first is line" in metrics_problem(path)


def test_lines_of_before_the_checksum_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert metrics_problem(path) == ""
    path.write_text("".join(json.dumps(line) + "\n" for line in steps(1, 2)))
    write(path, steps(3))
    assert read_metrics(path) == steps(1, 2, 3) and metrics_problem(path) == ""
    path.write_bytes(b"")
    assert read_metrics(path) == [] and metrics_problem(path) == ""
    path.write_bytes(b'{"kind": "st\n[1]\n{"step": 1}\n')
    assert read_metrics(path) == []
    assert metrics_problem(path) == "metrics.jsonl: 3 lines cut or damaged and left out, the first is line 1"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")  # answers every write as a full disk does
    file = MetricsFile(path)
    with pytest.raises(
        HardwareError, match=r"^no space left to write .*metrics\.jsonl: .*No space left on device"
    ):
        file.record({"kind": "step", "step": 1})
    file.end()


def test_what_fits_before_the_disk_is_full_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    code = """
import resource, sys
from pathlib import Path
from seedbed.base.errors import HardwareError
from seedbed.training.metrics import MetricsFile

file = MetricsFile(Path(sys.argv[1]))
file.record({"kind": "step", "step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
try:
    file.record({"kind": "step", "step": 2, "loss": 1.0})
except HardwareError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"no space left to write {path}") and done.stdout.count("\n") == 1
    assert path.stat().st_size == 60  # the second line began
    assert read_metrics(path) == [{"kind": "step", "step": 1}]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"cannot write .*metrics\.jsonl"):
        MetricsFile(tmp_path / "missing" / "metrics.jsonl")


def test_a_line_nested_too_deep_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, steps(1))
    path.write_bytes(path.read_bytes() + b"[" * 5000 + b"\n")
    assert read_metrics(path) == steps(1) and "1 line cut or damaged" in metrics_problem(path)
