"""Checks on a GPU: `python -m benchmarks.on_gpu [--device cuda]`, one line for each.

Six short runs, each stopped and resumed beside an uninterrupted one; their answers beside those of the CPU; a
projection replaced during decoding; planned and measured memory and time; a decoding step of gpt2:124m beside
`transformers`. Written without a GPU: it was tried with `--device cpu`, up to the plan.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.measuring import StopAfter
from benchmarks.unchanged import GENERATE, RUNS, write_pairs
from torch import nn

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import StoppedEarly
from seedbed.hub.bundle import open_bundle

STEPS, STOP = 60, 33
SETTINGS = (
    *("model.d_model=64", "model.num_layers=2", "tokenizer.vocab_size=600", "training.batch_tokens=1024"),
    *("training.context_tokens=64", "training.learning_rate=0.01", "training.checkpoint_every_steps=10"),
)


def run(name: str, out: Path, place: Path, device: str, precision: str, *, stops: bool = False) -> Any:
    """Train one of the six runs."""
    data, *flags = RUNS[name]
    chosen = {flag.removeprefix("--"): value for flag, value in zip(flags[::2], flags[1::2], strict=True)}
    own = list(SETTINGS)
    if base := chosen.pop("set", None):
        own = [one for one in own if not one.startswith(("model.", "tokenizer."))]
        own.append(f"model.base={place / base.partition('=')[2]}")
    return pretrain(
        str(place / data) if data.endswith(".jsonl") else data,
        out=out,
        steps=STEPS,
        overrides=[*own, f"training.precision={precision}"],
        device=device,
        callbacks=[StopAfter(STOP)] if stops else [],
        **chosen,
    )


def resumed(place: Path, device: str) -> Iterator[str]:
    """Compare resumed runs with uninterrupted ones."""
    for precision in ("float32", "bfloat16"):
        for name in RUNS:
            whole = run(
                name, place / (name if precision == "float32" else f"{name}16"), place, device, precision
            )
            part = place / f"{name}-{precision}"
            with contextlib.suppress(StoppedEarly):
                run(name, part, place, device, precision, stops=True)
            again = run(name, part, place, device, precision)
            ours, theirs = (open_bundle(r.model)[0].state_dict() for r in (again, whole))
            worst = max((ours[key].float() - theirs[key].float()).abs().max().item() for key in theirs)
            loss = whole.metrics["loss"]["value"]
            yield f"{name} in {precision}: held-out {loss:.4f}; resumed differs by {worst:.2g} at most"


def answers(place: Path, device: str) -> Iterator[str]:
    """Compare the twenty answers with those of the CPU."""
    same = 0
    for name, how in GENERATE:
        options = dict(how)
        prompts = options.pop("prompts")
        options.pop("stream", None)
        seed = {} if "num_beams" in options else {"seed": 1}
        found = []
        for where in ("cpu", device):
            lm = seedbed.load(place / name, device=where)
            found.append(str(lm.generate(prompts, 24, **seed, **options)))
        same += found[0] == found[1]
    yield f"{same} of {len(GENERATE)} answers are those of the CPU"


def replaced(device: str) -> Iterator[str]:
    """Check that a projection replaced during decoding is used at the next step."""
    from seedbed.generation.request import GenerationSettings, Request
    from seedbed.nn import linear

    class Negative(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.parts, self.in_features = inner, inner.parts, inner.in_features

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = -self.inner(x)
            return y

        def dense(self) -> Any:
            weight, bias = self.inner.dense()
            return -weight, None if bias is None else -bias

    lm = seedbed.new("gpt2:124m", seed=0)
    lm.module.to(device)
    tokens = []
    for changes in (False, True):
        engine = lm.engine()
        settings = GenerationSettings(max_new_tokens=8, temperature=0.0, eos_ids=(), logprobs=1)
        (answer,) = engine.submit(Request((1, 2, 3), settings))
        for step in range(8):
            if changes and step == 4:
                path = "decoder.blocks.3.attn.out"
                linear.replace(lm.module, path, Negative(lm.module.get_submodule(path)))
            engine.step()
        tokens.append([one.logprob for one in answer.logprobs])
    equal = [a == b for a, b in zip(*tokens, strict=True)]
    yield f"replaced before the fifth step: steps alike {equal}"


def planned(device: str) -> Iterator[str]:
    """Compare the planned memory and time of gpt2:124m with the measured ones."""
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(
            "builtin:prose",
            out=Path(folder) / "run",
            family="gpt2",
            steps=60,
            device=device,
            overrides=[
                *("model.d_model=768", "model.num_layers=12", "training.batch_tokens=16384"),
                *("training.context_tokens=512", "training.evaluate_every_steps=60"),
            ],
        )
    plan, measured = result.plan, result.measured
    yield f"plan: {plan['seconds']:.1f} s planned, {measured['seconds']:.1f} measured"
    peak = torch.cuda.max_memory_allocated() if device != "cpu" else measured["peak_bytes"]
    tensors = sum(size for part, size in plan["bytes"].items() if part not in ("libraries", "data"))
    yield f"plan: {tensors / 2**30:.2f} GiB of tensors planned, {peak / 2**30:.2f} measured"


def decoding(device: str) -> Iterator[str]:
    """Compare the milliseconds per token of gpt2:124m with `transformers`, alternating."""
    from transformers import GPT2LMHeadModel

    lm = seedbed.new("gpt2:124m", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        lm.save(folder)
        peer = GPT2LMHeadModel.from_pretrained(folder).eval().to(device)
    lm.module.to(device)
    for batch in (1, 8):
        prompts = torch.randint(50_257, (batch, 32), generator=torch.Generator().manual_seed(0))

        def ours(count: int, given: Any = prompts) -> None:
            lm.generate(given.tolist(), count, temperature=0.0, eos_ids=())

        def theirs(count: int, given: Any = prompts) -> None:
            ids = given.to(device)
            limits = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
            peer.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **limits)

        def each(call: Callable[[int], None]) -> float:
            started = time.perf_counter()
            call(1)
            first = time.perf_counter() - started
            call(65)
            return (time.perf_counter() - started - 2 * first) / 64 * 1e3

        rounds = [(each(ours), each(theirs)) for _ in range(8)][1:]
        mine, other = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(b / a for a, b in rounds)
        yield f"decode, batch {batch}: {mine:.2f} ms, transformers {other:.2f} ms, {ratio:.2f} times as fast"


def main() -> None:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    name = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_pairs(place)
        for lines in (
            resumed(place, device),
            answers(place, device),
            replaced(device),
            planned(device),
            decoding(device),
        ):
            for line in lines:
                print(line, flush=True)


if __name__ == "__main__":
    main()
