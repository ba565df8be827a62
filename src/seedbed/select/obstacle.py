"""What of a training does not fit in this machine's memory, and what would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from seedbed.base.units import bytes_text
from seedbed.models.family import Network
from seedbed.models.network import family, parameter_count
from seedbed.select.layers import outline_of
from seedbed.select.measured import MeasuredSteps
from seedbed.select.samples import SampledBatches
from seedbed.select.step_bytes import step_bytes

DEPTHS = (2, 4)  # of an outline for a sentence that says "about"
BESIDE = ("data", "libraries", "allocator")  # parts that are not tensors


@dataclass(frozen=True, kw_only=True)
class Lighter:
    """Another way to begin a training: its network on the meta device, and its precision; empty: the same."""

    outline: Callable[[], Network]
    precision: str = ""


NOTHING: Mapping[str, Lighter] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class _Needs:
    """The memory that a training needs with other settings, from the planned bytes of its own."""

    steps: MeasuredSteps
    beside: int
    slack: float  # of the heap, as a share of the tensors that come and go

    def bytes(self, outline: Network, changes: Mapping[str, Any], precision: str) -> int:
        """About how many bytes a network on the meta device needs with these settings."""
        mixture, smaller = self.steps.mixture, replace(self.steps.training, **changes)
        sampled = SampledBatches(mixture, smaller, self.steps.runtime)
        tensors = step_bytes(
            outline,
            training=smaller,
            sampled=sampled,
            objective=mixture[0].objective,
            precision=precision,
            depths=DEPTHS,
        ).parts
        own, kept_bytes = sum(tensors.values()), tensors["weights"] + tensors["optimizer"]
        return int(own + self.slack * (own - kept_bytes)) + self.beside


def obstacle_of(
    parts: Mapping[str, int],
    steps: MeasuredSteps,
    precision: str,
    lighter: Mapping[str, Lighter] = NOTHING,
) -> str:
    """A sentence on what is needed and what would fit; empty if the training fits in the free memory.

    `parts` are the planned bytes of these steps; `lighter` are other ways to begin, by what selects them.
    """
    available, needed = steps.hardware.available_bytes, sum(parts.values())
    if not available or needed <= available or steps.runtime.device.type != "cpu":
        return ""
    beside, allocator = sum(parts.get(part, 0) for part in BESIDE), parts.get("allocator", 0)
    transient = needed - beside - parts["weights"] - parts["optimizer"]
    needs = _Needs(steps=steps, beside=beside - allocator, slack=allocator / max(1, transient))
    ways = {"": Lighter(outline=lambda: outline_of(steps.network))} if _choices(steps)[1] else {}
    ways |= lighter
    begin = f"the run needs about {bytes_text(needed)} of memory, and {bytes_text(available)} are free"
    fitting: list[str] = []
    least, said = needed, ""
    for name, way in ways.items():
        changes, found = _fewest(needs, way, precision, available, is_own=not name)
        text = " ".join([*([name] if name else []), *_texts(changes)])
        if found <= available:
            fitting.append(f"with {text} {'' if fitting else 'it needs '}about {bytes_text(found)}")
            if name and not changes:  # the ways after it need even less
                break
        elif found <= least:
            least, said = found, text
    if fitting:
        return f"{begin}; {', '.join(fitting)}, or choose a smaller model"
    still = f"with {said} it still needs about {bytes_text(least)}" if said else "no setting makes it fit"
    return f"{begin}; {still}; {_smaller_model(steps.network, least, available)}"


def _fewest(
    needs: _Needs, way: Lighter, precision: str, available: int, *, is_own: bool
) -> tuple[Mapping[str, Any], int]:
    """The fewest changes of settings with which a training fits, else all of them; and what it then needs.

    The planned one `is_own`: without a change it does not fit, whatever this estimate says.
    """
    outline, precision = way.outline(), way.precision or precision
    few, all_of_them = _choices(needs.steps)
    few = few[1:] if is_own else few
    found = needs.bytes(outline, all_of_them, precision)
    if found > available:
        return all_of_them, found
    for changes in few:
        if (less := needs.bytes(outline, changes, precision)) <= available:
            return changes, less
    return all_of_them, found


def _choices(steps: MeasuredSteps) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Nothing, each change that costs little alone, and more of them; then all changes."""
    training = steps.training
    row, micro = training.context_tokens, training.micro_batch_tokens
    smallest: dict[str, Any] = {"micro_batch_tokens": min(row, micro or row)}
    smallest |= {"checkpoint_activations": True, "optimizer": "adafactor"}
    smallest = {name: value for name, value in smallest.items() if getattr(training, name) != value}
    single = [{name: value} for name, value in smallest.items() if name != "optimizer"]
    several = [dict([*smallest.items()][:number]) for number in range(2, len(smallest))]
    return [{}, *single, *several], smallest


def _texts(changes: Mapping[str, Any]) -> list[str]:
    return [f"training.{name}={str(value).lower()}" for name, value in changes.items()]


def _smaller_model(network: Network, needed: int, available: int) -> str:
    """The largest preset of the family that would fit, in proportion to the parameters."""
    counts = {size: parameter_count(config) for size, config in family(network.config.family).presets.items()}
    own = sum(p.numel() for p in network.parameters())
    fitting = {size: n for size, n in counts.items() if needed / own * n <= available and n < own}
    if not fitting:
        return "choose a smaller model"
    return f"{network.config.family}:{max(fitting, key=lambda size: fitting[size])} would fit so"
