"""`seedbed generate` with blanks, beams and sources, and its notices on stderr."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from seedbed.generation.loading import load, new
from seedbed.models.network import family

BLANKS = "The ___ sat (___)"


@pytest.fixture(scope="module")
def bundle(masked: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A saved tiny model: bert, roberta, bart, or t5."""
    folder = tmp_path_factory.mktemp("bundles")

    def saved(kind: str) -> Path:
        if not (folder / kind).exists():
            masked.model(kind).save(folder / kind)
        return folder / kind

    return saved


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("kind", ["bert", "bart", "t5"])
def test_blanks_are_filled_for_people(
    kind: str, columns: int, seedbed: Callable, bundle: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    limit = [] if kind == "bert" else ["--max-new-tokens", 2]
    said = seedbed("generate", bundle(kind), "--fill", BLANKS, "--num-candidates", 3, *limit)
    assert said.code == 0 and said.err == "", said.err
    filled = load(bundle(kind)).fill(BLANKS, 3, max_new_tokens=2 if limit else None)
    text, empty, heading, *rows = said.out.splitlines()
    assert text == filled.text and empty == "" and max(map(len, said.out.splitlines())) <= columns
    assert heading.split() == ["blank", "candidate", "probability"]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells[::3]] == ["1", "2"] and len(cells) == 6
    expected = [c for blank in filled.blanks for c in blank]
    digits = [f"{c.probability:.4f}" if c.probability > 5e-5 else f"{c.probability:.1e}" for c in expected]
    assert [row[-1] for row in cells] == digits and "0.0000" not in said.out
    shown = {c.text.strip() if c.text.strip().isprintable() else repr(c.text) for c in expected if c.text}
    assert {row[-2] for row in cells} == shown | {"''" for c in expected if not c.text}


def test_several_texts_are_numbered_and_one_blank_needs_no_number(
    seedbed: Callable, bundle: Callable
) -> None:
    said = seedbed("generate", bundle("roberta"), "--fill", "A ___", "The <mask> sat", "--num-candidates", 1)
    first, second = load(bundle("roberta")).fill(["A ___", "The ___ sat"], 1)
    lines = said.out.splitlines()
    assert lines[0] == "--- 1" and lines[1] == first.text and lines[7] == second.text
    assert lines[5:7] == ["", "--- 2"] and lines[3].split() == ["candidate", "probability"]


def test_candidates_that_look_alike_are_distinguished(
    seedbed: Callable, bundle: Callable, masked: ModuleType
) -> None:
    said = seedbed("generate", bundle("roberta"), "--fill", "A ___", "--num-candidates", 1000)
    shown = {line.rsplit(maxsplit=1)[0].strip() for line in said.out.splitlines()[3:]}
    word = re.compile("Ġ?[a-z]+")
    words = {name for name in masked.tokenizer("roberta").vocabulary if word.fullmatch(name)}
    alike = {name for name in words if f"Ġ{name}" in words}
    assert alike and {f"'{name}'" for name in alike} | {f"' {name}'" for name in alike} <= shown
    assert {name.strip("Ġ") for name in words} - alike <= shown


@pytest.mark.parametrize(("kind", "limit"), [("bert", None), ("bart", 3), ("t5", None)])
def test_blanks_are_filled_for_machines(
    kind: str, limit: int | None, seedbed: Callable, bundle: Callable
) -> None:
    flags = [] if limit is None else ["--max-new-tokens", limit]
    said = seedbed("generate", bundle(kind), "--fill", BLANKS, "--num-candidates", 2, "--json", *flags)
    (found,), expected = said.json["filled"], load(bundle(kind)).fill(BLANKS, 2, max_new_tokens=limit)
    assert found["prompt"] == BLANKS and found["text"] == expected.text
    for ours, blank in zip(found["blanks"], expected.blanks, strict=True):
        assert [c["token_ids"] for c in ours] == [c.token_ids for c in blank]
        assert [c["text"] for c in ours] == [c.text for c in blank]
        assert [c["probability"] for c in ours] == pytest.approx([c.probability for c in blank])


