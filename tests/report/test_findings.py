"""Each heading says what the files say, the awkward cases too."""

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seedbed.report import findings
from seedbed.report.run_files import BITS, NATS, RunFiles, read_run


@pytest.fixture
def made(tmp_path: Path, folders: ModuleType) -> Any:
    """Make a run whose held-out bits per byte are as given, at steps 100, 200 and so on."""

    def make(name: str, *bits: float, num_steps: int | None = None, **plan: Any) -> RunFiles:
        lines = [
            folders.evaluation(100 * index, value / folders.BITS_PER_NAT, 10.0 * index)
            for index, value in enumerate(bits, 1)
        ]
        total = num_steps or 100 * len(bits) or 100
        planned = folders.plan(**plan)
        folder = folders.write_run(tmp_path / name, lines, planned, num_steps=total)
        return read_run(folder)

    return make


def has(text: str, *facts: str) -> bool:
    """Whether a text names these facts, patterns each, in this order; what stands between is free."""
    return re.search(".*?".join(facts), text.replace("\u00a0", " ")) is not None


def headline(*runs: RunFiles) -> str:
    unit = findings.common_unit(runs)
    return findings.headline(findings.ranked(runs, unit), unit).replace("\u00a0", " ")


def test_two_runs(made: Any) -> None:
    better, worse = made("Transformer", 2.5, 1.87), made("LSTM", 2.7, 2.18)
    assert has(headline(worse, better), "Transformer", r"\b0\.31 bits per byte less", "LSTM")


def test_the_recurrent_network_may_win(made: Any) -> None:
    runs = made("Transformer", 2.5, 2.2), made("LSTM", 2.7, 2.15)
    assert has(headline(*runs), "LSTM", r"\b0\.050? bits per byte less", "Transformer")


def test_equal_to_the_decimals_shown(made: Any) -> None:
    runs = made("Transformer", 2.5, 2.001), made("LSTM", 2.7, 2.004)
    assert has(headline(*runs), "Transformer", "LSTM", "same bits per byte", r"\b0\.01\b")
    assert "less" not in headline(*runs)


def test_more_runs_one_run_no_evaluation(made: Any) -> None:
    a, b, c = made("a", 2.0, 1.5), made("b", 2.0, 1.7), made("c", 2.0, 1.9)
    assert has(headline(c, b, a), "^a ", r"\b0\.20 bits per byte less", r"\bb\b")
    assert has(headline(a), "^a ", r"\b1\.50 bits per byte") and "so far" not in headline(a)
    none = made("d")
    assert has(headline(none), "^Not evaluated", "yet") and has(headline(none, made("e")), "^Not evaluated")
    unfinished = made("f", 2.0, 1.5, num_steps=1000)
    assert has(headline(unfinished), "^f ", r"\b1\.50 bits per byte", "so far")
    assert has(headline(unfinished, a), "^f ", r"\ba\b", "same bits per byte", "so far")


def test_without_bytes_the_unit_is_nats_per_token(made: Any, tmp_path: Path, folders: ModuleType) -> None:
    lines = [folders.evaluation(100, 5.0, 1.0) | {"bits_per_byte": None}]
    bare = read_run(folders.write_run(tmp_path / "bare", lines))
    assert findings.common_unit([made("a", 2.0)]) == BITS
    assert findings.common_unit([made("b", 2.0), bare]) == NATS
    assert has(headline(bare), "^bare ", r"\b5\.00 nats per token", "so far")


def test_did_it_work(made: Any, folders: ModuleType) -> None:
    def verdict(*runs: RunFiles) -> tuple[str, str]:
        answer = findings.did_it_work(runs, BITS)
        return answer.verdict, " ".join(answer.lines)

    measured = {"measured": {"seconds": 1.0}}
    word, lines = verdict(made("a", 2.0, 1.5, **measured))
    assert word == "Yes" and has(lines, "^a:", r"1\.50", "frequencies", r"3\.36") and "rose" not in lines
    word, lines = verdict(made("b", 2.0, 1.5, 1.8, **measured))
    assert word == "Yes" and has(lines, "^b:", r"1\.50", "rose", r"1\.80 bits per byte", r"step 200\b")
    bad = replace(
        made("c", 2.0, 2.1, **measured), metrics=folders.figures(4.0, worked="no", because="As bad.")
    )
    assert verdict(bad)[0] == "No" and has(verdict(bad)[1], "^c: As bad", "rose")
    unsure = replace(bad, metrics=folders.figures(4.0, worked="not shown", because="Who knows."))
    assert verdict(unsure)[0] == "Not shown" and verdict(unsure, bad) == verdict(bad)
    few = replace(bad, metrics=folders.figures(0.5, worked="too few to say", because="4 records."))
    assert verdict(few)[0] == "Too few to say" and has(verdict(few)[1], "4 records")
    word, lines = verdict(made("d", 2.0, 1.5, num_steps=1000), made("e", 2.0, 1.5, **measured))
    assert word == "Not yet" and has(lines, "^d:", "200 of 1,000", "same command") and "e:" not in lines
    word, lines = verdict(made("f", 2.0))
    assert word == "Not measured" and has(lines, "without final figures", "same command")


def labelled(folder: Path, folders: ModuleType, objective: str, right: float) -> RunFiles:
    """A run that learns labels: the share that is right stands beside the loss."""
    lines = [folders.metrics()[0] | {"loss": 0.7}]
    for step, loss, share in ((100, 0.5, right), (200, 0.6, right / 2)):
        evaluation = folders.evaluation(step, loss, 1.0) | {"bits_per_byte": None}
        ends = [share - 0.064, share + 0.055]
        lines.append(evaluation | {"accuracy": share, "accuracy_interval": ends, "num_targets": 200})
    run = folders.write_run(folder, lines, num_steps=200)
    settings = (run / "settings.toml").read_text().replace('"causal"', f'"{objective}"')
    (run / "settings.toml").write_text(settings)
    return read_run(run)


