"""What of a training does not fit in this machine's memory, and what would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.base.units import bytes_text
from seedbed.models.network import family, parameter_count
from seedbed.select.layers import outline_of
from seedbed.select.measured import MeasuredSteps
from seedbed.select.samples import SampledBatches
from seedbed.select.step_bytes import step_bytes

DEPTHS = (2, 4)  # of an outline for a sentence that says "about"
BESIDE = ("data", "libraries", "allocator")  # parts that are not tensors


def obstacle_of(parts: Mapping[str, int], steps: MeasuredSteps, precision: str) -> str:
    """A sentence on what is needed and what would fit; empty if the training fits in the free memory.

    `parts` are the planned bytes of these steps.
    """
    network, training, mixture = steps.network, steps.training, steps.mixture
    available, needed = steps.hardware.available_bytes, sum(parts.values())
    if not available or needed <= available or steps.runtime.device.type != "cpu":
        return ""
    beside = sum(parts.get(part, 0) for part in BESIDE)
    transient = needed - beside - parts["weights"] - parts["optimizer"]
    slack = parts.get("allocator", 0) / max(1, transient)
    smallest: dict[str, Any] = {"micro_batch_tokens": training.context_tokens, "checkpoint_activations": True}
    smallest |= {"optimizer": "adafactor"}
    smallest = {name: value for name, value in smallest.items() if getattr(training, name) != value}
    outline = outline_of(network)

    def needed_with(changes: Mapping[str, Any]) -> int:
        smaller = replace(training, **changes)
        sampled = SampledBatches(mixture, smaller, steps.runtime)
        tensors = step_bytes(
            outline,
            training=smaller,
            sampled=sampled,
            objective=mixture[0].objective,
            precision=precision,
            depths=DEPTHS,
        ).parts
        kept_bytes = tensors["weights"] + tensors["optimizer"]
        own = sum(tensors.values())
        return int(own + slack * (own - kept_bytes)) + beside - parts.get("allocator", 0)

    changes = smallest
    found = needed_with(changes) if changes else needed
    if found <= available:  # with all of them: fewer may do
        few = [dict([*smallest.items()][:number]) for number in range(1, len(smallest))]
        changes, found = next(
            ((some, size) for some in few if (size := needed_with(some)) <= available), (changes, found)
        )
    begin = f"the run needs about {bytes_text(needed)} of memory, and {bytes_text(available)} are free"
    settings = " ".join(f"training.{name}={str(value).lower()}" for name, value in changes.items())
    if found <= available:
        return f"{begin}; with {settings} it needs about {bytes_text(found)}, or choose a smaller model"
    counts = {size: parameter_count(config) for size, config in family(network.config.family).presets.items()}
    own_count = sum(p.numel() for p in network.parameters())
    # The least of the settings above, in proportion to the parameters.
    fitting = {size: n for size, n in counts.items() if found / own_count * n <= available and n < own_count}
    smaller_one = f"{network.config.family}:{max(fitting, key=lambda size: fitting[size])}" if fitting else ""
    advice = f"{smaller_one} would fit so" if smaller_one else "choose a smaller model"
    return f"{begin}; with {settings} it still needs about {bytes_text(found)}; {advice}"
