"""Tiny bases with adapters, and the same in `transformers`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.models.reference import randomize, tiny
from torch import Tensor

from seedbed.generation.language_model import LanguageModel
from seedbed.hub.base import Base
from seedbed.hub.bundle import save_bundle
from seedbed.models.network import build, family, initialize, with_head
from seedbed.nn.config import HeadConfig
from seedbed.nn.layout import Layout
from seedbed.peft.lora import Lora, Settings

IDS = torch.tensor([[7, 11, 3, 50, 24, 9, 66]])
LABELS = ("bad", "fine", "good")
CLASSES = {
    "lm": "AutoModelForCausalLM",
    "none": "AutoModel",
    "classification": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
}


def save_base(folder: Path, name: str, head: str, **changes: Any) -> Path:
    config = tiny(name, **changes)
    if head == "mlm":
        config = replace(config, head=HeadConfig(kind="mlm"))
    if head == "none":
        config = replace(config, head=HeadConfig(kind="none", pooler=name == "bert"))
    module = build(config).eval()
    initialize(module, torch.Generator().manual_seed(0))
    randomize(module, std=0.1)
    return save_bundle(folder, module)


@torch.no_grad()
def trained(base: Base, kind: str | None, settings: Settings) -> Any:
    """The network of a base with an adapter whose numbers are no longer those of its start."""
    module: Any = base.network()
    generator = torch.Generator().manual_seed(1)
    if kind is not None:
        chosen: Any = family(module.config.family)
        module = with_head(module, chosen.labelled(kind, LABELS), generator)
    Lora(settings).apply(module, generator)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.1, generator=generator)
    return module.eval()


@torch.no_grad()
def our_logits(lm: LanguageModel) -> Tensor:
    if lm.config.head.kind == "none":
        layout = Layout.of([IDS.size(1)])
        hidden: Tensor = lm.module(IDS[0], layout)  # type: ignore[call-arg]
        return hidden[None]
    if lm.config.shape == "encoder-decoder":
        return lm.logits(IDS, decoder_input_ids=IDS.flip(1))
    return lm.logits(IDS)


def their_class(head: str, shape: str) -> Any:
    if shape == "encoder-decoder":
        return transformers.AutoModelForSeq2SeqLM
    return getattr(transformers, CLASSES[head])


@torch.no_grad()
def their_logits(model: Any, shape: str, head: str) -> Tensor:
    both = {"decoder_input_ids": IDS.flip(1)} if shape == "encoder-decoder" else {}
    output = model.eval()(input_ids=IDS, **both)
    return output.last_hidden_state if head == "none" else output.logits  # type: ignore[no-any-return]


def their_base(path: Path, head: str, shape: str) -> Any:
    more = {"num_labels": len(LABELS)} if head in ("classification", "tagging") else {}
    if shape == "decoder" and more:
        more["pad_token_id"] = 0
    return their_class(head, shape).from_pretrained(path, **more).eval()
