"""Training examples as tokens for people, whatever shows them: a terminal, a report, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from seedbed.base.errors import ConfigError, UsageError
from seedbed.data.batch import Example
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.text.sentencepiece_model import METASPACE
from seedbed.text.tokenizer import Tokenizer

MAX_TEXT_TOKENS = 512  # of a text that `example_of_text` takes
Kind = Literal["text", "control", "sentinel", "mask", "unknown"]
Role = Literal["read", "target", "masked", "replaced", "kept"]


class ShownToken(NamedTuple):
    """One token: its id, its name, its text, its kind and its role.

    `text` is the name unless `kind` is "text". `role`: read only, a target itself, or at a position where
    `answer` must be predicted: masked, replaced, or kept.
    """

    id: int
    token: str
    text: str
    kind: Kind
    role: Role = "read"
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An example: `reads` are the tokens of an encoder, `writes` those of a decoder, empty without one.

    `label` is that of the row as a whole, if it has one.
    """

    reads: tuple[ShownToken, ...]
    writes: tuple[ShownToken, ...]
    num_tokens: int
    num_targets: int
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        sides = {name: [token._asdict() for token in getattr(self, name)] for name in ("reads", "writes")}
        return asdict(self) | sides


def show_tokens(ids: Iterable[int], tokenizer: Tokenizer) -> list[ShownToken]:
    """The tokens in order; their texts, joined, are the decoded text.

    A character of several tokens is the text of the last one.
    """
    stream, shown = tokenizer.stream(), []
    for token_id in ids:
        kind = _kind(token_id, tokenizer)
        name = _name(token_id, tokenizer)
        text = stream.push(token_id)
        shown.append(ShownToken(token_id, name, text if kind == "text" else name, kind))
    if (rest := stream.flush()) and shown:
        last = max((i for i, token in enumerate(shown) if token.kind == "text"), default=0)
        shown[last] = shown[last]._replace(text=shown[last].text + rest)
    return shown


def show_example(
    example: Example, tokenizer: Tokenizer, *, in_place: bool, labels: Sequence[str] = ()
) -> Shown:
    """An example, token by token.

    `in_place`: an output predicts the token at its own position, as an encoder's; otherwise the next token.
    With `labels` the targets are numbers of these, for positions or for the row as a whole, and not tokens.
    """
    inputs, targets = example.input_ids.tolist(), example.targets.tolist()
    whole = bool(labels) and example.target_index is None
    at = np.arange(len(inputs)) if example.target_index is None else example.target_index
    expected = {} if whole else dict(zip(at.tolist(), targets, strict=True))
    reads = [] if example.source_ids is None else show_tokens(example.source_ids.tolist(), tokenizer)
    writes: list[ShownToken] = []
    if in_place or labels:
        row = show_tokens(inputs, tokenizer) if example.source_ids is None else []
        reads += [_answered(token, expected.get(i), tokenizer, labels) for i, token in enumerate(row)]
    else:
        following = [expected.get(i, next_id) for i, next_id in enumerate([*inputs[1:], None])]
        row = show_tokens([i for i in (*inputs[:1], *following) if i is not None], tokenizer)
        writes = [t._replace(role="target") if i - 1 in expected else t for i, t in enumerate(row)]
    return Shown(
        reads=tuple(reads),
        writes=tuple(writes),
        num_tokens=example.num_tokens,
        num_targets=len(targets),
        label=", ".join(_label(target, labels) for target in targets) if whole else None,
    )


def example_of_text(text: str, tokenizer: Tokenizer, name: str, *, seed: int, start_id: int | None) -> Shown:
    """The example of a text as a whole document under an objective with its default settings.

    `start_id` is the first token of the decoder of an encoder-decoder; without one, the padding or the end
    token. Errors: ConfigError if the tokenizer lacks tokens that the objective needs; UsageError for a text
    of fewer than 2 or more than MAX_TEXT_TOKENS tokens, and for objectives that learn from labelled records.
    """
    kind = OBJECTIVES.get(name)
    if kind.learns_from != "text":
        raise UsageError(
            f"the objective {name} learns from labelled records, not from a text alone; see its examples "
            "with seedbed pretrain DATA --show 3"
        )
    ids = tokenizer.encode(text)
    if not 2 <= len(ids) <= MAX_TEXT_TOKENS:
        raise UsageError(f"the text has {len(ids)} tokens; allowed are 2 to {MAX_TEXT_TOKENS}")
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


def _answered(
    token: ShownToken, target: int | None, tokenizer: Tokenizer, labels: Sequence[str]
) -> ShownToken:
    """A token with the target at its position, if any."""
    if target is None:
        return token
    if labels:
        return token._replace(role="target", answer=_label(target, labels))
    role: Role = "kept" if target == token.id else "masked" if token.kind == "mask" else "replaced"
    return token._replace(role=role, answer=_answer(target, tokenizer))


def _label(target: float, labels: Sequence[str]) -> str:
    known = isinstance(target, int) and 0 <= target < len(labels)
    return labels[int(target)] if known else str(target)


def _kind(token_id: int, tokenizer: Tokenizer) -> Kind:
    if token_id in tokenizer.sentinel_ids:
        return "sentinel"
    for known, kind in ((tokenizer.mask_id, "mask"), (tokenizer.unk_id, "unknown")):
        if token_id == known:
            return kind  # type: ignore[return-value]
    return "control" if token_id in tokenizer.special_ids else "text"


def _name(token_id: int, tokenizer: Tokenizer) -> str:
    """The name of a token with blanks for marks of blanks; an id without a token has none."""
    try:
        return tokenizer.token(token_id).replace(METASPACE, " ")
    except UsageError:
        return f"<id {token_id}>"


def _answer(token_id: int, tokenizer: Tokenizer) -> str:
    """The name of a token as in a text: WordPiece marks the inside of words, so others get a blank."""
    name = _name(token_id, tokenizer)
    words = tokenizer.begins_word[token_id] and tokenizer.token_bytes(token_id) is None
    return f" {name}" if words and not name.startswith(" ") else name
