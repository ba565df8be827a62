"""What a model's files set is what `transformers`' generate uses as defaults, and what this one uses."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from seedbed.base.errors import BundleError
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.generation.own import DEFAULTS, UNKNOWN, completed, own_length, unknown_settings
from seedbed.generation.settings import GenerationSettings, named_settings
from seedbed.models.family import Network
from seedbed.text.tokenizer import Tokenizer

BEAMS = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "do_sample": False}
TEXT = "The cat sat on the mat"


def write(folder: Path, name: str, **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("length", [{"max_length": 20}, {"max_new_tokens": 9}])
@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_an_encoder_decoder_answers_alike(
    length: dict[str, int], place: str, masked: ModuleType, tmp_path: Path
) -> None:
    masked.model("bart").save(tmp_path / "bart")
    write(tmp_path / "bart", place, **BEAMS, **length)
    if place == "config.json":
        (tmp_path / "bart" / "generation_config.json").unlink()
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "bart")
    theirs = model.generate(
        AutoTokenizer.from_pretrained(tmp_path / "bart")(TEXT, return_tensors="pt").input_ids
    )
    lm = load(tmp_path / "bart")
    num_tokens = own_length(lm.generation, is_source=True)
    assert num_tokens is not None and not unknown_settings(lm.generation)
    assert lm.generate(TEXT, num_tokens).token_ids == theirs[0, 1:].tolist()
    plain = lm.generate(TEXT, num_tokens, temperature=0)
    assert plain.token_ids != theirs[0, 1:].tolist()  # greedy, because that was asked for


def test_a_decoder_answers_alike(gpt2: Network, tmp_path: Path) -> None:
    LanguageModel(gpt2).save(tmp_path / "gpt2")
    write(tmp_path / "gpt2", "generation_config.json", **BEAMS, max_new_tokens=7)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").generate(torch.tensor([[5, 6, 7]]))
    lm = load(tmp_path / "gpt2")
    assert lm.generate([5, 6, 7], 7).token_ids == theirs[0, 3:].tolist()
    assert own_length(lm.generation, is_source=False) == 7
    lm.generation["max_length"] = lm.generation.pop("max_new_tokens")
    assert own_length(lm.generation, is_source=False) is None


def test_what_is_unknown_is_no_setting_of_ours() -> None:
    assert not UNKNOWN.keys() & {name for name, _, _ in named_settings()}
    assert unknown_settings({"min_length": 3, "num_beam_groups": 1}) == {"min_length": 3}
    assert unknown_settings({"do_sample": True, "num_beams": 2}) == {"num_beams": 2, "do_sample": True}


@pytest.mark.parametrize(
    ("file", "given", "expected"),
    [
        ({}, {}, DEFAULTS),
        ({"do_sample": None, "temperature": None}, {}, DEFAULTS),
        ({"do_sample": False}, {}, {"temperature": 0.0}),
        ({"do_sample": False, "temperature": 0.7}, {}, {"temperature": 0.0}),
        ({"do_sample": True, "top_p": 0.8}, {}, {"temperature": 1.0, "top_p": 0.8}),
        ({"temperature": 0.6, "top_k": 20}, {}, {"temperature": 0.6, "top_k": 20}),
        ({"temperature": 0.6, "top_k": 20}, {"top_k": 0}, {"temperature": 0.6, "top_k": 0}),
        ({"temperature": 0.6, "top_k": 20}, {"temperature": 0}, {"temperature": 0}),
        ({"do_sample": False}, {"top_p": 0.5}, {"temperature": DEFAULTS["temperature"], "top_p": 0.5}),
        ({"do_sample": False}, {"temperature": 0.5}, {"temperature": 0.5}),
        ({"repetition_penalty": 1.2}, {}, DEFAULTS | {"repetition_penalty": 1.2}),
        (BEAMS, {}, {k: v for k, v in BEAMS.items() if k != "do_sample"}),
        (BEAMS, {"num_beams": 1}, {"temperature": 0.0}),
        (BEAMS, {"temperature": 0.5}, {"temperature": 0.5}),
        (BEAMS, {"num_samples": 5}, DEFAULTS | {"num_samples": 5}),
        ({}, {"temperature": 1.0}, {"temperature": 1.0}),
        ({}, {"top_p": 0.5}, {"temperature": DEFAULTS["temperature"], "top_p": 0.5}),
        (BEAMS | {"do_sample": True}, {}, {"temperature": 1.0}),
        ({"temperature": 0.5}, {"num_beams": 3}, {"num_beams": 3}),
    ],
)
def test_what_is_not_given_is_the_models_own(
    file: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = completed(GenerationSettings(**given), file)
    values = {name: getattr(found, name) for name, _, _ in named_settings()}
    changed = {name: value for name, value in values.items() if value != getattr(GenerationSettings(), name)}
    assert changed == {"num_beams": 1} | expected


TOKENS = (
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
ODD_TOKENS = [[[2]], "</s>", True, 2.0, -1, 10**10, [2, "a"], [True], {"a": 1}, [-1], 10**30, [[]]]
ODD = {
    "do_sample": ["yes", 1, [], {}],
    "temperature": ["0.7", -1, True, float("nan"), float("inf"), [0.7], 10**30],
    "top_k": [-1, 2.5, "20", True, [1], 10**30],
    "top_p": [-0.1, 1.1, "0.9", True, [], float("nan")],
    "min_p": [2, "x"],
    "typical_p": [0, 2, "x"],
    "repetition_penalty": [0, -1, "1", True, 1e30],
    "no_repeat_ngram_size": [-1, 1.5, "3", True],
    "num_beams": [0, -4, 2.5, "4", True, 10**9],
    "length_penalty": ["x", 1e9, [1], True],
    "early_stopping": ["maybe", 3, [], 0.5],
    "max_new_tokens": [0, -1, 2.5, "20", True],
    "max_length": [0, "20", True, [20]],
    "suppress_tokens": [3, "a", [2.5], [[1]]],
}


@pytest.mark.parametrize("key", [*TOKENS, *ODD])
def test_an_odd_value_of_the_file_is_refused_by_name(key: str, gpt2: Network, tmp_path: Path) -> None:
    LanguageModel(gpt2).save(tmp_path)
    for value in ODD_TOKENS if key in TOKENS else ODD[key]:
        file = tmp_path / "generation_config.json"
        file.write_text(json.dumps({key: value}))
        with pytest.raises(BundleError, match=f"generation_config.json has {key}=") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_what_published_files_have_is_read(gpt2: Network, tokenizer: Tokenizer, tmp_path: Path) -> None:
    LanguageModel(gpt2, tokenizer).save(tmp_path)
    published = {
        "_from_model_config": True, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": -1,
        "do_sample": True, "temperature": 1, "top_p": 0.9, "transformers_version": "4.40", "unheard": [[{}]],
        "max_length": 4096, "forced_eos_token_id": None,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(published))
    lm = load(tmp_path)
    assert lm.eos_ids == (2, 3) and lm.generation == published
    assert lm.generate("a", 3, seed=1) == lm.generate("a", 3, seed=1, temperature=1.0, top_p=0.9)


def test_a_token_that_the_network_does_not_have(gpt2: Network, tmp_path: Path) -> None:
    """One that ends answers never comes, one that begins them cannot be read."""
    LanguageModel(gpt2).save(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [5, 10**6], "bos_token_id": 50256}))
    assert load(tmp_path).eos_ids == ()
    for key in ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"):
        file.write_text(json.dumps({key: 10**6}))
        with pytest.raises(BundleError, match=f"{key}=1000000, but token ids go from 0 to"):
            load(tmp_path)
