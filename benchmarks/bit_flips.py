"""Flip single bits in a stopped run's folder and its shards, resume it, and compare what it ends with.

    python -m benchmarks.bit_flips --flips 300 --json bit_flips.json

Each trial copies a stopped run with its shards, flips one bit of one file, and repeats the run's command in a
process of its own. Every file has its share, large ones more. Success is the same weights, bundle, settings,
plan and curve as without the flip; a damaged line of metrics left out and named; or one line on stderr that
names the file. Anything else is a failure: other weights, another curve, a traceback, a hang.
"""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.measuring import StopAfter, parser_of, set_flags, write_json

from seedbed.api.pretrain import pretrain
from seedbed.base.errors import StoppedEarly
from seedbed.cli.app import run as command_line
from seedbed.training.metrics import read_metrics

NUM_STEPS, STOP_AFTER, LIMIT_SECONDS, PER_FILE = 40, 33, 60.0, 3
SETTINGS = {
    "model.d_model": 16,
    "model.num_layers": 1,
    "model.dropout": 0.1,
    "tokenizer.vocab_size": 300,
    "training.batch_tokens": 96,
    "training.context_tokens": 24,
    "training.warmup_steps": 4,
    "training.precision": "float32",
    "training.num_threads": 1,
    "training.checkpoint_every_steps": 10,
    "training.evaluate_every_steps": 8,
}
FORMS = {
    "text": {"family": "gpt2"},
    "labels": {"family": "bert", "objective": "classification"},
}
TIMES = ("seconds", "tokens_per_second", "peak_fraction")


def write_corpus(path: Path) -> None:
    """Write 300 records of made-up words, texts and labels, the same each time."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 7))) for _ in range(200)]
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(300)]
    records = [{"text": t, "input": t, "target": "yes" if "a" in t[:9] else "no"} for t in texts]
    path.write_text("\n".join(map(json.dumps, records)))


def in_a_process(call: Any, output: Path) -> int | None:
    """Run a call in a forked process, its output in a file; return its exit code, None if it was too slow."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 99
        try:
            for stream in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            code = call()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def begin(run: Path, data: Path, form: str) -> int:
    """Start the run and stop it after STOP_AFTER steps."""
    overrides = [f"{key}={value}" for key, value in SETTINGS.items()]
    with suppress(StoppedEarly):
        pretrain(
            str(data),
            out=run,
            steps=NUM_STEPS,
            overrides=overrides,
            callbacks=[StopAfter(STOP_AFTER)],
            **FORMS[form],
        )
    return 0


def resume(run: Path, data: Path, form: str) -> int:
    """Repeat the run's command."""
    flags = [part for key, value in FORMS[form].items() for part in (f"--{key}", value)]
    flags += ["--steps", str(NUM_STEPS), *set_flags(SETTINGS)]
    return command_line(["pretrain", str(data), "--out", str(run), *flags])


def result(run: Path) -> dict[str, Any]:
    """Return the results of a finished run, without times."""
    files = [*(run / "checkpoints" / f"{NUM_STEPS:06d}").glob("*.safetensors"), run / "settings.toml"]
    files += [*(run / "model").iterdir(), *(run / "tokenizer").glob("*.json"), run / "examples.json"]
    digests = {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    plan = json.loads((run / "plan.json").read_text())
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] != "resume"]
    curve = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    return {"files": digests, "plan": {k: v for k, v in plan.items() if k != "measured"}, "curve": curve}


