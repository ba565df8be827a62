"""The settings of a model's own, from its `generation_config.json`, and what stands in where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.generation.settings import GenerationSettings, Sampling, named_settings

# Where a model's files have no settings for sampling: 20 questions to SmolLM2 135M (docs/LOG.md, issue 21).
DEFAULTS = {"temperature": 0.7, "top_p": 0.9}
# Settings that change answers and have no counterpart here, with their neutral values.
UNKNOWN: dict[str, Any] = {
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
}
SEARCH = ("num_beams", "length_penalty", "early_stopping")
ALWAYS = ("repetition_penalty", "no_repeat_ngram_size")


def own_settings(generation: Mapping[str, Any], *, searches: bool = True) -> dict[str, Any]:
    """The settings of ours that the file has: for a search, if it `searches`, or for sampling, or neither.

    `do_sample` false is greedy; without it, settings for sampling are meant as they are.
    """
    has = {name: value for name, value in generation.items() if value is not None}
    samples = has.get("do_sample")
    names: tuple[str, ...] = ALWAYS
    if searches and not samples and has.get("num_beams", 1) > 1:
        names = (*ALWAYS, *SEARCH)
    elif samples is not False:
        names = (*ALWAYS, *Sampling._fields)
    found = {name: has[name] for name in names if name in has}
    if samples is False and "num_beams" not in found:
        found["temperature"] = 0.0
    elif samples and "temperature" not in found:
        found["temperature"] = 1.0
    return found


def completed(settings: GenerationSettings, generation: Mapping[str, Any]) -> GenerationSettings:
    """The settings with the model's own where they have None, without its search where one of them samples.

    Where neither the files nor the settings say how to sample, it is as in DEFAULTS.
    """
    given = {name for name, _, _ in named_settings() if getattr(settings, name) is not None}
    own = own_settings(generation)
    beams = own.get("num_beams", 1) if settings.num_beams is None else settings.num_beams
    if settings.num_beams is None and (settings.samples or settings.num_samples > beams):
        beams = 1
    names = (*ALWAYS, *(SEARCH if beams > 1 else Sampling._fields))
    if beams == 1:
        own = own_settings(generation, searches=False)
        wants_several = settings.num_samples > 1 or bool(given.intersection(Sampling._fields[1:]))
        is_greedy = own.get("temperature") == 0 and (wants_several or "temperature" in given)
        if is_greedy or not own.keys() & {*Sampling._fields}:
            filters = {} if given.intersection(Sampling._fields) else DEFAULTS
            own |= {"temperature": DEFAULTS["temperature"]} | filters
    changes = {name: own[name] for name in names if name not in given and name in own}
    if beams == 1 and changes.get("temperature", settings.temperature) == 0:
        changes = {name: value for name, value in changes.items() if name not in Sampling._fields[1:]}
    return replace(settings, **changes | {"num_beams": beams})


def unknown_settings(generation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the file that change answers in other tools, and are not supported here."""
    unknown = {
        name: generation[name]
        for name, neutral in UNKNOWN.items()
        if generation.get(name) is not None and generation[name] != neutral
    }
    if generation.get("do_sample") and (generation.get("num_beams") or 1) > 1:
        unknown |= {"num_beams": generation["num_beams"], "do_sample": True}
    return unknown


def own_length(generation: Mapping[str, Any], *, is_source: bool) -> int | None:
    """The number of new tokens that the file recommends.

    With `is_source` an encoder reads the prompt, so `max_length` counts the answer's tokens and its start
    token; elsewhere it counts the prompt too and says nothing about max_new_tokens.
    """
    length, whole = generation.get("max_new_tokens"), generation.get("max_length")
    return whole - 1 if length is None and whole is not None and is_source else length
