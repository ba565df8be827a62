"""What `seedbed generate --fill` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict

from seedbed.base.errors import UsageError
from seedbed.cli.console import print_json, print_table
from seedbed.generation.filling import Filled
from seedbed.generation.language_model import LanguageModel

WITH_FILL = {"model", "prompts", "fill", "num_candidates", "max_new_tokens", "dtype", "device", "json"}
SMALL = 5e-5  # four places after the point show nothing of a probability below


def check_flags(given: Collection[str], *, fill: bool) -> None:
    """Refuse flags that belong to continuing a text beside `--fill`, and the other way round."""
    if not fill and "num_candidates" in given:
        raise UsageError("--num-candidates has no effect without --fill; leave it out, or add --fill")
    foreign = sorted(set(given) - WITH_FILL) if fill else []
    if foreign:
        raise UsageError(
            f"--{foreign[0].replace('_', '-')} has no effect beside --fill, which draws nothing; leave it out"
        )


def fill_blanks(
    lm: LanguageModel, texts: Sequence[str], num_candidates: int, *, max_new_tokens: int | None, json: bool
) -> None:
    """Fill the blanks of texts, and print the filled ones and the best candidates."""
    filled = lm.fill(texts, num_candidates, max_new_tokens=max_new_tokens)
    if json:
        rows = zip(texts, filled, strict=True)
        print_json({"filled": [{"prompt": text} | asdict(result) for text, result in rows]})
        return
    for number, result in enumerate(filled, 1):
        if len(filled) > 1:
            print(f"{'' if number == 1 else chr(10)}--- {number}")
        print(result.text)
        print()
        _print_candidates(result)


def _print_candidates(result: Filled) -> None:
    """One table: the candidates of each blank with their probabilities."""
    columns, rows = ["blank", "candidate", "probability"], []
    for number, candidates in enumerate(result.blanks, 1):
        names = [c.text.strip() for c in candidates]
        seen = Counter(names)
        for at, (name, candidate) in enumerate(zip(names, candidates, strict=True)):
            shown = name if seen[name] == 1 and name.isprintable() and name else repr(candidate.text)
            probability = candidate.probability
            told = f"{probability:.4f}" if probability >= SMALL else f"{probability:.1e}"
            rows.append([str(number) if at == 0 else "", shown, told])
    if len(result.blanks) == 1:
        columns, rows = columns[1:], [row[1:] for row in rows]
    print_table("", columns, rows, numbers=[0, 2] if len(columns) == 3 else [1])
