"""Results before and after a refactoring: the weights of six short runs, the tokens of twenty generations.

`python -m benchmarks.unchanged before.json` writes them; on another commit `python -m benchmarks.unchanged
after.json --beside before.json` compares. `--source FOLDER` uses the package of another checkout. Both must
run on one machine: another processor rounds sums differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STEPS = 60
SIZES = ("model.d_model=64", "model.num_layers=2", "tokenizer.vocab_size=600", "training.batch_tokens=1024")
RATE = "training.learning_rate=0.01"
COMMON = (*SIZES, RATE, "training.context_tokens=64", "training.precision=float32", "training.num_threads=1")
RUNS: dict[str, list[str]] = {
    "causal": ["builtin:code", "--family", "gpt2"],
    "masked": ["builtin:code", "--family", "bert"],
    "span_corruption": ["builtin:code", "--family", "t5"],
    "denoising": ["builtin:code", "--family", "bart"],
    "lstm": ["builtin:code", "--family", "lstm"],
    "completion": ["pairs.jsonl", "--objective", "completion", "--set", "model.base=causal"],
}
PROMPT, OTHER = "def close(self):\n    if", "class Reader"
GENERATE: list[tuple[str, dict[str, Any]]] = [
    ("causal", {"prompts": PROMPT, "temperature": 0.0}),
    ("causal", {"prompts": [PROMPT, OTHER, "import"], "temperature": 0.0}),
    ("causal", {"prompts": PROMPT, "temperature": 1.0}),
    ("causal", {"prompts": PROMPT, "temperature": 0.7, "top_k": 20}),
    ("causal", {"prompts": [PROMPT, OTHER], "temperature": 1.0, "top_p": 0.9}),
    ("causal", {"prompts": PROMPT, "temperature": 1.0, "num_samples": 4}),
    ("causal", {"prompts": PROMPT, "num_beams": 4}),
    ("causal", {"prompts": [PROMPT, OTHER], "num_beams": 3, "length_penalty": 0.5}),
    ("causal", {"prompts": PROMPT, "temperature": 0.8, "stream": True}),
    ("completion", {"prompts": "add 3 to 4:", "temperature": 0.0}),
    ("completion", {"prompts": ["add 3 to 4:", "add 10 to 2:"], "temperature": 1.0}),
    ("lstm", {"prompts": PROMPT, "temperature": 0.0}),
    ("lstm", {"prompts": [PROMPT, OTHER, "import"], "temperature": 1.0}),
    ("lstm", {"prompts": PROMPT, "num_beams": 3}),
    ("lstm", {"prompts": PROMPT, "temperature": 1.0, "stream": True}),
    ("span_corruption", {"prompts": "def <extra_id_0>(self):", "temperature": 0.0}),
    ("span_corruption", {"prompts": [PROMPT, OTHER], "num_beams": 4}),
    ("denoising", {"prompts": PROMPT, "temperature": 0.0}),
    ("denoising", {"prompts": [PROMPT, OTHER], "temperature": 1.0, "num_samples": 2}),
    ("denoising", {"prompts": [PROMPT, OTHER], "num_beams": 2, "early_stopping": True}),
]


def main() -> None:
    """Write the results of this checkout, and compare them with those of another one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), given.source.resolve())
    given.out.write_text(json.dumps(found, indent=1))
    if given.beside is not None:
        before = json.loads(given.beside.read_text())
        changed = [name for name in before if before[name] != found.get(name)]
        print(f"{len(before) - len(changed)} of {len(before)} results are the same")
        for name in changed:
            print(f"{name}: {str(before[name])[:80]} before, {str(found.get(name))[:80]} now")
        sys.exit(bool(changed))


def measure(place: Path, source: Path) -> dict[str, Any]:
    """Return the SHA-256 of each run's `model/model.safetensors`, and each generation's token ids."""
    write_pairs(place)
    environment = os.environ | {"PYTHONPATH": str(source)}
    found: dict[str, Any] = {}
    for name, arguments in RUNS.items():
        own = [flag for flag in COMMON if "model.base=causal" not in arguments or not _is_size(flag)]
        flags = [part for flag in own for part in ("--set", flag)]
        command = [sys.executable, "-m", "seedbed", "pretrain", *arguments, "--steps", str(STEPS), *flags]
        subprocess.run(
            [*command, "--out", name, "--json"],
            cwd=place,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        content = (place / name / "model" / "model.safetensors").read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    answered = subprocess.run(
        [sys.executable, "-c", ANSWER],
        input=json.dumps(GENERATE),
        text=True,
        cwd=place,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    tokens = json.loads(answered.stdout)
    return found | {
        f"{i} {name} {how}": ids for i, ((name, how), ids) in enumerate(zip(GENERATE, tokens, strict=True))
    }


def write_pairs(place: Path) -> None:
    """Write the labelled records of the run `completion` into a folder."""
    pairs = [{"input": f"add {a} to {b}:", "target": f" {a + b}"} for a in range(20) for b in range(20)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))


def _is_size(flag: str) -> bool:
    return flag.startswith(("model.", "tokenizer."))


# Without the fast path at batch 1, whose matmuls depend on the processor.
ANSWER = """
import json, sys, torch, seedbed
from seedbed.nn import stack
torch.set_num_threads(1)
if hasattr(stack, "is_plain"):
    stack.is_plain = lambda x: False
def ids(answers):
    return [ids(a) for a in answers] if isinstance(answers, list) else answers.token_ids
found = []
for name, how in json.load(sys.stdin):
    lm, prompts = seedbed.load(name), how.pop("prompts")
    if how.pop("stream", False):
        stream = lm.stream(prompts, 24, seed=1, **how)
        for _ in stream: pass
        found.append(ids(stream.completion))
    else:
        seed = {} if "num_beams" in how else {"seed": 1}
        found.append(ids(lm.generate(prompts, 24, **seed, **how)))
print(json.dumps(found))
"""

if __name__ == "__main__":
    main()
