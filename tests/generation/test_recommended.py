"""What a bundle recommends is what `transformers`' generate uses as defaults."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.generation.recommended import UNKNOWN, recommended
from seedbed.generation.settings import named_settings
from seedbed.models.family import Network

BEAMS = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "do_sample": False}
TEXT = "The cat sat on the mat"


def write(folder: Path, name: str, **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("length", [{"max_length": 20}, {"max_new_tokens": 9}])
@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_an_encoder_decoder_that_follows_it_answers_alike(
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
    settings, unknown = recommended(lm.generation, is_source=True)
    assert not unknown and settings["num_beams"] == 4
    assert lm.generate(TEXT, **settings).token_ids == theirs[0, 1:].tolist()
    plain = lm.generate(TEXT, settings["max_new_tokens"], temperature=0)
    assert plain.token_ids != theirs[0, 1:].tolist()  # which the defaults would not


def test_a_decoder_that_follows_it_answers_alike(gpt2: Network, tmp_path: Path) -> None:
    LanguageModel(gpt2).save(tmp_path / "gpt2")
    write(tmp_path / "gpt2", "generation_config.json", **BEAMS, max_new_tokens=7)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").generate(torch.tensor([[5, 6, 7]]))
    lm = load(tmp_path / "gpt2")
    settings, _ = recommended(lm.generation, is_source=False)
    assert lm.generate([5, 6, 7], **settings).token_ids == theirs[0, 3:].tolist()
    lm.generation["max_length"] = lm.generation.pop("max_new_tokens")
    assert "max_new_tokens" not in recommended(lm.generation, is_source=False)[0]


def test_what_is_unknown_is_no_setting_of_ours() -> None:
    assert not UNKNOWN.keys() & {name for name, _, _ in named_settings()}


def test_values_without_effect_are_not_recommended() -> None:
    off = {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "min_p": 0, "typical_p": 1.0, "top_k": None}
    assert recommended(off | {"repetition_penalty": 1.0}, is_source=False) == ({"top_p": 0.9}, {})
