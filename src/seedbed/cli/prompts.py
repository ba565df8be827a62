"""`seedbed generate --prompts FILE`: many prompts from a file, one JSON object a line for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from seedbed.base.errors import DataError, UsageError
from seedbed.cli.console import say
from seedbed.cli.waiting import Waiting
from seedbed.evaluation.outputs import JSON_LINES
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.text.sentencepiece_model import METASPACE

NUM_AT_ONCE = 64  # prompts that are answered together


def complete_file(lm: LanguageModel, path: Path, how: dict[str, Any]) -> None:
    """Print a JSON object for each answer, in the order of the prompts, as soon as it is known."""
    records, number = read_prompts(path), 0
    while some := [*islice(records, NUM_AT_ONCE)]:
        prompts = [lm.chat_ids(r["messages"]) if "messages" in r else r["prompt"] for r in some]
        if number == 0 and not any("messages" in record for record in some):
            say_if_chat(lm, '{"messages": [..]} in JSON Lines')
        with Waiting(f"answering prompts {number + 1} to {number + len(some)}"):
            answers = lm.generate(prompts, **how)
        for record, found in zip(some, answers, strict=True):
            for answer in [found] if isinstance(found, Completion) else found:
                print(json.dumps(record | described(lm, answer), ensure_ascii=False), flush=True)
        number += len(some)
    if not number:
        raise DataError(f"{path} has no prompt; write one a line")


def say_if_chat(lm: LanguageModel, instead: str) -> None:
    """Say that a chat model continues a plain prompt, where it does not see its template."""
    if lm.tokenizer is not None and lm.tokenizer.config.get("chat_template"):
        say(f"The model has a chat template, which plain prompts do not use; for questions: {instead}.")


def read_prompts(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, `prompt` or `messages` each: JSON Lines by the ending of its name, else lines.

    Blank lines are skipped. Errors: DataError naming the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a file of prompts") from None
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at offset {error.start}; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix not in JSON_LINES:
            yield {"prompt": line}
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        record = {"prompt": value} if isinstance(value, str) else value
        is_known = isinstance(record, dict) and (
            isinstance(record.get("prompt"), str) or isinstance(record.get("messages"), list)
        )
        if not is_known:
            raise DataError(
                f'{path}:{number} is not a prompt; write a JSON text, {{"prompt": "a text"}} or '
                '{"messages": [..]} in each line, or name the file .txt for plain lines'
            )
        yield record


def described(lm: LanguageModel, answer: Completion) -> dict[str, Any]:
    """An answer as JSON has it: without what is None; log-probabilities with the texts of their tokens."""
    found = {key: value for key, value in asdict(answer).items() if value is not None}
    tokenizer = lm.tokenizer
    if answer.logprobs is not None and tokenizer is not None:

        def token(token_id: int, logprob: float) -> dict[str, Any]:
            text = tokenizer.decode([token_id], skip_special=False)
            if tokenizer.token(token_id).startswith(METASPACE) and not text.startswith(" "):
                text = f" {text}"  # a text would begin with it
            return {"token_id": token_id, "text": text, "logprob": logprob}

        found["logprobs"] = [
            token(one.token_id, one.logprob) | {"top": [token(i, value) for i, value in one.top]}
            for one in answer.logprobs
        ]
    return found
