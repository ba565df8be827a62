"""Which objective a run has, what it learns from and what it is measured on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.hub.locate import locate
from seedbed.runs.settings import ModelSettings, RunSettings
from seedbed.base.errors import ConfigError, SeedbedWarning
from seedbed.base.runtime import derive_seed
from seedbed.base.settings import layered, load_settings
from seedbed.data.corpora import LearnsFrom
from seedbed.data.loader import MixturePart
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.prepare import PreparedData
from seedbed.data.records import PairSource, Source, TokenSource
from seedbed.data.vocabulary import Vocabulary
from seedbed.hub.bundle import read_config, read_named_tokens
from seedbed.models.family import Config
from seedbed.models.network import FAMILIES, family
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.evaluation import Validation
from seedbed.training.settings import TrainingSettings


class Learning(NamedTuple):
    """What a run trains with: the mixture, and what is held out."""

    mixture: list[MixturePart]
    validation: Validation


def load_run_settings(*layers: Mapping[str, Any] | Path, overrides: Sequence[str] = ()) -> RunSettings:
    """A run's settings; `[objective]` has the keys of the objective that it names, else of the family's.

    Where no optimizer is named, the family's own settings of the training lie under all layers.
    """
    tree = layered(*layers, overrides=overrides)
    own = family(_family_of(tree.get("model", {})))
    name = tree.get("objective", {}).get("name") or own.objective
    under = {} if "optimizer" in tree.get("training", {}) else {"training": own.training}
    return load_settings(_schema(str(name)), under, *layers, overrides=overrides)


def _family_of(model: Mapping[str, Any]) -> str:
    """The family of a `[model]` table: its base's, the one that it names, or the one of a run without any."""
    if (base := model.get("base")) is not None:
        return read_config(locate(str(base), weights=False)).family
    return str(model.get("family", ModelSettings.family))


@cache
def _schema(objective: str) -> type[RunSettings]:
    settings_class = OBJECTIVES.get(objective).settings_class
    own = [("objective", settings_class, field(default_factory=settings_class))]
    return make_dataclass("RunSettings", own, bases=(RunSettings,), frozen=True, kw_only=True)


def learns_from(settings: Any) -> LearnsFrom:
    """What the records of an `[objective]` table's objective are."""
    return OBJECTIVES.get(settings.name).learns_from


def objective_for(settings: Any, vocabulary: Vocabulary) -> Objective:
    """The objective of an `[objective]` table over a vocabulary."""
    return OBJECTIVES.get(settings.name)(vocabulary, settings)


def decoder_start_id(config: Config, base: str | None = None) -> int | None:
    """What a decoder reads first after an encoder, as the base's files say or its family's.

    None in networks that are no encoder-decoders.
    """
    if config.shape != "encoder-decoder":
        return None
    named = named_tokens(base)
    if "decoder_start_token_id" in named:
        return named["decoder_start_token_id"]
    return int(family(config.family).write_config(config)["decoder_start_token_id"])


def named_tokens(base: str | None) -> dict[str, int]:
    """The tokens that a base's answers begin and end with, as its files name them."""
    return {} if base is None else read_named_tokens(locate(base, weights=False))


def vocabulary_of(tokenizer: Tokenizer, config: Config, base: str | None = None) -> Vocabulary:
    """What an objective for a network, perhaps one that goes on from a base, knows of its tokenizer."""
    return Vocabulary.of(tokenizer, decoder_start_id=decoder_start_id(config, base))


def require_fitting(config: Config, objective: str) -> Config:
    """Refuse an objective that cannot train networks of this shape or head -> the config."""
    chosen = OBJECTIVES.get(objective)
    if config.head.labels and chosen.head_kind is None:
        raise ConfigError(
            f"the objective {objective} trains tokens, but this network's head gives the labels "
            f"{', '.join(config.head.labels[:3])}; take the model without that head"
        )
    if _fits(config, chosen):
        return config
    own = family(config.family).objective
    others = [name for name in FAMILIES.names() if _fits(family(name).sized(64, 1), chosen)]
    shapes = " or ".join(f"{'an' if shape[0] == 'e' else 'a'} {shape}" for shape in chosen.shapes)
    if config.shape in chosen.shapes and chosen.head_kind is not None:
        shapes, what = f"{shapes} with a {chosen.head_kind} head", "has no published class with one"
    elif config.shape in chosen.shapes:
        shapes, what = (
            f"{shapes} with a {' or '.join(chosen.heads)} head",
            f"has the head {config.head.kind!r}",
        )
    else:
        what = f"is a{'n' if config.shape[0] == 'e' else ''} {config.shape}"
    raise ConfigError(
        f"the objective {objective} trains {shapes}, but {config.family} {what}; leave the objective out for "
        f"its own, {own}, or choose a family of {', '.join(others)}"
    )


def _fits(config: Config, objective: type[Objective]) -> bool:
    kind = objective.head_kind
    if kind is None:
        return config.shape in objective.shapes and config.head.kind in objective.heads
    return config.shape in objective.shapes and kind in family(config.family).architectures


def mixture_of(objective: Objective, prepared: PreparedData, training: TrainingSettings) -> list[MixturePart]:
    """The records of a run, with what is learnt from each."""
    return [
        MixturePart(source_for(part, prepared, training, number=number), part, share)
        for number, (part, share) in enumerate(objective.mixture())
    ]


def learning(objective: Objective, prepared: PreparedData, training: TrainingSettings) -> Learning:
    """The records of a run, trained on by turns where the objective is a mixture, and those held out.

    Warns of labelled records that are cut or left out. Held-out records are measured by the objective itself.
    """
    mixture = mixture_of(objective, prepared, training)
    held_out = source_for(objective, prepared, training, validates=True)
    num_bytes = prepared.validation.num_bytes if objective.reads_text_once else None
    for part in mixture:
        if isinstance(part.source, PairSource):
            _tell_of_length(part.source, training.context_tokens)
    return Learning(mixture, Validation(held_out, objective, num_bytes))


def source_for(
    objective: Objective,
    prepared: PreparedData,
    training: TrainingSettings,
    *,
    validates: bool = False,
    number: int = 0,
) -> Source:
    """The records of one part of a mixture, or those held out."""
    context = training.context_tokens
    seed = derive_seed(training.seed, f"part {number}") if number else training.seed
    shard = prepared.validation if validates else prepared.train
    if objective.learns_from == "text":
        return TokenSource(
            shard,
            context_tokens=objective.record_tokens(context),
            seed=seed,
            shuffle=not validates,
            overlap=objective.overlap,
            cut_anew=objective.cut_anew,
        )
    answers = prepared.validation_answers if validates else prepared.train_answers
    assert answers is not None
    room = objective.input_room(answers.lengths, context)
    cuts = objective.learns_from == "tags"
    return PairSource(shard, answers, room=room, seed=seed, shuffle=not validates, cuts_answers=cuts)


def _tell_of_length(source: PairSource, context_tokens: int) -> None:
    total = source.inputs.num_documents
    for count, what in (
        (source.num_cut, "lose the end of their input"),
        (source.num_left_out, "are left out"),
    ):
        if count:
            warnings.warn(
                f"{count:,} of {total:,} labelled records do not fit into training.context_tokens="
                f"{context_tokens} and {what}; raise it to have them whole",
                SeedbedWarning,
                stacklevel=3,
            )
