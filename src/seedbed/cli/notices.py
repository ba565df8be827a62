"""One line each, on stderr, about how answers were made and why they ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seedbed.cli.console import say
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.generation.recommended import recommended


def tell_recommended(lm: LanguageModel, used: Mapping[str, Any], given: Collection[str]) -> None:
    """Say which settings `generation_config.json` recommends instead of defaults that the user left alone."""
    settings, unknown = recommended(lm.generation, is_source=lm.config.shape == "encoder-decoder")
    flags = [
        f"--{name.replace('_', '-')} {_word(value)}"
        for name, value in settings.items()
        if name in used and name not in given and value != used[name]
    ]
    others = [f"{name} {_word(value)}" for name, value in unknown.items()]
    said = [f"recommends {' '.join(flags)} (give them to follow it)"] if flags else []
    if others:
        said.append(f"asks for {', '.join(others)}, which seedbed does not know")
    if said:
        say(f"This model's generation_config.json {' and '.join(said)}.")


def _word(value: Any) -> str:
    """A value as a flag takes it, a list by its length."""
    if isinstance(value, (list, dict)):
        return f"({len(value)} entries)"
    return str(value).lower()


def tell_full_context(lm: LanguageModel, answers: Sequence[Completion], max_new_tokens: int) -> None:
    """Say how many answers ended because the context was full, not at max_new_tokens."""
    ended = [len(answer.token_ids) for answer in answers if is_context_full(answer, max_new_tokens)]
    if not ended:
        return
    which = "The answer" if len(answers) == 1 else f"{len(ended)} of {len(answers)} answers"
    after = f"{min(ended)}" if min(ended) == max(ended) else f"{min(ended)} to {max(ended)}"
    say(
        f"{which} ended after {after} of {max_new_tokens} tokens: the context of {lm.config.max_positions} "
        "tokens is full."
    )


def is_context_full(answer: Completion, max_new_tokens: int) -> bool:
    """Tell whether an answer ended at the end of the context."""
    return answer.finish_reason == "length" and len(answer.token_ids) < max_new_tokens
