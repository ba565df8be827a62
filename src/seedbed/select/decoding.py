"""What a generation costs: a real one of one or two depths, timed, with every tensor accounted for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch

from seedbed.base.runtime import Runtime
from seedbed.models.family import Config, Network
from seedbed.models.network import build, initialize
from seedbed.nn.state import DecodeState
from seedbed.select.ledger import StorageLedger
from seedbed.select.measure import DEPTHS, seconds_of, whole_depth
from seedbed.select.rehearsal import booked_logits
from seedbed.training.frozen import weights_of

NUM_TRIES = 3
TIMED_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Seconds to read the prompts and to make one more token of each row; bytes at the highest moment.

    By part: weights, decode state, logits, activations."""

    prompt: float
    step: float
    bytes: dict[str, int]


def decode_at_depth(
    config: Config, *, num_rows: int, prompt_tokens: int, capacity: int, runtime: Runtime
) -> Decoding:
    """The cost of decoding `num_rows` rows with room for `capacity` tokens, greedily, from two depths."""
    depths = DEPTHS if config.num_layers > DEPTHS[-1] else (config.num_layers,)
    found = []
    for depth in depths:
        module = build(replace(config, num_layers=depth), runtime.device).eval()
        initialize(module, runtime.generator(0))
        found.append(_decode(module, num_rows, prompt_tokens, capacity=capacity, runtime=runtime))
    low, high = found[0], found[-1]

    def whole(least: float, most: float) -> float:
        return whole_depth(least, most, depths, config.num_layers)

    return Decoding(
        prompt=whole(low.prompt, high.prompt),
        step=whole(low.step, high.step),
        bytes={part: int(whole(low.bytes.get(part, 0), size)) for part, size in high.bytes.items()},
    )


def _decode(
    module: Network, num_rows: int, prompt_tokens: int, *, capacity: int, runtime: Runtime
) -> Decoding:
    """The bytes of a first try, the seconds of the prompts and of a step, medians of the others."""

    @torch.inference_mode()
    def append(count: int, state: DecodeState) -> None:
        layout = state.layout([count] * num_rows)
        ids = torch.zeros(num_rows * count, dtype=torch.int64, device=runtime.device)
        with runtime.autocast():
            hidden = module.extend(state, ids, layout)
            module.output(hidden[layout.last_tokens()]).argmax(-1)

    with StorageLedger("activations") as ledger, booked_logits(module, ledger):
        ledger.book(weights_of(module).values(), "weights")
        with ledger.booking("decode_state"):
            state = module.start(num_rows, capacity)
        ledger.begin_peak()
        append(prompt_tokens, state)
        parts = ledger.parts_at_peak()
        del state
    prompts, steps = [], []
    for _ in range(NUM_TRIES):
        state = module.start(num_rows, capacity)
        prompts.append(seconds_of(partial(append, prompt_tokens, state), runtime))
        for _ in range(min(TIMED_STEPS, capacity - prompt_tokens)):
            steps.append(seconds_of(partial(append, 1, state), runtime))
    return Decoding(prompt=median(prompts), step=median(steps), bytes=parts)
