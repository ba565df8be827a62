"""`seedbed tune`: what it shows, what it leaves for the other verbs, what it refuses in one line."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.task_models import decoder, saved
from tests.tunings import PAIRS, SETTINGS, SUMMARIES, encoder, written

from seedbed.models.adapter import METHODS
from seedbed.models.network import build, preset
from seedbed.select import rehearsal
from seedbed.text.tokenizer import Tokenizer

OWN = [part for setting in SETTINGS for part in ("--set", setting)]
TURNS: list[dict[str, str]] = [
    {"role": "system", "content": "be small"},
    {"role": "user", "content": "a garden"},
    {"role": "assistant", "content": "it grows"},
    {"role": "user", "content": "a seed"},
    {"role": "assistant", "content": "a tree"},
]
MESSAGES = [
    {
        "messages": [
            {**turn, "content": f"{turn['content']} {n}"} if turn["role"] == "user" else turn
            for turn in TURNS
        ]
    }
    for n in range(40)
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases and records."""
    made = tmp_path_factory.mktemp("tune")
    saved(decoder(400, chat=True), made / "chat")
    saved(decoder(400), made / "plain")
    saved(encoder(), made / "encoder")
    saved(decoder(200), made / "short")
    written(made / "pairs.jsonl", PAIRS)
    written(made / "summaries.jsonl", SUMMARIES)
    written(made / "messages.jsonl", MESSAGES)
    return made


