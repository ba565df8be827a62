"""The cost of generation: a prompt and some steps through a few layers, with time and memory measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from seedbed.base.hardware import seconds_per_call
from seedbed.base.runtime import Runtime
from seedbed.models.family import Network
from seedbed.models.transformer import Transformer
from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Layout
from seedbed.nn.state import DecodeState
from seedbed.select.layers import narrower, only_layers, outline_of, sample_layers, stand_in
from seedbed.select.ledger import StorageLedger
from seedbed.select.rehearsal import FEW_TOKENS, MAX_BYTES
from seedbed.select.step_bytes import logits_recorded
from seedbed.training.resume import weights_of

PROMPT_TOKENS = 32
TIMING_SECONDS, NUM_STEPS = 0.3, 4  # per try; after each prompt


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The predicted cost of decoding one row greedily: seconds of the prompt, then tokens per second."""

    prompt_tokens: int  # of an encoder-decoder's source
    context_tokens: int
    prompt_seconds: float
    tokens_per_second: float
    bytes: dict[str, int]  # weights, decode_state, logits and activations at `context_tokens`
    peak_bytes: int


def plan_generation(
    network: Network, *, context_tokens: int, runtime: Runtime, prompt_tokens: int = PROMPT_TOKENS
) -> Generation | None:
    """Predict the cost of generation; None if the network does not generate text.

    The prompt is shortened if the context has no room for the timed steps after it.
    """
    prompt_tokens = min(prompt_tokens, context_tokens - NUM_STEPS)
    if network.config.shape == "encoder" or network.config.head.kind != "lm" or prompt_tokens < 1:
        return None
    outline = sketch = outline_of(network)
    weights = {"weights": _weights_bytes(outline)}
    while _weights_bytes(_layers_of(sketch)) > MAX_BYTES:
        if (smaller := narrower(sketch, FEW_TOKENS)) is None:
            break
        sketch = smaller
    chosen = sample_layers(sketch)
    tries = []
    for places in chosen.tries:
        some = network if sketch is outline else sketch
        copy = stand_in(some, [chosen.levels[place] for place in places], runtime).eval()
        tries.append(_decode(copy, prompt_tokens, context_tokens, runtime))
        del copy
    costs = {name: chosen.extrapolate([values[name] for values in tries]) for name in tries[0]}
    # One row is limited by the reading of the weights; keys and values grow with the width.
    larger = weights["weights"] / _weights_bytes(sketch)
    width = outline.config.d_model / sketch.config.d_model
    prompt_seconds, step_seconds = costs.pop("prompt") * larger, costs.pop("step") * larger
    costs["decode_state"] *= _key_numbers(outline) / _key_numbers(sketch)
    costs["logits"] *= outline.config.vocab_size / sketch.config.vocab_size
    costs["activations"] *= width
    parts = weights | {part: int(size) for part, size in costs.items()}
    return Generation(
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
        prompt_seconds=prompt_seconds,
        tokens_per_second=1 / step_seconds,
        bytes=parts,
        peak_bytes=sum(parts.values()),
    )


def _weights_bytes(network: Network) -> int:
    return sum(tensor.nbytes for tensor in weights_of(network).values())


def _key_numbers(network: Network) -> int:
    """The width of what a layer keeps of a token, or of a recurrent row."""
    config = network.config
    return config.kv_heads * config.d_head if isinstance(config, ModelConfig) else config.d_model


def _layers_of(network: Network) -> Network:
    """A network of the layers that are tried, on the meta device."""
    levels = sample_layers(network).levels
    with only_layers(network, levels):
        return outline_of(network)


@torch.inference_mode()
def _decode(module: Network, prompt_tokens: int, context_tokens: int, runtime: Runtime) -> dict[str, float]:
    """Seconds of the prompt and of a step; bytes of the decode state, the logits and the activations."""
    prompt = torch.zeros(prompt_tokens, dtype=torch.int64, device=runtime.device)
    capacity = prompt_tokens + NUM_STEPS
    states: list[DecodeState] = []  # the current one

    def start(capacity: int) -> DecodeState:
        if isinstance(module, Transformer) and module.encoder is not None:
            layout = Layout.of([prompt_tokens], device=runtime.device)
            return module.start(1, capacity, source=prompt, source_layout=layout)
        return module.start(1, capacity)

    def append(num_tokens: int) -> None:
        layout = states[0].layout([num_tokens])
        hidden = module.extend(states[0], prompt[:num_tokens], layout)
        module.output(hidden[layout.last_tokens()]).argmax(-1)

    def read() -> None:
        states[:] = [start(capacity)]
        append(1 if module.config.shape == "encoder-decoder" else prompt_tokens)

    def state_bytes(capacity: int) -> int:
        with StorageLedger("state") as ledger:
            ledger.record(weights_of(module).values(), "weights")
            weights_bytes = ledger.num_bytes
            states[:] = [start(capacity)]
            size: int = ledger.num_bytes - weights_bytes
        return size

    smallest, larger = state_bytes(capacity), state_bytes(capacity + 1)
    states.clear()
    with StorageLedger("activations") as ledger, logits_recorded(module, ledger):
        ledger.record(weights_of(module).values(), "weights")
        read()
    parts = ledger.parts_at_peak()
    prompts: list[float] = []
    steps: list[float] = []
    started = time.perf_counter()
    while not steps or time.perf_counter() - started < TIMING_SECONDS:
        prompts.append(seconds_per_call(read, device=runtime.device))
        steps += [seconds_per_call(partial(append, 1), device=runtime.device) for _ in range(NUM_STEPS)]
    return {
        "prompt": median(prompts),
        "step": median(steps),
        "decode_state": smallest + (larger - smallest) * (context_tokens - capacity),
        "logits": parts.get("logits", 0),
        "activations": max(0, parts["activations"] - smallest),
    }
