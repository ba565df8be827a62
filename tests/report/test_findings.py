"""Each heading says what the files say, the awkward cases too."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report import findings
from seedbed.report.run_files import BITS, NATS, RunFiles, read_run


@pytest.fixture
def made(tmp_path: Path, folders: ModuleType) -> Any:
    """Make a run whose held-out bits per byte are as given, at steps 100, 200 and so on."""

    def make(
        name: str, *bits: float, num_steps: int | None = None, interval: float | None = None, **plan: Any
    ) -> RunFiles:
        lines = []
        for index, value in enumerate(bits, 1):
            line = folders.evaluation(100 * index, value / folders.BITS_PER_NAT, 10.0 * index)
            lines.append(
                line if interval is None else line | {"interval": [value - interval, value + interval]}
            )
        total = num_steps or 100 * len(bits) or 100
        planned = folders.plan(**plan)
        folder = folders.write_run(tmp_path / name, lines, planned, num_steps=total)
        return read_run(folder)

    return make


def headline(*runs: RunFiles) -> str:
    unit = findings.common_unit(runs)
    return findings.headline(findings.ranked(runs, unit), unit).replace("\u00a0", " ")


def test_two_runs(made: Any) -> None:
    better, worse = made("Transformer", 2.5, 1.87), made("LSTM", 2.7, 2.18)
    assert headline(worse, better) == "The Transformer needs 0.31 bits per byte less than the LSTM"


def test_the_recurrent_network_may_win(made: Any) -> None:
    runs = made("Transformer", 2.5, 2.2), made("LSTM", 2.7, 2.15)
    assert headline(*runs) == "The LSTM needs 0.050 bits per byte less than the Transformer"


def test_equal_to_the_decimals_shown(made: Any) -> None:
    runs = made("Transformer", 2.5, 2.001), made("LSTM", 2.7, 2.004)
    assert headline(*runs) == "The Transformer and the LSTM need the same bits per byte, to 0.01"


def test_overlapping_intervals_are_said(made: Any) -> None:
    runs = made("a-1", 2.5, 2.0, interval=0.1), made("b-2", 2.7, 2.15, interval=0.1)
    assert headline(*runs) == "a-1 needs 0.15 bits per byte less than b-2, and their intervals overlap"
    apart = made("c-3", 2.5, 2.0, interval=0.05), made("d-4", 2.7, 2.15, interval=0.05)
    assert "overlap" not in headline(*apart)


def test_more_runs_one_run_no_evaluation(made: Any) -> None:
    a, b, c = made("a", 2.0, 1.5), made("b", 2.0, 1.7), made("c", 2.0, 1.9)
    assert headline(c, b, a) == "a is the best of 3: 0.20 bits per byte less than b"
    assert headline(a) == "a needs 1.50 bits per byte on held-out text"
    none = made("d")
    assert headline(none) == "d has not been evaluated on held-out text yet"
    assert headline(none, made("e")) == "None of the networks has been evaluated on held-out text yet"
    unfinished = made("f", 2.0, 1.5, num_steps=1000)
    assert headline(unfinished) == "f needs 1.50 bits per byte on held-out text so far, at step 200 of 1,000"
    assert headline(unfinished, a) == "f and a need the same bits per byte so far, to 0.01"


def test_what_was_equal_and_what_was_not(made: Any) -> None:
    equal = [made("a", 2.0, parameters=1_000_000), made("b", 2.1, parameters=1_000_000)]
    assert "Both had 1.00\u00a0million parameters and 409,600 tokens" in findings.circumstances(equal, BITS)
    near = [made("c", 2.0, parameters=1_000_000), made("d", 2.1, parameters=1_010_000)]
    assert "about 1.00\u00a0million parameters" in findings.circumstances(near, BITS)
    far = [made("e", 2.0, parameters=1_000_000), made("f", 2.1, parameters=2_000_000)]
    assert "2.00\u00a0million parameters (not equal)" in findings.circumstances(far, BITS)


def test_without_bytes_the_unit_is_nats_per_token(made: Any, tmp_path: Path, folders: ModuleType) -> None:
    lines = [folders.evaluation(100, 5.0, 1.0) | {"bits_per_byte": None}]
    bare = read_run(folders.write_run(tmp_path / "bare", lines))
    assert findings.common_unit([made("a", 2.0)]) == BITS
    assert findings.common_unit([made("b", 2.0), bare]) == NATS
    assert headline(bare) == "bare needs 5.00 nats per token on held-out text so far, at step 100 of 400"
    assert "share a tokenizer" in findings.circumstances([made("c", 2.0), bare], NATS)


def test_did_it_work(made: Any) -> None:
    def verdict(*runs: RunFiles) -> tuple[str, str]:
        answer = findings.did_it_work(runs, BITS)
        return answer.verdict, " ".join(answer.lines)

    assert verdict(made("a", 2.0, 1.5)) == ("Yes", "a: held-out loss fell from 2.00 to 1.50.")
    assert verdict(made("b", 2.0, 1.5, 1.8)) == (
        "Yes",
        "b: held-out loss fell from 2.00 to 1.50. b: it rose to 1.80 after step 200, whose model is kept.",
    )
    assert verdict(made("c", 2.0, 2.1))[0] == "No"
    word, lines = verdict(made("d", 2.0, 1.5, num_steps=1000), made("e", 2.0, 1.5))
    assert word == "Not yet" and lines == "d: step 200 of 1,000. The same command goes on from there."
    assert verdict(made("f", 2.0)) == ("Yes", "f: evaluated once.")
    many = [made(f"g{index}", 2.0, 1.5) for index in range(6)]
    assert verdict(*many)[1].endswith("g2: held-out loss fell from 2.00 to 1.50. And 3 more.")


def test_a_loss_that_is_not_finite_is_no_success(tmp_path: Path, folders: ModuleType) -> None:
    lines = folders.metrics(num_steps=20, evaluate_every=5)
    for line in lines:
        if line["step"] > 17:
            line["loss"] = float("nan")
    answer = findings.did_it_work([read_run(folders.write_run(tmp_path / "a", lines))], BITS)
    assert answer.verdict == "No" and "not finite at 3 steps, from step 18 on" in answer.lines[0]


def test_how_well_and_at_what_cost(made: Any) -> None:
    measured = {"peak_bytes": 200 * 2**20, "seconds": 60.0}
    runs = [made(name, 2.5, bits, seconds=50.0, measured=measured) for name, bits in (("a", 2.0), ("b", 2.2))]
    well = findings.how_well(runs, BITS)
    assert well.verdict == "2.00 bits per byte" and "b: 2.20." in well.lines
    assert well.lines[-1] == "Knowing nothing costs 8: this packs the text 4.0 times smaller."
    cost = findings.what_it_cost(runs)
    assert cost.verdict == "2\u00a0min\u00a000\u00a0s"
    assert cost.lines[0].replace("\u00a0", " ") == "To train both; planned 1 min 40 s."
    assert cost.lines[1].replace("\u00a0", " ") == "200 MiB of memory at the peak; planned 400 MiB."
    assert findings.plan_finding(runs) == "Memory came out up to 50% off its plan, time up to 20%"
    assert findings.plan_finding(runs[:1]) == "Memory came out 50% below plan, time 20% above plan"
    assert findings.plan_finding([made("c", 2.0)]) == "What was planned; nothing is measured yet"


def test_a_score_that_no_text_can_have_breaks_nothing(made: Any) -> None:
    for bits in (0.0, -1.0):
        assert findings.how_well([made(f"a{bits}", bits)], BITS).lines == (f"a{bits}, on held-out text.",)


def test_who_leads_at_equal_tokens_and_at_equal_time(made: Any, tmp_path: Path, folders: ModuleType) -> None:
    slow = made("Transformer", 2.4, 2.2, 2.0, 1.8)
    evaluations = [(100, 2.3, 2.0), (200, 2.1, 4.0), (300, 2.05, 6.0), (400, 2.0, 8.0)]
    lines = [folders.evaluation(step, bits / folders.BITS_PER_NAT, at) for step, bits, at in evaluations]
    fast = read_run(folders.write_run(tmp_path / "LSTM", lines))
    finding = findings.curves_finding([slow, fast], BITS)
    assert finding == "The Transformer is ahead at equal tokens, the LSTM at equal time"
    assert findings.curves_finding([slow], BITS) == "Held-out loss still falls at the end"
    assert findings.curves_finding([made("a", 2.0, 1.5, 1.7)], BITS) == "Held-out loss is lowest at step 200"
