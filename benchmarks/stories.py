"""The 260K LLaMA of llama2.c, in its own binary layout, on our core: published logits, published story.

    python -m benchmarks.stories ../shared/data/weights-stories260K

The file is 7 int32 (d_model, d_ff, layers, heads, key/value heads, vocabulary, context) and float32 weights,
its rotary pairs side by side. With --save it becomes a bundle.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import seedbed
from seedbed.models.families import llama
from seedbed.models.network import build, import_tensors
from seedbed.nn.config import ModelConfig

PUBLISHED = {403: 17.0235, 385: 15.4062, 410: 13.1083, 317: 12.7692, 407: 12.4181}
BEGIN, END = 1, 2


def read(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config, and the tensors by their names in `LlamaForCausalLM`."""
    raw = (folder / "stories260K.bin").read_bytes()
    d_model, d_ff, num_layers, num_heads, kv_heads, vocab_size, context = np.frombuffer(
        raw, "<i4", 7
    ).tolist()
    tied, vocab_size = vocab_size > 0, abs(vocab_size)
    config = llama.read_config(
        {
            "vocab_size": vocab_size,
            "hidden_size": d_model,
            "intermediate_size": d_ff,
            "num_hidden_layers": num_layers,
            "num_attention_heads": num_heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "tie_word_embeddings": tied,
        }
    )
    numbers, at = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy()), 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return numbers[at - size : at].view(shape)

    d_kv = d_model // num_heads * kv_heads
    stacked: dict[str, Any] = {}
    tensors = {"model.embed_tokens.weight": take(vocab_size, d_model)}
    for name, shape in (
        ("input_layernorm", (d_model,)),
        ("self_attn.q_proj", (d_model, d_model)),
        ("self_attn.k_proj", (d_kv, d_model)),
        ("self_attn.v_proj", (d_kv, d_model)),
        ("self_attn.o_proj", (d_model, d_model)),
        ("post_attention_layernorm", (d_model,)),
        ("mlp.gate_proj", (d_ff, d_model)),
        ("mlp.down_proj", (d_model, d_ff)),
        ("mlp.up_proj", (d_ff, d_model)),
    ):
        stacked[name] = take(num_layers, *shape)
    for name, heads in (("self_attn.q_proj", num_heads), ("self_attn.k_proj", kv_heads)):
        pairs = stacked[name].unflatten(1, (heads, -1, 2))
        stacked[name] = pairs.transpose(2, 3).flatten(1, 3)
    tensors["model.norm.weight"] = take(d_model)
    for name, layers in stacked.items():
        tensors |= {f"model.layers.{i}.{name}.weight": layers[i] for i in range(num_layers)}
    return config, tensors


def token_texts(folder: Path) -> list[str]:
    """Return the text of each of the 512 tokens: a float32 score, an int32 length and the bytes of each."""
    raw, at, found = (folder / "tok512.bin").read_bytes(), 4, []
    while at < len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "little")
        found.append(raw[at + 8 : at + 8 + size].decode())
        at += 8 + size
    return found


def main() -> None:
    """Print the five largest logits beside the published ones, and the greedy story."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder of stories260K.bin and tok512.bin")
    parser.add_argument("--tokens", type=int, default=120, help="tokens of the story")
    parser.add_argument("--save", type=Path, help="write a bundle to this folder")
    arguments = parser.parse_args()
    config, tensors = read(arguments.folder)
    module = build(config).eval()
    with torch.no_grad():
        import_tensors(module, tensors)
    lm = seedbed.LanguageModel(module)
    print(f"{sum(p.numel() for p in module.parameters()):,} parameters")
    values, ids = lm.logits(torch.tensor([[BEGIN]]))[0, 0].topk(5)
    for token, value in zip(ids.tolist(), values.tolist(), strict=True):
        print(f"token {token}: {value:.4f}, published {PUBLISHED.get(token, float('nan')):.4f}")
    worst = max(abs(v - PUBLISHED[i]) for i, v in zip(ids.tolist(), values.tolist(), strict=True))
    print(f"largest difference {worst:.1e}")
    texts = token_texts(arguments.folder)
    story = lm.generate([BEGIN], arguments.tokens, temperature=0.0, eos_ids=(BEGIN, END)).token_ids
    print("".join(texts[i] for i in story if i > END).strip())
    if arguments.save:
        lm.save(arguments.save)


if __name__ == "__main__":
    main()
