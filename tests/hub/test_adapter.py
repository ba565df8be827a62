"""Adapters on disk: the `peft` library loads ours, and we load its, with equal logits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.hub.adapters import LABELS, our_logits, save_base, their_base, their_logits, trained

import peft
import seedbed
from seedbed.base.errors import BundleError
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.adapter import save_adapter
from seedbed.hub.base import Base
from seedbed.models.network import family, with_head
from seedbed.peft.lora import Lora, Settings

# The library's own: it uses a name of `transformers` that is deprecated, and it warns of its defaults.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# The base's family and head, and the kind of head that the adapter adds.
CASES: dict[str, tuple[str, str, str | None]] = {
    "gpt2": ("gpt2", "lm", None),
    "llama": ("llama", "lm", None),
    "bert": ("bert", "none", None),
    "bert classification": ("bert", "none", "classification"),
    "roberta classification": ("roberta", "none", "classification"),
    "gpt2 tagging": ("gpt2", "lm", "tagging"),
    "t5": ("t5", "lm", None),
    "bloom": ("bloom", "lm", None),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Base, str, str | None]:
    name, head, kind = CASES[request.param]
    path = save_base(tmp_path / "base", name, head)
    return Base.open(path), head, kind


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_our_folder(case: tuple[Base, str, str | None], rslora: bool, tmp_path: Path) -> None:
    base, head, kind = case
    settings = Settings(rank=4, alpha=6.0, rslora=rslora)
    module = trained(base, kind, settings)
    path = save_adapter(tmp_path / "adapter", module, settings, base=base)
    expected = our_logits(LanguageModel(module))
    plain = their_base(base.path, kind or head, base.config.shape)
    before = their_logits(plain, base.config.shape, kind or head)
    model = peft.PeftModel.from_pretrained(plain, path)
    torch.testing.assert_close(their_logits(model, base.config.shape, kind or head), expected, **CLOSE)
    assert (before - expected).abs().max() > 1e-2
    ours = seedbed.load(path)
    torch.testing.assert_close(our_logits(ours), expected, rtol=0, atol=0)
    assert ours.config.head.labels == (LABELS if kind else ())


@pytest.mark.parametrize("how", ["plain", "patterns", "rslora"])
def test_we_load_a_folder_of_peft(case: tuple[Base, str, str | None], how: str, tmp_path: Path) -> None:
    base, head, kind = case
    shape = base.config.shape
    names = {
        "gpt2": ["c_attn", "c_fc"],
        "llama": ["q_proj", "v_proj", "down_proj"],
        "bert": ["query", "dense"],
    }
    names |= {"t5": ["q", "wo"], "bloom": ["query_key_value", "dense_4h_to_h"], "roberta": ["query", "value"]}
    targets = names[base.config.family]
    patterns = {"rank_pattern": {targets[0]: 2}, "alpha_pattern": {rf".*1\..*\.{targets[0]}": 5}}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=7,
        target_modules=targets,
        task_type={"classification": "SEQ_CLS", "tagging": "TOKEN_CLS"}.get(kind or head),
        use_rslora=how == "rslora",
        **(patterns if how == "patterns" else {}),
    )
    plain = their_base(base.path, kind or head, shape)
    model = peft.get_peft_model(plain, config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2, generator=generator)
    model.save_pretrained(tmp_path / "theirs")
    lm = seedbed.load(base.path, adapter=tmp_path / "theirs")
    torch.testing.assert_close(our_logits(lm), their_logits(model, shape, kind or head), **CLOSE)
    lm.save(tmp_path / "ours")
    again = seedbed.load(tmp_path / "ours")
    torch.testing.assert_close(our_logits(again), our_logits(lm), rtol=0, atol=0)
    theirs = peft.PeftModel.from_pretrained(their_base(base.path, kind or head, shape), tmp_path / "ours")
    torch.testing.assert_close(their_logits(theirs, shape, kind or head), our_logits(lm), **CLOSE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"target_modules": ["wte"]}, "LoRA on an embedding"),
        ({"modules_to_save": ["wte"]}, "modules_to_save"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    ],
)
def test_what_is_not_supported_of_peft_is_one_line(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", "gpt2", "lm")
    config = peft.LoraConfig(**{"r": 2, "target_modules": ["c_attn"]} | settings)
    model = peft.get_peft_model(their_base(base, "lm", "decoder"), config)
    model.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    with pytest.raises(BundleError, match=said) as caught:
        seedbed.load(base, adapter=tmp_path / "theirs")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("labels", "several"), [(("a", "b"), True), (("score",), False)])
def test_the_kind_of_labels_is_stored(labels: tuple[str, ...], several: bool, tmp_path: Path) -> None:
    base = Base.open(save_base(tmp_path / "base", "bert", "none"))
    head = replace(family("bert").labelled("classification", labels), several_labels=several)
    settings, generator = Settings(rank=2), torch.Generator().manual_seed(0)
    module = with_head(base.network(), head, generator)
    Lora(settings).apply(module, generator)
    path = save_adapter(tmp_path / "adapter", module, settings, base=base)
    assert Base.open(path).config.head == seedbed.load(path).config.head == head


def test_names_are_read_with_and_without_the_prefix_of_the_family(tmp_path: Path) -> None:
    base = Base.open(save_base(tmp_path / "base", "bert", "none"))
    settings = Settings(rank=2, targets="query, attention.output.dense")
    path = save_adapter(tmp_path / "adapter", trained(base, None, settings), settings, base=base)
    file = path / "adapter_model.safetensors"
    expected, tensors = our_logits(seedbed.load(path)), load_file(file)
    assert all(name.startswith("base_model.model.encoder.layer.") for name in tensors)
    with_prefix = {name.replace(".model.", ".model.bert."): tensor for name, tensor in tensors.items()}
    save_file(with_prefix, file)
    torch.testing.assert_close(our_logits(seedbed.load(path)), expected, rtol=0, atol=0)


def test_a_masked_model_is_a_base_of_an_encoder_s_adapter(tmp_path: Path) -> None:
    """A new pooler is in the adapter; a file without it is refused where the base has none."""
    base = Base.open(save_base(tmp_path / "base", "bert", "mlm"))
    settings = Settings(rank=2)
    path = save_adapter(tmp_path / "adapter", trained(base, "classification", settings), settings, base=base)
    file = path / "adapter_model.safetensors"
    tensors = load_file(file)
    assert "base_model.model.bert.pooler.dense.weight" in tensors
    assert seedbed.load(path).config.head.labels == LABELS
    kept = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(kept, file, metadata=metadata)
    with pytest.raises(BundleError, match=r"lacks bert\.pooler\.dense\.weight of its head"):
        seedbed.load(path)
