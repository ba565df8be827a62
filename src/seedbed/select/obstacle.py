"""What of a training does not fit in this machine's memory, and what would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seedbed.base.hardware import Hardware
from seedbed.base.runtime import Runtime
from seedbed.base.units import bytes_text
from seedbed.data.loader import MixturePart
from seedbed.models.family import Network
from seedbed.models.network import family, parameter_count
from seedbed.select.layers import outline_of
from seedbed.select.rehearsal import outlined_parts
from seedbed.select.samples import SampledBatches
from seedbed.training.settings import TrainingSettings

DEPTHS = (4, 8)  # of an outline for a sentence that says "about"
BESIDE = ("data", "libraries", "allocator")  # parts that are not tensors


def obstacle_of(
    parts: Mapping[str, int],
    network: Network,
    training: TrainingSettings,
    *,
    mixture: Sequence[MixturePart],
    hardware: Hardware,
    runtime: Runtime,
) -> str:
    """A sentence on what is needed and what would fit; empty if the training fits in the free memory."""
    available, needed = hardware.available_bytes, sum(parts.values())
    if not available or needed <= available or runtime.device.type != "cpu":
        return ""
    beside = sum(parts.get(part, 0) for part in BESIDE)
    transient = needed - beside - parts["weights"] - parts["optimizer"]
    slack = parts.get("allocator", 0) / max(1, transient)
    steps: dict[str, Any] = {"micro_batch_tokens": training.context_tokens, "checkpoint_activations": True}
    steps |= {"optimizer": "adafactor"}
    steps = {name: value for name, value in steps.items() if getattr(training, name) != value}
    outline = outline_of(network)

    def needed_with(changes: Mapping[str, Any]) -> int:
        smaller = replace(training, **changes)
        sampled = SampledBatches(mixture, smaller, runtime)
        tensors, _ = outlined_parts(
            outline,
            batch=sampled.batches(sampled.max_tokens)[0],
            training=smaller,
            precision=runtime.precision,
            objective=mixture[0].objective,
            repeat=sampled.num_micro_batches > 1,
            depths=DEPTHS,
        )
        kept_bytes = tensors["weights"] + tensors["optimizer"]
        own = sum(tensors.values())
        return int(own + slack * (own - kept_bytes)) + beside - parts.get("allocator", 0)

    changes = steps
    found = needed_with(changes) if changes else needed
    if found <= available:  # with all of them: fewer may do
        few = [dict([*steps.items()][:number]) for number in range(1, len(steps))]
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
