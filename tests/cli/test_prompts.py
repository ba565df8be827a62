"""`seedbed generate --prompts FILE`: an object a line for each prompt, in order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seedbed.generation.loading import load

HOW = ["--max-new-tokens", 5, "--seed", 1, "--temperature", 1]


def lines(said: Any) -> list[dict[str, Any]]:
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
def test_each_line_of_a_file_is_answered(
    ending: str, seedbed: Callable, tiny_run: Path, tmp_path: Path
) -> None:
    prompts = ["Note", "Note 3: ü", "a seed"]
    file = tmp_path / f"prompts{ending}"
    records: list[Any] = [prompts[0], {"prompt": prompts[1], "id": 7}, {"prompt": prompts[2]}]
    written = prompts if ending == ".txt" else [json.dumps(each) for each in records]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(written).encode())
    found = lines(seedbed("generate", tiny_run, "--prompts", file, *HOW))
    lm = load(tiny_run)
    answers = lm.generate(prompts, 5, seed=1, temperature=1)
    assert [one["prompt"] for one in found] == prompts
    assert [one["token_ids"] for one in found] == [answer.token_ids for answer in answers]
    assert [one["text"] for one in found] == [answer.text for answer in answers]
    assert ending == ".txt" or found[1]["id"] == 7
    several = lines(seedbed("generate", tiny_run, "--prompts", file, *HOW, "--num-samples", 2))
    assert [one["prompt"] for one in several] == [each for each in prompts for _ in range(2)]


def test_log_probabilities_have_the_texts_of_their_tokens(
    seedbed: Callable, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("Note")
    (found,) = lines(seedbed("generate", tiny_run, "--prompts", tmp_path / "one.txt", *HOW, "--logprobs", 2))
    said = seedbed("generate", tiny_run, "Note", *HOW, "--logprobs", 2, "--json").json["completions"]
    assert said == [found]
    lm = load(tiny_run)
    assert lm.tokenizer is not None and len(found["logprobs"]) == len(found["token_ids"])
    for token_id, one in zip(found["token_ids"], found["logprobs"], strict=True):
        assert one["token_id"] == token_id and len(one["top"]) == 2
        for each in (one, *one["top"]):
            assert each["text"] == lm.tokenizer.decode([each["token_id"]], skip_special=False)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"prompt": "x"}\n{"text": "y"}', "a.jsonl:2 is not a prompt"),
        ("a.jsonl", b"not json", "a.jsonl:1 is not a prompt"),
        ("a.txt", b"caf\xe9", "not UTF-8 at offset 3"),
        ("a.txt", b"\n \n", "has no prompt; write one a line"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}', "no chat template"),
    ],
)
def test_a_file_that_has_no_prompts_is_one_line(
    name: str, content: bytes, words: str, seedbed: Callable, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    said = seedbed("generate", tiny_run, "--prompts", tmp_path / name, *HOW)
    assert said.code in (1, 2) and words in said.err and said.err.count("\n") == 1


def test_prompts_are_from_one_place(seedbed: Callable, tiny_run: Path, tmp_path: Path) -> None:
    for more in (["Note"], ["--fill"]):
        said = seedbed("generate", tiny_run, *more, "--prompts", tmp_path / "absent.txt")
        assert said.code == 2 and "--prompts" in said.err and said.err.count("\n") == 1
    said = seedbed("generate", tiny_run, "--prompts", tmp_path / "absent.txt", *HOW)
    assert said.code == 2 and "absent.txt: No such file" in said.err
