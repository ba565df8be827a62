"""Each verb on a tiny run, as text and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.hub.bundle import open_bundle
from seedbed.text.tokenizer import Tokenizer


def test_pretrain_says_what_it_made_planned_and_measured(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    said = seedbed(*pretrain_command(tmp_path / "run"), "--json")
    assert said.code == 0, said.err
    made = said.json
    assert made["metrics"]["step"] == 20
    assert 0 < made["metrics"]["bits_per_byte"]["value"] < 9
    assert set(made["plan"]) >= {"parameters", "bytes", "peak_bytes", "seconds", "flops"}
    assert made["measured"]["seconds"] > 0 and made["measured"]["peak_bytes"] > 0
    module, tokenizer, _ = open_bundle(made["model"])
    assert tokenizer is not None and tokenizer.vocab_size == module.config.vocab_size
    assert "parameters" in said.err and "peak memory" in said.err  # the plan, before the first step
    assert Path(made["report"]).stat().st_size > 1000


def test_the_same_pretrain_again_is_done_at_once_and_another_one_refused(
    seedbed: Callable, pretrain_command: Callable, tiny_run: Path
) -> None:
    before = (tiny_run / "metrics.jsonl").read_text().count('"step"')
    again = seedbed(*pretrain_command(tiny_run))
    assert again.code == 0, again.err
    assert "Trained 20 steps" in again.out and "held-out" in again.out and "{" not in again.out
    assert (tiny_run / "metrics.jsonl").read_text().count('"step"') - before <= 1
    other = seedbed(*pretrain_command(tiny_run), "--set", "training.learning_rate=0.5")
    assert other.code == 1
    error = other.err.splitlines()[-1]
    assert "training.learning_rate" in error and "0.5" in error and "Traceback" not in other.err


def test_generate_as_text_and_as_json(seedbed: Callable, tiny_run: Path) -> None:
    how = [tiny_run, "Note 3: the", "--max-new-tokens", 8, "--seed", 1]
    streamed = seedbed("generate", *how)
    assert streamed.code == 0, streamed.err
    said = seedbed("generate", *how, "--json", "--logprobs", 2).json["completions"]
    assert [set(row) for row in said] == [{"prompt", "text", "token_ids", "finish_reason", "logprobs"}]
    assert streamed.out == f"Note 3: the{said[0]['text']}\n"
    assert all(len(token["top"]) == 2 for token in said[0]["logprobs"])
    several = seedbed("generate", tiny_run, "Note", "The", "--num-samples", 2, "--max-new-tokens", 3)
    assert [line for line in several.out.splitlines() if line.startswith("---")] == [
        f"--- {n}" for n in (1, 2, 3, 4)
    ]


def test_generate_reads_a_prompt_from_a_pipe(
    seedbed: Callable, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prompt").write_text("Note 5\n")
    with (tmp_path / "prompt").open() as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        said = seedbed("generate", tiny_run, "--temperature", 0, "--max-new-tokens", 2)
    assert said.code == 0 and said.out.startswith("Note 5") and not said.out.startswith("Note 5\n")


def test_a_prompt_longer_than_the_context_is_refused(seedbed: Callable, tiny_run: Path) -> None:
    said = seedbed("generate", tiny_run, "Note " * 100)
    assert said.code == 2 and said.err.count("\n") == 1 and "16" in said.err


def test_tokenizer_trains_and_shows(seedbed: Callable, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    said = seedbed("tokenizer", corpus, "--kind", "words", "--vocab-size", 280, "--out", folder)
    assert said.code == 0, said.err
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.kind == "words" and f"{tokenizer.vocab_size} tokens" in said.out
    shown = seedbed("tokenizer", "--inspect", folder, "the leaf é", "--json").json["tokens"]
    assert [token["id"] for token in shown] == tokenizer.encode("the leaf é")
    assert bytes.fromhex("".join(token["bytes"] for token in shown)).decode() == "the leaf é"
    table = seedbed("tokenizer", "--inspect", folder, "the leaf é").out
    assert f"\n{len(shown)} tokens\n" in table and "c3" in table
    assert table.splitlines()[0].replace("\u2502", "") == "the leaf é"  # bars between, as without colour


@pytest.mark.parametrize(
    ("flags", "kind", "shown"),
    [
        (["--kind", "unigram"], "unigram", "'▁with'"),
        (["--family", "bert"], "wordpiece", "'with'"),
        (["--family", "t5", "--kind", "bpe"], "bpe", "' with'"),
    ],
)
def test_tokenizers_of_published_kinds(
    flags: list[str], kind: str, shown: str, seedbed: Callable, tmp_path: Path
) -> None:
    made = seedbed("tokenizer", "builtin:prose", *flags, "--vocab-size", 2000, "--out", tmp_path)
    assert made.code == 0, made.err
    assert made.out.startswith(f"Trained a {kind} tokenizer") and "2,000 tokens" in made.out
    table = seedbed("tokenizer", "--inspect", tmp_path, "a file with names").out
    assert shown in table


def test_report_writes_its_page(seedbed: Callable, tiny_run: Path) -> None:
    said = seedbed("report", tiny_run)
    assert said.code == 0 and Path(said.out.strip()) == tiny_run / "report.html"
    assert seedbed("report", tiny_run, "--json").json["report"] == str(tiny_run / "report.html")


def test_plan_says_bytes_by_part_and_seconds(seedbed: Callable) -> None:
    small = ["lstm", "--set", "training.batch_tokens=64", "--set", "training.context_tokens=16"]
    small += ["--set", "tokenizer.vocab_size=300"]
    said = seedbed("plan", *small, "--json")
    assert said.code == 0, said.err
    plan = said.json
    assert set(plan) >= {"parameters", "bytes", "peak_bytes", "seconds", "flops"}
    assert plan["bytes"]["weights"] == 4 * plan["parameters"]
    assert plan["peak_bytes"] >= sum(plan["bytes"].values()) * 0.999
    use = plan["generation"]
    assert use["peak_bytes"] == sum(use["bytes"].values()) > use["bytes"]["weights"] == 4 * plan["parameters"]
    assert use["prompt_seconds"] > 0 and use["tokens_per_second"] > 0
    table = seedbed("plan", *small).out
    assert f"{plan['parameters']:,}" in table and "tokens/s" in table and "generation memory" in table
    encoder = seedbed("plan", "bert", *small[1:], "--set", "model.num_layers=1", "--json")
    assert encoder.json["generation"] is None


def test_doctor_examines_the_machine(seedbed: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.api.doctor.PLANNED", "seedling:1m")
    found = seedbed("doctor", "--json").json
    assert found["hardware"]["num_cores"] >= 1
    assert found["extras"]["data"] is True
    preset = next(row for row in found["presets"] if row["model"] == "gpt2:124m")
    assert preset["parameters"] == 124_439_808 and preset["state_bytes"] == 16 * 124_439_808
    small = next(row for row in found["presets"] if row["model"] == "seedling:1m")
    planned = seedbed("plan", "seedling:1m", "--json").json
    rate = planned["batch_tokens"] / planned["step_seconds"]
    assert 0.8 < small["tokens_per_second"] / rate < 1.25  # rows and the output's share differ
    shown = seedbed("doctor").out
    assert "gpt2:124m" in shown and "ago; again with --probe" in shown


def test_doctor_examines_folders(seedbed: Callable, tiny_run: Path, tmp_path: Path) -> None:
    run = seedbed("doctor", tiny_run, "--json").json
    assert run["kind"] == "run" and run["holds"]["steps"] == "20 of 20" and not run["lacks"]
    assert seedbed("doctor", tiny_run.parent, "--json").json["kind"] == "project"
    bundle = seedbed("doctor", tiny_run / "model")
    assert bundle.code == 0 and "gpt2, decoder, 1 layers x 16" in bundle.out
    tokenizer = seedbed("doctor", tiny_run / "tokenizer", "--json").json
    assert tokenizer["kind"] == "tokenizer" and "config.json" in tokenizer["lacks"]
    nothing = seedbed("doctor", tmp_path)
    assert nothing.code == 2 and "no file that seedbed knows" in nothing.err


def test_doctor_finds_what_is_missing_and_damaged(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert seedbed(*pretrain_command(folder)).code == 0
    (folder / "report.html").unlink()
    (folder / "model" / "README.md").unlink()
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    newest = sorted((folder / "checkpoints").glob("0*"))[-1]
    (newest / "weights.safetensors").write_bytes(b"no")
    said = seedbed("doctor", folder, "--json")
    assert said.code == 1
    assert "report.html" in said.json["lacks"]
    assert len(said.json["problems"]) == 2
    assert newest.name in said.json["problems"][0] and "model.safetensors" in said.json["problems"][1]
    assert "README.md" in seedbed("doctor", folder / "model", "--json").json["lacks"]
    assert "damaged" in seedbed("doctor", folder).out


def test_json_is_one_object_even_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    from seedbed.cli.console import print_json

    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "path": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "path": "x"}