@pytest.mark.parametrize(
    ("kind", "arguments", "parts"),
    [
        ("bert", ["--fill", "no blank"], ["'no blank' has no blank", "write ___ or [MASK]"]),
        ("bert", ["--fill", "___", "--top-k", 3], ["--top-k has no effect beside --fill", "leave it out"]),
        ("bert", ["--fill", "___", "--temperature", 1.0], ["--temperature has no effect beside --fill"]),
        ("bert", ["--fill", "___", "--num-beams", 2], ["--num-beams has no effect beside --fill"]),
        ("bert", ["--fill", "___", "--allow-pickle", "--top-p", 0.5], ["--top-p has no effect beside"]),
        ("bert", ["--fill", "___", "--num-candidates", 0], ["num_candidates=0", "from 1 to 1,000"]),
        ("bert", ["___"], ["encoder-only", "--fill"]),
        ("bert", ["--fill", "___", "--max-new-tokens", 3], ["max_new_tokens=3 has no effect on a masked"]),
        ("bart", ["--fill", "___ ___"], ["two blanks stand side by side", "write one blank"]),
        ("bart", ["--fill", "___ a" * 3], ["16 tokens in each of its 3 blanks", "max_new_tokens"]),
        ("t5", ["--fill", "no blank"], ["'no blank' has no blank", "write ___ or <extra_id_0>"]),
        ("t5", ["--fill", "___ a" * 5], ["a text has 5 blanks", "4 sentinels", "shorter ones"]),
        ("bart", ["a", "--num-candidates", 2], ["--num-candidates has no effect without --fill"]),
        ("bart", ["a", "--num-beams", 2, "--temperature", 0.5], ["temperature=0.5", "beside num_beams=2"]),
        ("bart", ["a", "--num-beams", 2, "--num-samples", 3], ["num_samples=3", "at most 2"]),
        ("bart", ["a", "--num-beams", 0], ["num_beams=0", "from 1 to 1024"]),
        ("bart", ["a", "--length-penalty", 2], ["length_penalty=2.0 has no effect with num_beams=1"]),
        ("bart", ["a", "--early-stopping", "never"], ["early_stopping='never' has no effect"]),
        ("bart", ["a", "--min-p", 1.5], ["min_p=1.5 is not allowed: give a probability from 0 to 1"]),
        ("bart", ["a", "--min-p", 0.1, "--num-beams", 2], ["min_p=0.1 is not allowed beside num_beams=2"]),
        ("bart", ["a", "--repetition-penalty", 0], ["repetition_penalty=0.0", "1 changes nothing"]),
        ("bart", ["a", "--no-repeat-ngram-size", -1], ["no_repeat_ngram_size=-1", "at least 0"]),
        ("bart", ["a", "--no-repeat-ngram-size", "x"], ["--no-repeat-ngram-size", "valid integer"]),
        ("bert", ["--fill", "___", "--min-p", 0.1], ["--min-p has no effect beside --fill"]),
        ("bart", ["a", "--early-stopping", "maybe"], ["'maybe'", "never", "seedbed generate --help"]),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_one_line(
    kind: str, arguments: list[object], parts: list[str], seedbed: Callable, bundle: Callable
) -> None:
    said = seedbed("generate", bundle(kind), *arguments)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1, said
    assert not [part for part in parts if part not in said.err], said.err


def test_a_decoder_fills_no_blanks(seedbed: Callable, tiny_run: Path) -> None:
    said = seedbed("generate", tiny_run, "--fill", "The ___")
    assert said.code == 2 and "this gpt2 is a decoder, which reads only" in said.err
    assert "(bert or roberta)" in said.err and "`generate`" in said.err


def test_an_encoder_decoder_answers_a_source(seedbed: Callable, bundle: Callable) -> None:
    """Sampled and by beam search: the answer alone; several answers each follow their prompt."""
    lm, text = load(bundle("bart")), "The cat sat"
    how = ["--seed", 3, "--max-new-tokens", 6, "--temperature", 0.9]
    sampled = seedbed("generate", bundle("bart"), text, *how)
    assert sampled.out == f"{lm.generate(text, 6, seed=3, temperature=0.9).text}\n" and sampled.err == ""
    how = ["--num-beams", 3, "--length-penalty", 0.5, "--early-stopping", "true", "--max-new-tokens", 6]
    best = lm.generate(text, 6, num_beams=3, length_penalty=0.5, early_stopping=True, num_samples=2)
    found = seedbed("generate", bundle("bart"), text, *how)
    assert found.out == f"{best[0].text}\n"
    both = seedbed("generate", bundle("bart"), text, *how, "--num-samples", 2)
    assert both.out == "".join(f"--- {n}\n{text}\n{answer.text}\n" for n, answer in enumerate(best, 1))
    as_json = seedbed("generate", bundle("bart"), text, *how, "--num-samples", 2, "--json").json
    assert [row["token_ids"] for row in as_json["completions"]] == [answer.token_ids for answer in best]


def test_a_decoder_searches_too(seedbed: Callable, tiny_run: Path) -> None:
    said = seedbed("generate", tiny_run, "Note", "--num-beams", 3, "--max-new-tokens", 5)
    assert said.out == f"Note{load(tiny_run).generate('Note', 5, num_beams=3).text}\n"


def test_repetition_is_discouraged(seedbed: Callable, bundle: Callable, tiny_run: Path) -> None:
    """As a stream, as JSON, with beams, and for an encoder-decoder."""
    for model in (tiny_run, bundle("bart")):
        lm, how = load(model), {"min_p": 0.02, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2}
        flags = [part for name, value in how.items() for part in (f"--{name.replace('_', '-')}", value)]
        common = ["generate", model, "Note", "--max-new-tokens", 9]
        before = "Note" if lm.config.shape == "decoder" else ""
        answer = lm.generate("Note", 9, seed=3, **how)
        assert seedbed(*common, "--seed", 3, *flags).out == f"{before}{answer.text}\n"
        said = seedbed(*common, "--seed", 3, *flags, "--json").json["completions"]
        assert said[0]["token_ids"] == answer.token_ids
        best = lm.generate("Note", 9, num_beams=3, no_repeat_ngram_size=2)
        assert seedbed(*common, "--num-beams", 3, *flags[4:]).out == f"{before}{best.text}\n"


OWN = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "max_length": 143}
MORE = {"min_length": 56, "bad_words_ids": [[1]], "repetition_penalty": 1.0}
REST = "--length-penalty 2.0 --early-stopping true"
FLAGS = ["--max-new-tokens", "3", "--num-beams", "4"]
DEFAULT = "--temperature 0.7 --top-p 0.9"


@pytest.mark.parametrize(
    ("own", "flags", "used", "more"),
    [
        ({}, [], DEFAULT, ""),
        ({}, ["--temperature", "0.7"], "", ""),
        (OWN, [], f"--num-beams 4 {REST}", "recommends --max-new-tokens 142."),
        (OWN, FLAGS, REST, ""),
        (OWN, [*FLAGS, "--length-penalty", "1", "--early-stopping", "false"], "", ""),
        (OWN | MORE, FLAGS, REST,
         "sets min_length 56, bad_words_ids (1 entries), which seedbed does not know."),
        ({"num_beams": 1, "max_new_tokens": 64, "temperature": 0.5, "length_penalty": 2.0}, [],
         "--temperature 0.5", ""),
        ({"do_sample": True, "temperature": 0.5}, [], "--temperature 0.5", ""),
        ({"do_sample": False, "temperature": 0.5}, [], "--temperature 0.0", ""),
        ({"do_sample": True, "min_p": 0.1}, [], "--temperature 1.0 --min-p 0.1", ""),
        ({"no_repeat_ngram_size": 3, "repetition_penalty": 1.2}, [],
         f"{DEFAULT} --repetition-penalty 1.2 --no-repeat-ngram-size 3", ""),
        ({"do_sample": True, "num_beams": 2}, [], "--temperature 1.0",
         "sets num_beams 2, do_sample true, which seedbed does not know."),
    ],
)  # fmt: skip
def test_the_settings_of_a_bundle_are_used_and_said(
    own: dict[str, object], flags: list[str], used: str, more: str, seedbed: Callable, bundle: Callable
) -> None:
    """The same answer as with the flags that the notice names, which are then all given."""
    file = bundle("bart") / "generation_config.json"
    before = file.read_text()
    command = ["generate", bundle("bart"), "The cat", "--seed", 1, *flags]
    try:
        file.write_text(json.dumps(json.loads(before) | own))
        said = seedbed(*command)
    finally:
        file.write_text(before)
    notices = [line for line in said.err.splitlines() if "context" not in line]
    assert said.code == 0 and len(notices) == bool(used) + bool(more), notices
    if used:
        start = f"Generating with {used}, "
        assert notices[0].startswith(start) and notices[0].endswith("; the flags change it.")
        files_say = DEFAULT not in used
        assert files_say == ("as the model's files say" in notices[0])
    assert not more or notices[-1] == f"The model's generation_config.json {more}"
    again = seedbed(*command, *used.split())
    assert again.out == said.out and "Generating" not in again.err


def test_an_answer_that_fills_the_context_says_so(seedbed: Callable, tiny_run: Path) -> None:
    free = ["--max-new-tokens", 50, "--seed", 1, "--temperature", 1]
    said = seedbed("generate", tiny_run, "Note", *free, "--json")
    (answer,) = said.json["completions"]
    assert answer["finish_reason"] == "length" and len(answer["token_ids"]) < 50
    (note,) = said.err.splitlines()
    facts = rf"\b{len(answer['token_ids'])} of 50 tokens\b.*\bcontext of 16 tokens\b"
    assert re.search(facts, note) and seedbed("generate", tiny_run, "Note", *free).err == said.err
    several = seedbed("generate", tiny_run, "Note", "Note 3: the seed", *free)
    assert re.search(r"\b2 of 2 answers\b.*\b\d+ to \d+\b", several.err)
    assert seedbed("generate", tiny_run, "Note", "--max-new-tokens", 3, "--temperature", 1).err == ""


def test_a_classifier_is_refused_with_the_command_that_uses_it(
    masked: ModuleType, seedbed: Callable, tmp_path: Path
) -> None:
    made = masked.model("bert")
    config = replace(made.config, head=family("bert").labelled("classification", ("no", "yes")))
    new(config, tokenizer=made.tokenizer).save(tmp_path / "judge")
    said = seedbed("generate", tmp_path / "judge", "The cat")
    command = said.errors[0].partition("; run ")[2]
    assert said.code == 2 and command.startswith("python -c ")
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True)
    assert done.returncode == 0 and "label=" in done.stdout, done.stderr
