"""The examples that a run begins with, and what an objective makes of a text, told for people."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from seedbed.base.errors import ConfigError, UsageError
from seedbed.base.files import write_file
from seedbed.data.loader import Loader
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record
from seedbed.data.shown import Shown, show_example
from seedbed.data.vocabulary import Vocabulary
from seedbed.report.run_files import EXAMPLES
from seedbed.runs.prepared import Prepared
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.run_folder import RunFolder

NUM_KEPT = 3  # examples that a run writes down for its report
MOST_TOKENS = 512  # of a text that an objective is shown on


def first_examples(prepared: Prepared, num: int, *, seed: int) -> list[Shown]:
    """The first examples of a run, in the order that it reads them whatever the size of its steps."""
    loader = Loader(prepared.mixture, batch_tokens=1, seed=seed)  # a step has one example at least
    examples = [example for _ in range(num) for example in loader.next_step()]
    in_place, labels = prepared.config.shape == "encoder", prepared.config.head.labels
    tokenizer = prepared.tokenizer
    return [show_example(each, tokenizer, in_place=in_place, labels=labels) for each in examples]


def write_examples(examples: Sequence[Shown], run: RunFolder) -> None:
    """Put examples into a run's folder, where its report finds them."""
    told = json.dumps({"examples": [example.to_dict() for example in examples]}, ensure_ascii=False)
    write_file(run.path / EXAMPLES, told.encode("utf-8", errors="replace"))


def example_of_text(text: str, tokenizer: Tokenizer, name: str, *, seed: int, start_id: int | None) -> Shown:
    """What an objective with its usual settings makes of a text as a whole document.

    `start_id` is what the decoder of an encoder-decoder begins with; where no model says, the padding or the
    end token. Errors: ConfigError where the tokenizer lacks what the objective needs, UsageError for a text
    of fewer than two tokens or more than MOST_TOKENS, and for objectives that learn from labelled records.
    """
    kind = OBJECTIVES.get(name)
    if kind.learns_from != "text":
        raise UsageError(
            f"the objective {name} learns from labelled records, not from a text alone; see its examples "
            "with seedbed pretrain DATA --show 3"
        )
    ids = tokenizer.encode(text)
    if not 2 <= len(ids) <= MOST_TOKENS:
        raise UsageError(f"the text has {len(ids)} tokens; allowed are 2 to {MOST_TOKENS}")
    if "encoder-decoder" not in kind.shapes:
        start_id = None
    elif start_id is None:
        start_id = tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id
    objective = kind(Vocabulary.of(tokenizer, decoder_start_id=start_id), kind.settings_class())
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    record = Record(np.array([*ids, *end], dtype=np.int64), (0, 0))
    _require_sentinels(objective, len(record.ids))
    return show_example(objective.example(record, seed), tokenizer, in_place=kind.shapes == ("encoder",))


def _require_sentinels(objective: Objective, num_tokens: int) -> None:
    """Refuse a text with more gaps than the tokenizer has sentinels."""
    try:
        objective.record_tokens(max(16, num_tokens))
    except ConfigError as error:
        raise UsageError(f"the text is too long for this tokenizer's sentinels: {error}") from None