def test_labels_have_accuracy_beside_the_majority_and_no_perplexity(
    tmp_path: Path, folders: ModuleType
) -> None:
    run = labelled(tmp_path / "a", folders, "tagging", 0.75)
    scores = {"majority_share": (0.6, 0.5, 0.7), "macro_f1": (0.512, 0.4, 0.6), "entity_f1": (0.25, 0.1, 0.4)}
    known = {name: {"value": v, "interval": [low, high]} for name, (v, low, high) in scores.items()}
    before = {"accuracy": {"value": 0.5, "interval": None}, "loss": {"value": 0.7, "interval": None}}
    run = replace(run, metrics=folders.figures(0.5, **known) | {"before": before})
    unit = findings.common_unit([run])
    assert unit == "nats per label"
    assert has(findings.headline([run], unit), "^a ", r"75\.0%", "held-out words", "most frequent", r"60\.0%")
    well = findings.how_well([run], unit)
    said = " ".join(well.lines)
    assert well.verdict == "75.0% right" and has(said, r"68\.6% to 80\.5%", r"60\.0%", r"0\.512", r"0\.250")
    assert has(said, r"Before training: 50\.0%") and len(well.lines) == 5  # a page shows five
    assert run.score(run.unit).right.interval == pytest.approx((0.686, 0.805))
    assert not re.search("token|choice|uncertain|likely", " ".join([*well.lines, well.verdict]))


def test_an_unfinished_run_resumes(tmp_path: Path, folders: ModuleType) -> None:
    lines = [*folders.metrics(num_steps=3, evaluate_every=9)[:3], folders.evaluation(3, 7.999, 1.0)]
    files = folders.write_run(tmp_path / "b", lines, num_steps=9)
    (files / "plan.json").unlink()
    unfinished = findings.did_it_work([read_run(files)], BITS)
    assert unfinished.verdict == "Not yet" and has(unfinished.lines[0], "^b: 3 of 9 steps", "resumes it")


def test_a_loss_that_is_not_finite_is_no_success(tmp_path: Path, folders: ModuleType) -> None:
    lines = folders.metrics(num_steps=20, evaluate_every=5)
    for line in lines:
        if line["step"] > 17:
            line["loss"] = float("nan")
    answer = findings.did_it_work([read_run(folders.write_run(tmp_path / "a", lines))], BITS)
    assert answer.verdict == "No" and has(answer.lines[0], "^a:", "not finite", r"\b3 steps", r"step 18\b")


def test_how_well_and_at_what_cost(made: Any) -> None:
    measured = {"peak_bytes": 200 * 2**20, "seconds": 60.0}
    runs = [made(name, 2.5, bits, seconds=50.0, measured=measured) for name, bits in (("a", 2.0), ("b", 2.2))]
    well = findings.how_well(runs, BITS)
    assert well.verdict == "2.00 bits per byte" and has(well.lines[0], "^a, on held-out text")
    assert has(well.lines[-1], r"\b8\b", r"\b4\.0 times")
    cost = findings.what_it_cost(runs)
    assert has(cost.verdict, "^2 min 00 s$")
    assert has(cost.lines[0], "planned 1 min 40 s")
    assert has(cost.lines[1], "Measured", "200 MiB") and has(cost.lines[2], "Planned", "400 MiB")
    other = made("e", 2.0, seconds=60.0, measured=measured)
    assert has(findings.plan_finding([*runs, other]), r"memory -50%, time \+0% to \+20%")
    assert has(findings.plan_finding(runs[:1]), r"memory -50%, time \+20%")
    on_plan = made("d", 2.0, seconds=50.0, measured={"peak_bytes": 401 * 2**20, "seconds": 50.1})
    assert has(findings.plan_finding([on_plan]), r"memory \+0%, time \+0%")
    unmeasured = findings.plan_finding([made("c", 2.0)])
    assert has(unmeasured, "Planned") and "%" not in unmeasured


def test_a_score_that_no_text_can_have_breaks_nothing(made: Any) -> None:
    for bits in (0.0, -1.0):
        answer = findings.how_well([made(f"a{bits}", bits)], BITS)
        assert has(answer.verdict, rf"^{bits:.2f} bits per byte") and has(answer.lines[0], rf"^a{bits}\b")
        assert not any("times" in text for text in answer.lines)


def test_who_leads_at_equal_tokens_and_at_equal_time(made: Any, tmp_path: Path, folders: ModuleType) -> None:
    slow = made("Transformer", 2.4, 2.2, 2.0, 1.8)
    evaluations = [(100, 2.3, 2.0), (200, 2.1, 4.0), (300, 2.05, 6.0), (400, 2.0, 8.0)]
    lines = [folders.evaluation(step, bits / folders.BITS_PER_NAT, at) for step, bits, at in evaluations]
    fast = read_run(folders.write_run(tmp_path / "LSTM", lines))
    finding = findings.curves_finding([slow, fast], BITS)
    assert has(finding, "^Transformer is ahead at equal tokens", "LSTM is at equal time")
    alike = made("a-1", 2.0, 1.8), made("b-2", 2.0, 1.804)
    assert has(findings.curves_finding(alike, BITS), "^No network is ahead", "tokens and at equal time")
    assert has(findings.curves_finding([slow], BITS), "lowest at step 400 of 400")
    assert has(findings.curves_finding([made("a", 2.0, 1.5, 1.7)], BITS), r"lowest at step 200 of 300")
