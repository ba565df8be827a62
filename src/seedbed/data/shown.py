"""What an example asks of a network, told piece by piece: no terminal, no HTML, no objective's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from seedbed.base.errors import UsageError
from seedbed.data.batch import Example
from seedbed.text.sentencepiece_model import METASPACE
from seedbed.text.tokenizer import Tokenizer

Kind = Literal["text", "control", "sentinel", "mask", "unknown"]
Role = Literal["read", "target", "masked", "replaced", "kept"]


class ShownToken(NamedTuple):
    """One token: its name, what it adds to the text, what it is, and what becomes of it.

    `kind` is what the token is; its text is its name unless it is text. `role` says whether it is read only,
    a target itself, or stands where `answer` must be predicted: hidden by a mask, replaced, or kept.
    """

    id: int
    token: str
    text: str
    kind: Kind
    role: Role = "read"
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An example: what an encoder reads and what a decoder reads and writes, either empty without one.

    `label` is that of the row as a whole, if it has one.
    """

    reads: tuple[ShownToken, ...]
    writes: tuple[ShownToken, ...]
    num_tokens: int
    num_targets: int
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        sides = {name: [piece._asdict() for piece in getattr(self, name)] for name in ("reads", "writes")}
        return asdict(self) | sides


def show_tokens(ids: Iterable[int], tokenizer: Tokenizer) -> list[ShownToken]:
    """The tokens as they are read; the texts of those of text, joined, are what `decode` makes of all.

    A character of several tokens is the text of its last.
    """
    stream, told = tokenizer.stream(), []
    for token_id in ids:
        kind = _kind(token_id, tokenizer)
        name = _name(token_id, tokenizer)
        text = stream.push(token_id)
        told.append(ShownToken(token_id, name, text if kind == "text" else name, kind))
    if (rest := stream.flush()) and told:
        last = max((at for at, piece in enumerate(told) if piece.kind == "text"), default=0)
        told[last] = told[last]._replace(text=told[last].text + rest)
    return told


def show_example(
    example: Example, tokenizer: Tokenizer, *, in_place: bool, labels: Sequence[str] = ()
) -> Shown:
    """An example piece by piece.

    `in_place`: an output predicts what belongs at its own place, as an encoder's; else the token after it.
    With `labels` the targets are numbers of these, of places or of the row as a whole, and never tokens.
    """
    inputs, targets = example.input_ids.tolist(), example.targets.tolist()
    whole = bool(labels) and example.target_index is None
    at = np.arange(len(inputs)) if example.target_index is None else example.target_index
    wanted = {} if whole else dict(zip(at.tolist(), targets, strict=True))
    reads = [] if example.source_ids is None else show_tokens(example.source_ids.tolist(), tokenizer)
    writes: list[ShownToken] = []
    if in_place or labels:
        row = show_tokens(inputs, tokenizer) if example.source_ids is None else []
        reads += [_answered(piece, wanted.get(i), tokenizer, labels) for i, piece in enumerate(row)]
    else:
        following = [wanted.get(i, next_id) for i, next_id in enumerate([*inputs[1:], None])]
        row = show_tokens([i for i in (*inputs[:1], *following) if i is not None], tokenizer)
        writes = [p._replace(role="target") if i - 1 in wanted else p for i, p in enumerate(row)]
    return Shown(
        reads=tuple(reads),
        writes=tuple(writes),
        num_tokens=example.num_tokens,
        num_targets=len(targets),
        label=", ".join(_label(target, labels) for target in targets) if whole else None,
    )


def _answered(
    piece: ShownToken, target: int | None, tokenizer: Tokenizer, labels: Sequence[str]
) -> ShownToken:
    """A piece with what must be predicted in its place, if anything."""
    if target is None:
        return piece
    if labels:
        return piece._replace(role="target", answer=_label(target, labels))
    role: Role = "kept" if target == piece.id else "masked" if piece.kind == "mask" else "replaced"
    return piece._replace(role=role, answer=_answer(target, tokenizer))


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
    """A token's name with blanks for marks of blanks; ids that a vocabulary leaves out have none."""
    try:
        return tokenizer.token(token_id).replace(METASPACE, " ")
    except UsageError:
        return f"<id {token_id}>"


def _answer(token_id: int, tokenizer: Tokenizer) -> str:
    """A token's name as it stands in a text: WordPiece, which marks the inside of a word, has its blank."""
    name = _name(token_id, tokenizer)
    words = tokenizer.begins_word[token_id] and tokenizer.token_bytes(token_id) is None
    return f" {name}" if words and not name.startswith(" ") else name
