"""What the machine decides before step 1, once: the precision, and the steps that a budget pays for."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from seedbed.base.errors import HardwareError
from seedbed.base.hardware import Hardware, ResidentPeak, disk_free_bytes, probe
from seedbed.base.runtime import Runtime
from seedbed.base.units import bytes_text
from seedbed.data.objective import OBJECTIVES
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.family import Config, Network
from seedbed.runs.heads import STAND_IN_LABELS, with_labels
from seedbed.runs.objectives import require_matching_family
from seedbed.runs.prepared import Prepared
from seedbed.runs.settings import RunSettings, decided
from seedbed.runs.start import Start
from seedbed.select.decoding import plan_generation
from seedbed.select.plan import Plan, plan_training
from seedbed.training.run_folder import RunFolder

# Of a budget: the rest is for a machine that is slower than when it was measured, and for the bundle.
BUDGET_SHARE = 0.85
FEWEST_STEPS = 50
EVALUATION_SHARE = 0.1


def decide(
    asked: RunSettings,
    start: Start,
    prepared: Prepared,
    *,
    run: RunFolder,
    runtime: Runtime,
    resident: ResidentPeak,
) -> tuple[RunSettings, Plan]:
    """The settings with nothing left open, and the plan; on resume what was decided then stays, unmeasured.

    Errors: HardwareError where memory or disk cannot hold the run.
    """
    saved = run.saved_settings()
    then = {} if saved is None else saved["training"]
    training = asked.training
    precision = training.precision if training.precision != "auto" else then.get("precision", "auto")
    plan = saved_plan(run) if saved is not None else None
    if plan is None:
        precision, plan = _measured(precision, asked, start, prepared, run, runtime, resident)
    settings = decided(asked, precision=precision)
    if training.budget_seconds is not None:
        of_budget = then or _affordable(plan, settings, BUDGET_SHARE * training.budget_seconds)
        names = ("num_steps", "evaluate_every_steps", "checkpoint_every_steps")
        settings = decided(settings, **{name: runtime.broadcast_int(of_budget[name]) for name in names})
        settings.training.require_warmup()
        plan = plan.for_settings(settings.training)
    if saved is None and runtime.is_main:
        _require_room(plan, run.path)
    return settings, plan


def _measured(
    precision: str,
    asked: RunSettings,
    start: Start,
    prepared: Prepared,
    run: RunFolder,
    runtime: Runtime,
    resident: ResidentPeak,
) -> tuple[str, Plan]:
    """The precision, the faster one where it is still open, and the plan with it."""
    hardware = probe()
    resident.lap()
    if precision == "auto" and hardware.precision == "float32":
        precision = "float32"
    plans = {
        kind: plan_run(
            asked,
            start,
            prepared,
            hardware=hardware,
            runtime=replace(runtime, precision=kind),
            folder=run.path,
            resident=resident,
        )
        for kind in (("float32", "bfloat16") if precision == "auto" else (precision,))
    }
    if precision == "auto":  # fast matmuls alone do not make fast steps: both were timed on this shape
        faster = plans["bfloat16"].step_seconds < 0.9 * plans["float32"].step_seconds
        precision = ("float32", "bfloat16")[runtime.broadcast_int(int(faster))]
    return precision, plans[precision].above(resident)


def plan_run(
    settings: RunSettings,
    start: Start,
    prepared: Prepared,
    *,
    hardware: Hardware,
    runtime: Runtime,
    folder: Path,
    resident: ResidentPeak,
) -> Plan:
    """The plan of a run on its own records."""
    training = settings.training
    return plan_training(
        start.outline(prepared.config),
        training,
        hardware=hardware,
        runtime=runtime,
        objective=prepared.objective,
        mixture=prepared.mixture,
        validation_tokens=prepared.validation_tokens(training.seed),
        data_bytes=sum(shard.tokens.nbytes for shard in prepared.data.shards),  # mapped, read at random: all
        resident=resident,
        folder=folder,
    )


def plan_config(
    settings: RunSettings,
    start: Start,
    given: Config | Network | None,
    *,
    runtime: Runtime,
    resident: ResidentPeak,
) -> Plan:
    """The plan of a run whose data is not known, rows as long as the context, two labels; and of its use.

    `given` is the network or its config, None for the one that the settings describe.
    """
    name = settings.objective.name
    network = given if isinstance(given, nn.Module) else None
    given = given.config if isinstance(given, nn.Module) else given
    if given is None:
        vocab_size = settings.tokenizer.vocab_size
        config = start.config(settings, vocab_size=vocab_size, labels=STAND_IN_LABELS)
    else:
        config = with_labels(require_matching_family(given, name), name, given.head.labels or STAND_IN_LABELS)
    start_id, needs = start.decoder_start_id(config), OBJECTIVES.get(name).needs
    vocabulary = Vocabulary.stand_in(config.vocab_size, needs=needs, decoder_start_id=start_id)
    if network is None or network.config != config:
        network = start.outline(config)
    plan = plan_training(
        network,
        settings.training,
        hardware=probe(),
        runtime=runtime,
        objective=OBJECTIVES.get(name)(vocabulary, settings.objective),
        resident=resident,
    )
    context = config.max_positions or settings.training.context_tokens
    used = plan_generation(network, context_tokens=context, runtime=runtime)
    return replace(plan, generation=None if used is None else asdict(used))


def saved_plan(run: RunFolder) -> Plan | None:
    """The plan that the run began with; None where its file is lost or not whole."""
    try:
        saved = json.loads(run.plan_path.read_bytes())
    except (OSError, ValueError):
        return None
    return Plan.from_dict(saved) if isinstance(saved, dict) else None


def _affordable(plan: Plan, settings: RunSettings, seconds: float) -> dict[str, int]:
    """The steps whose training takes so many seconds, with ten checkpoints and two to ten evaluations."""
    num_evaluations = 10
    if plan.evaluation_seconds:
        num_evaluations = max(2, min(10, int(EVALUATION_SHARE * seconds / plan.evaluation_seconds)))

    def every(num_steps: int) -> dict[str, int]:
        evaluate = max(10, -(-num_steps // num_evaluations))
        return {"evaluate_every_steps": evaluate, "checkpoint_every_steps": max(10, num_steps // 10)}

    def cost(num_steps: int) -> float:
        chosen = decided(settings, num_steps=num_steps, **every(num_steps))
        return plan.for_settings(chosen.training).seconds

    num_steps = most_steps(cost, seconds, at_most=int(seconds / plan.step_seconds))
    return {"num_steps": num_steps} | every(num_steps)


def most_steps(cost: Callable[[int], float], seconds: float, *, at_most: int) -> int:
    """The most steps whose `cost` is within `seconds`, but never fewer than FEWEST_STEPS."""
    numbers = range(FEWEST_STEPS, max(FEWEST_STEPS, at_most) + 1)
    return numbers[max(1, bisect_right(numbers, seconds, key=cost)) - 1]


def _require_room(plan: Plan, folder: Path) -> None:
    available = plan.hardware["available_bytes"]
    if available and plan.peak_bytes > available:
        needed, free = bytes_text(plan.peak_bytes), bytes_text(available)
        raise HardwareError(
            f"the run needs about {needed} of memory, and {free} are free; lower "
            "training.micro_batch_tokens, or choose a smaller model"
        )
    free_bytes = disk_free_bytes(folder)
    if plan.disk_bytes > free_bytes:
        needed, free = bytes_text(plan.disk_bytes), bytes_text(free_bytes)
        raise HardwareError(
            f"the run writes about {needed}, and {free} are free at {folder}; free some space, or choose "
            "another folder"
        )