@pytest.fixture(scope="module")
def run(folder: Path, seedbed: Callable) -> Path:
    """A finished tuning of a model that had no template, on a task."""
    how = ["--task", "summarize", "--steps", 4, *OWN, "--set", "training.context_tokens=120"]
    how += ["--set", "training.batch_tokens=240", "--set", "training.micro_batch_tokens=120"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
        said = seedbed("tune", folder / "plain", folder / "summaries.jsonl", "--out", folder / "run", *how)
    assert said.code == 0, said.err
    assert "rougeL" in said.out and "before training" in said.out and "adapter" in said.out
    return folder / "run"


@pytest.mark.parametrize(
    ("base", "answers"),
    [
        ("chat", ["it grows<|im_end|>", "a tree<|im_end|>"]),
        ("plain", [" it grows<|endoftext|>", " a tree<|endoftext|>"]),
    ],
)
def test_the_answers_alone_are_shown_as_learned(
    base: str, answers: list[str], folder: Path, seedbed: Callable
) -> None:
    """Every turn of the assistant with its end, in the model's own template or ours; one folder of shards."""
    out = folder / "shown" / base
    how = ["--out", out, *OWN, "--show", 6]
    said = seedbed("tune", folder / base, folder / "messages.jsonl", *how, "--json")
    assert said.code == 0, said.err
    for example in said.json["examples"]:
        tokens = example["writes"]
        whole = "".join(token["text"] for token in tokens)
        number = whole.partition("a garden ")[2].split("\n")[0].removesuffix("<|im_end|>")
        learned = [
            "".join(t["text"] for t in tokens[start:end])
            for start, end in spans([token["role"] == "target" for token in tokens])
        ]
        assert learned == answers
        assert example["num_targets"] == sum(token["role"] == "target" for token in tokens)
        expected = {
            "chat": f"<|im_start|>system\nbe small<|im_end|>\n<|im_start|>user\na garden {number}<|im_end|>\n"
            f"<|im_start|>assistant\nit grows<|im_end|>\n<|im_start|>user\na seed {number}<|im_end|>\n"
            f"<|im_start|>assistant\na tree<|im_end|>",
            "plain": f"be small\n\nUser: a garden {number}\nAssistant: it grows<|endoftext|>\n"
            f"User: a seed {number}\nAssistant: a tree<|endoftext|>",
        }
        assert whole == expected[base]
    assert not (out / "settings.toml").exists()
    text = seedbed("tune", folder / base, folder / "messages.jsonl", *how).out
    end = answers[0].rpartition("grows")[2]
    assert f"it grows{end}»" in text and f"{end}»" in text


def spans(flags: list[bool]) -> list[tuple[int, int]]:
    """Where the runs of true flags start and end."""
    edges = [
        at for at in range(len(flags) + 1) if (flags[at : at + 1] == [True]) != (flags[:at][-1:] == [True])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_a_model_without_a_template_chats_in_ours_afterwards(
    run: Path, folder: Path, seedbed: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Tokenizer.load(run / "adapter").config["chat_template"]
    assert "User: " in template and Tokenizer.load(folder / "plain").config.get("chat_template") is None
    texts = set()
    for place in (run, run / "adapter"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a good garden 3\n")))
        said = seedbed("chat", place, "--max-new-tokens", 6, "--temperature", 0, "--json")
        assert said.code == 0, said.err
        texts.add(said.json["messages"][1]["content"])
    assert len(texts) == 1
    refused = seedbed("chat", folder / "plain", "--max-new-tokens", 6)
    assert refused.code != 0 and "template" in refused.errors[0]


def test_the_other_verbs_take_the_run_and_its_adapter(run: Path, folder: Path, seedbed: Callable) -> None:
    held = written(folder / "held.jsonl", SUMMARIES[:30])
    scores, texts = [], []
    for place in (run, run / "adapter"):
        said = seedbed("generate", place, "a garden", "--max-new-tokens", 5, "--temperature", 0)
        assert said.code == 0, said.err
        texts.append(said.out)
        how = ["--task", "summarize", "--data", held, "--set", "task.max_new_tokens=4", "--json"]
        said = seedbed("evaluate", place, *how)
        assert said.code == 0, said.err
        scores.append(said.json["metrics"])
    assert texts[0] == texts[1] and scores[0] == scores[1]
    said = seedbed("predict", run, held, "--out", folder / "answers.jsonl", "--json")
    assert said.code == 0 and said.json["num_records"] == 30 and said.json["num_failed"] == 0
    said = seedbed("predict", run, folder / "messages.jsonl", "--out", folder / "none.jsonl")
    assert said.code != 0 and len(said.errors) == 1


BAD_TEMPLATE = "{% for m in messages %}{{ raise_exception('no such turns') }}{% endfor %}"
REFUSED: dict[str, tuple[str, Any, list[Any], list[str]]] = {
    "an empty answer": (
        "chat",
        [*PAIRS, {**PAIRS[0], "completion": " "}],
        [],
        [":61: the answer is empty"],
    ),
    "an unknown method": ("chat", PAIRS, ["--peft", "lorra"], ["'lorra'", "did you mean 'lora'"]),
    "no pattern": ("chat", PAIRS, ["--set", "peft.targets=query"], ["peft.targets='query' matches no proj"]),
    "a rank": (
        "chat",
        PAIRS,
        ["--set", "peft.rank=999"],
        ["peft.rank=999 is larger than the matrix"],
    ),
    "a rank of none": (
        "chat",
        PAIRS,
        ["--peft", "none", "--set", "peft.rank=4"],
        ["peft.rank has no effect with peft.method=none"],
    ),
    "an unknown key": ("chat", PAIRS, ["--set", "peft.ranc=4"], ["'ranc' in [peft]", "did you mean 'rank'"]),
    "a task for an encoder": (
        "encoder",
        SUMMARIES,
        ["--task", "summarize"],
        ["task summarize are texts, which an encoder does not write"],
    ),
    "an unknown task": ("chat", SUMMARIES, ["--task", "sumarize"], ["sumarize", "summarize"]),
    "conversations for an encoder": ("encoder", MESSAGES, [], ["messages", "conversation trains a decoder"]),
    "one without a base": ("nowhere", PAIRS, [], ["nowhere"]),
    "steps and a budget": ("chat", PAIRS, ["--steps", 3, "--budget", "60s"], ["--steps and --budget both"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_and_no_run_is_begun(
    what: str, folder: Path, tmp_path: Path, seedbed: Callable
) -> None:
    base, rows, flags, parts = REFUSED[what]
    data, out = written(tmp_path / "data.jsonl", rows), tmp_path / "out"
    said = seedbed("tune", folder / base, data, "--out", out, *OWN, *flags)
    assert said.code in (1, 2) and len(said.errors) == 1 and said.out == "", said
    assert not [part for part in parts if part not in said.errors[0]], said.errors
    assert not (out / "settings.toml").exists() and not list(tmp_path.glob("**/*.safetensors"))


def test_the_data_as_the_run_is_refused(folder: Path, tmp_path: Path, seedbed: Callable) -> None:
    data = written(tmp_path / "data" / "a.jsonl", PAIRS)
    for out in (data.parent, data.parent / "run"):
        said = seedbed("tune", folder / "chat", data.parent, "--out", out, *OWN)
        assert said.code in (1, 2) and len(said.errors) == 1 and "is in the data folder" in said.errors[0]
    said = seedbed("tune", folder / "chat", data, "--out", data, *OWN)
    assert said.code in (1, 2) and len(said.errors) == 1 and json.loads(data.read_text().splitlines()[0])
    assert [path.name for path in data.parent.iterdir()] == ["a.jsonl"]


def test_a_template_that_refuses_the_records_is_named(
    folder: Path, tmp_path: Path, seedbed: Callable
) -> None:
    base = saved(decoder(400), tmp_path / "base")
    (base / "chat_template.jinja").write_text(BAD_TEMPLATE)
    said = seedbed("tune", base, folder / "pairs.jsonl", "--out", tmp_path / "out", *OWN)
    assert said.code in (1, 2) and len(said.errors) == 1, said
    assert "pairs.jsonl:1" in said.errors[0] and "no such turns" in said.errors[0]
    assert not (tmp_path / "out" / "settings.toml").exists()


def test_an_adapter_is_no_base_and_fits_its_own_base_alone(
    run: Path, folder: Path, tmp_path: Path, seedbed: Callable
) -> None:
    for place in (run, run / "adapter"):
        said = seedbed("tune", place, folder / "pairs.jsonl", "--out", tmp_path / "out", *OWN)
        assert said.code in (1, 2) and len(said.errors) == 1 and "merge it first" in said.errors[0]
        assert not (tmp_path / "out").exists()
    # Other weights in the place of its base, of the same shapes and of others.
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    for other in ("short", "encoder"):
        moved = tmp_path / other
        moved.mkdir()
        for file in (run / "adapter").iterdir():
            (moved / file.name).write_bytes(file.read_bytes())
        own = config | {"base_model_name_or_path": str(folder / other)}
        (moved / "adapter_config.json").write_text(json.dumps(own))
        said = seedbed("generate", moved, "a", "--max-new-tokens", 2)
        assert said.code in (1, 2) and len(said.errors) == 1, said
        assert "was trained on another base" in said.errors[0] and "fingerprint" in said.errors[0], said.err


def test_the_parameters_of_a_published_adapter() -> None:
    """FLAN-T5-base with rank 32 on q and v, as published: 3,538,944 of 251,116,800 parameters, 1.41%."""
    module = build(preset("t5:flan-base"), "meta")
    lora = METHODS.get("lora")
    lora(lora.settings_class(rank=32, targets="q, v")).apply(module, torch.Generator())
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    assert sum(number for number, _ in counts) == 251_116_800
    assert sum(number for number, learns in counts if learns) == 3_538_944


def test_a_plan_says_what_is_trained(seedbed: Callable) -> None:
    """Of 2 attentions of a decoder's and one of an encoder's layer: q and v, (32 + 32) x 4 each."""
    settings = ("peft.rank=4", "peft.targets=q,v", "model.d_model=64", "model.num_layers=1")
    settings = (*settings, "training.batch_tokens=32", "training.context_tokens=32")
    how = ["--peft", "lora", *(part for setting in settings for part in ("--set", setting))]
    said = seedbed("plan", "t5", *how)
    assert said.code == 0 and f"{3 * 2 * (64 + 64) * 4:,}" in said.out, said
