"""What `seedbed generate` prints: completions and filled blanks on stdout, notices on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from seedbed.base.errors import UsageError
from seedbed.cli.console import print_json, print_table, say, shown
from seedbed.cli.options import flag_of
from seedbed.cli.prompts import described, say_if_chat
from seedbed.generation.filling import Filled
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.generation.own import own_length, own_settings, unknown_settings
from seedbed.generation.request import require_continuing
from seedbed.generation.settings import GenerationSettings, named_settings

OFF = {name: setting.neutral if name != "temperature" else () for name, setting, _ in named_settings()}
SMALL = 5e-5  # a smaller probability has no digits within four decimal places


def check_flags(given: Collection[str], *, fill: bool) -> None:
    """Refuse the flags that have no effect with `--fill`, or without it."""
    if not fill and "num_candidates" in given:
        raise UsageError("--num-candidates has no effect without --fill; leave it out, or add --fill")
    sampling = {name for name, _, _ in named_settings()} - {"max_new_tokens"}
    if fill and (foreign := sorted(sampling.intersection(given))):
        flag = flag_of(foreign[0])
        raise UsageError(f"{flag} has no effect beside --fill, which samples nothing; leave it out")


def complete(lm: LanguageModel, texts: list[str], how: dict[str, Any], given: set[str], json: bool) -> None:
    """Print the completions; a single one is streamed. Only a decoder's are printed after their prompts."""
    require_continuing(lm.config)
    settings = GenerationSettings(**how)
    used = lm.completed(settings)
    continues = lm.config.shape == "decoder"
    say_if_chat(lm, "seedbed chat")
    num_samples = how["num_samples"]
    if len(texts) == 1 and num_samples == 1 and not json:
        stream = lm.stream(texts[0], **how)
        report_settings(lm, settings, given)
        print(shown(texts[0]) if continues else "", end="", flush=True)
        for chunk in stream:
            print(shown(chunk), end="", flush=True)
        print()
        assert stream.completion is not None
        report_full_context(lm, [stream.completion], how["max_new_tokens"])
        return
    answers = lm.generate(texts, **how)
    report_settings(lm, settings, given)
    groups = answers if num_samples > 1 else [[answer] for answer in answers]
    rows = [(prompt, answer) for prompt, group in zip(texts, groups, strict=True) for answer in group]
    if json:
        found = [{"prompt": prompt} | described(lm, answer) for prompt, answer in rows]
        print_json({"settings": asdict(used), "completions": found})
    else:
        for number, (prompt, answer) in enumerate(rows, 1):
            heading = f"--- {number}\n" if len(rows) > 1 else ""
            before = prompt if continues else f"{prompt}\n" if len(rows) > 1 else ""
            print(shown(f"{heading}{before}{answer.text}"))
    report_full_context(lm, [answer for _, answer in rows], how["max_new_tokens"])


def fill_blanks(
    lm: LanguageModel, texts: Sequence[str], num_candidates: int, *, max_new_tokens: int | None, json: bool
) -> None:
    """Fill the blanks of texts, and print the filled texts and the best candidates of each blank."""
    filled = lm.fill(texts, num_candidates, max_new_tokens=max_new_tokens)
    if json:
        rows = zip(texts, filled, strict=True)
        print_json({"filled": [{"prompt": text} | asdict(result) for text, result in rows]})
        return
    for number, result in enumerate(filled, 1):
        if len(filled) > 1:
            print(f"{'' if number == 1 else chr(10)}--- {number}")
        print(shown(f"{result.text}\n"))
        _print_candidates(result)


def _print_candidates(result: Filled) -> None:
    """Print one table: the candidates of each blank with their probabilities."""
    rows = []
    for number, candidates in enumerate(result.blanks, 1):
        names = [c.text.strip() for c in candidates]
        seen = Counter(names)
        for at, (name, candidate) in enumerate(zip(names, candidates, strict=True)):
            shown = name if seen[name] == 1 and name.isprintable() and name else repr(candidate.text)
            probability = candidate.probability
            digits = f"{probability:.4f}" if probability >= SMALL else f"{probability:.1e}"
            rows.append([str(number) if at == 0 else "", shown, digits])
    if len(result.blanks) == 1:
        print_table("", ["candidate", "probability"], [row[1:] for row in rows], numbers=[1])
    else:
        print_table("", ["blank", "candidate", "probability"], rows, numbers=[0, 2])


def report_settings(lm: LanguageModel, settings: GenerationSettings, given: Collection[str]) -> None:
    """Report the settings that no flag gives, and what the model's files ask for beyond them."""
    used = lm.completed(settings)
    own = own_settings(lm.generation)
    names = [name for name, _, _ in named_settings() if getattr(settings, name) is None]
    values = {name: value for name in names if (value := getattr(used, name)) not in (None, *OFF[name])}
    shown = [f"{flag_of(name)} {_word(value)}" for name, value in values.items()]
    if shown:
        source = "as the model's files say" if own.items() >= values.items() else "seedbed's default"
        say(f"Generating with {' '.join(shown)}, {source}; the flags change it.")
    length = own_length(lm.generation, is_source=lm.config.shape == "encoder-decoder")
    if length is not None and length != settings.max_new_tokens and "max_new_tokens" not in given:
        say(f"The model's generation_config.json recommends --max-new-tokens {length}.")
    if unknown := unknown_settings(lm.generation):
        others = ", ".join(f"{name} {_word(value)}" for name, value in unknown.items())
        say(f"The model's generation_config.json sets {others}, which seedbed does not know.")


def _word(value: Any) -> str:
    """Return a value as its flag takes it; a list or table is its size."""
    if isinstance(value, (list, dict)):
        return f"({len(value)} entries)"
    return str(value).lower()


def report_full_context(lm: LanguageModel, answers: Sequence[Completion], max_new_tokens: int) -> None:
    """Report how many answers the context's size ended before max_new_tokens."""
    ended = [len(answer.token_ids) for answer in answers if is_context_full(answer, max_new_tokens)]
    if not ended:
        return
    which = "The answer" if len(answers) == 1 else f"{len(ended)} of {len(answers)} answers"
    after = f"{min(ended)}" if min(ended) == max(ended) else f"{min(ended)} to {max(ended)}"
    say(
        f"{which} stopped after {after} of {max_new_tokens} tokens: the context of {lm.config.max_positions} "
        "tokens is full."
    )


def is_context_full(answer: Completion, max_new_tokens: int) -> bool:
    """Return whether an answer ended at the end of the context."""
    return answer.finish_reason == "length" and len(answer.token_ids) < max_new_tokens