def judge(file: Path, code: int | None, output: str, found: Any, expected: dict[str, Any]) -> str:
    """Return the outcome of a flip in a few words; a failure begins with FAILED."""
    lines = output.splitlines()
    # The message about a damaged manifest names its folder and a file in it.
    named = file.name in output or (file.name == "manifest.json" and file.parent.name in output)
    if code is None or "Traceback" in output:
        return "FAILED: it hung" if code is None else f"FAILED: {lines[-1]}"
    if code != 0:
        last = lines[-1] if lines else ""
        return (
            "refused, named" if named and last.startswith("seedbed: ") else f"FAILED: refused with {last!r}"
        )
    if found is None:
        return "FAILED: its results cannot be read"
    same = {part for part in expected if found[part] == expected[part]}
    if same == {*expected}:
        for how in ("restored", "made again", "rebuilt", "damaged", "left out"):
            if how in output:
                return f"the same, named: {how}" if named else f"FAILED: {how}, not named"
        return "the same, without a message"
    fewer = found["curve"] and all(line in expected["curve"] for line in found["curve"])
    if {*expected} - same == {"curve"} and fewer and named:
        return "the same except for a line of metrics, named"
    return f"FAILED: other {', '.join({*expected} - same)}"


def choose(folder: Path, num: int, rng: random.Random) -> list[tuple[Path, int]]:
    """Choose the bits to flip: some of each file, the others by the root of its size."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = {path: path.stat().st_size for path in files}
    chosen = [path for path in files for _ in range(PER_FILE)][:num]
    chosen += rng.choices(files, [math.sqrt(sizes[path]) for path in files], k=num - len(chosen))
    return [(path.relative_to(folder), rng.randrange(8 * sizes[path])) for path in chosen]


def trials(scratch: Path, form: str, num: int, seed: int) -> list[dict[str, Any]]:
    """Flip `num` bits of a stopped run, one at a time."""
    kept, trial, data, output = (scratch / name for name in ("kept", "trial", "corpus.jsonl", "output.txt"))
    write_corpus(data)

    def resumed() -> tuple[int | None, str, Any]:
        output.unlink(missing_ok=True)
        code = in_a_process(lambda: resume(trial / "run", data, form), output)
        found = None
        if code == 0:
            with suppress(OSError, ValueError, KeyError, TypeError):  # its results cannot be read
                found = result(trial / "run")
        return code, output.read_text(), found

    if in_a_process(lambda: begin(trial / "run", data, form), output) != 0:
        sys.exit(f"the run failed: {output.read_text()}")
    trial.rename(kept)
    shutil.copytree(kept, trial)
    code, text, expected = resumed()
    if expected is None:
        sys.exit(f"the run did not resume, {code}: {text}")
    done = []
    for file, bit in choose(kept, num, random.Random(seed)):
        shutil.rmtree(trial)
        shutil.copytree(kept, trial)
        content = bytearray((trial / file).read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        (trial / file).write_bytes(content)
        code, text, found = resumed()
        verdict = judge(file, code, text, found, expected)
        done.append({"form": form, "file": str(file), "bit": bit, "verdict": verdict, "output": text})
        if verdict.startswith("FAILED"):
            warned = "\n".join(line for line in text.splitlines() if line.startswith("seedbed: "))
            print(f"{form} {file} bit {bit}: {verdict}\n{warned}", flush=True)
    shutil.rmtree(trial)
    return done


def kind_of(file: str) -> str:
    """Return the part of a run that a file belongs to."""
    parts = Path(file).parts
    return ".shards" if parts[0] == ".shards" else "/".join(parts[1:2] if len(parts) > 2 else parts[1:])


def main() -> None:
    """Run the trials and print them as a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--flips", type=int, default=300, help="a third of them of a run with labels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started, done = time.monotonic(), []
    for form, num in (
        ("text", arguments.flips * 2 // 3),
        ("labels", arguments.flips - arguments.flips * 2 // 3),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            done += trials(Path(scratch), form, num, arguments.seed)
    counts = Counter((kind_of(trial["file"]), trial["verdict"]) for trial in done)
    for (kind, verdict), count in sorted(counts.items()):
        print(f"{count:4}  {kind:16}  {verdict}")
    failed = sum(trial["verdict"].startswith("FAILED") for trial in done)
    print(f"{len(done)} flips in {time.monotonic() - started:.0f} s, {failed} failed")
    write_json(arguments.json, done)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
