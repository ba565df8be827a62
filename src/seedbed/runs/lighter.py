"""Other ways to begin a run from a base that need less memory, for a plan that does not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from seedbed.models.adapter import METHODS
from seedbed.models.family import Config, Network
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start
from seedbed.runs.tuning import METHOD, adapting
from seedbed.select.obstacle import Lighter


def lighter_ways(settings: RunSettings, start: Start, config: Config) -> dict[str, Lighter]:
    """An adapter in place of all weights, and a base in bfloat16 beside one, by the words that select them.

    A run from scratch has none.
    """
    if settings.peft is None and (start.base is None or start.modify is not None):
        return {}
    peft, flag = settings.peft, ""
    if peft is None:
        peft, flag = METHODS.get(METHOD).settings_class(), f"--peft {METHOD}"
    adapted = replace(start, modify=adapting(replace(settings, peft=peft)))
    found = {flag: Lighter(outline=partial(_outline, adapted, config))} if flag else {}
    if start.dtype == "float32":
        half = replace(adapted, dtype="bfloat16")
        words = f"{flag} model.dtype=bfloat16".strip()
        found[words] = Lighter(outline=partial(_outline, half, config), precision="bfloat16")
    return found


def _outline(start: Start, config: Config) -> Network:
    return start.outline(config).train()
