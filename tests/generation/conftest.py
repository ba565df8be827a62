"""Tiny real networks of both kinds: attention with learned and with rotary positions, recurrence."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.reference import all_cases, make_pair, randomize
from transformers import AutoModelForCausalLM, GenerationConfig

from seedbed.generation.language_model import LanguageModel
from seedbed.models.family import Network
from seedbed.models.network import build, family
from seedbed.nn.config import ModelConfig
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

KINDS = ("gpt2", "llama", "lstm", "gru")
VOCAB, CONTEXT = 300, 48


def make(kind: str) -> Network:
    """A network whose logits are far apart, so that rounding decides nothing."""
    config = replace(family(kind).sized(32, 2), vocab_size=VOCAB)
    if isinstance(config, ModelConfig):
        config = replace(config, max_positions=CONTEXT)
        if kind == "llama":
            config = replace(config, num_heads=4).with_attention(num_kv_heads=2, head_dim=8)
    module, generator = build(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(std=0.5, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module.eval()


@pytest.fixture(scope="session", params=KINDS)
def module(request: pytest.FixtureRequest) -> Network:
    return make(request.param)


@pytest.fixture(scope="session")
def gpt2() -> Network:
    return make("gpt2")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """257 tokens of one byte each and the end of a document, id 256."""
    return train_tokenizer(["text"], "bytes", vocab_size=257)


# ---- networks beside their reference in transformers


LAST_NORMS = (
    "transformer.ln_f",
    "decoder.final_layer_norm",
    "model.decoder.layers.2.final_layer_norm",
    "cls.predictions.transform.LayerNorm",
)


class Reference:
    """A network of ours and the same one of transformers, and what both answer."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.theirs: Any
        if kind in ("lstm", "gru"):
            self.module, self.theirs = make(kind), None
        elif kind in KINDS:
            self.module = make(kind)
            LanguageModel(self.module).save(folder / kind)
            self.theirs = AutoModelForCausalLM.from_pretrained(folder / kind).eval()
        else:

            def fill(module: Any, std: float = 0.3) -> None:
                randomize(module, std)
                # Saturated logits make answers that differ by a token equally likely to within rounding.
                for name, parameter in module.named_parameters():
                    if name.startswith(LAST_NORMS):
                        parameter.data *= 0.15

            self.theirs, self.module = make_pair(all_cases()[kind], fill)
        self.is_decoder = self.module.config.shape == "decoder"

    def prompts(self, *lengths: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(sum(lengths))
        return [torch.randint(4, 100, (n,), generator=generator).tolist() for n in lengths]

    def ours(self, generation: dict[str, Any] | None = None) -> LanguageModel:
        start = {} if self.is_decoder else {"decoder_start_token_id": 2}
        return LanguageModel(self.module, generation=start | (generation or {}))

    def expected(
        self, prompts: Sequence[list[int]], generation: dict[str, Any] | None = None, **settings: Any
    ) -> list[list[list[int]]]:
        """What transformers answers to each prompt of one padded batch: num_return_sequences answers."""
        longest = max(map(len, prompts))
        ids, mask = (torch.zeros(len(prompts), longest, dtype=torch.int64) for _ in range(2))
        for r, prompt in enumerate(prompts):
            at = slice(longest - len(prompt), None) if self.is_decoder else slice(len(prompt))
            ids[r, at], mask[r, at] = torch.tensor(prompt), 1
        config = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}
        config |= {} if self.is_decoder else {"decoder_start_token_id": 2}
        config |= (generation or {}) | settings
        self.theirs.generation_config = GenerationConfig()  # what the class names by default is no part of it
        found = self.theirs.generate(ids, attention_mask=mask, generation_config=GenerationConfig(**config))[
            :, longest if self.is_decoder else 1 :
        ]
        ends = config["eos_token_id"] or []
        rows = [until_the_end(row, ends, config["max_new_tokens"]) for row in found.tolist()]
        num = settings.get("num_return_sequences", 1)
        return [rows[i : i + num] for i in range(0, len(rows), num)]


def until_the_end(ids: list[int], ends: Sequence[int], max_new_tokens: int) -> list[int]:
    """An answer without the padding after its end token."""
    end = next((i + 1 for i, token in enumerate(ids) if token in ends), max_new_tokens)
    return ids[:end]


@pytest.fixture(scope="session")
def make_reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    made: dict[str, Reference] = {}

    def reference(kind: str) -> Reference:
        if kind not in made:
            made[kind] = Reference(kind, tmp_path_factory.mktemp("references"))
        return made[kind]

    return reference
