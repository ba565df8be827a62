"""Training steps of GPT-2 shapes beside the matmuls alone and a `transformers` loop, float32."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.measuring import median_ratio, seconds_of
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from seedbed.base.runtime import Runtime
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.records import RecordSource
from seedbed.models.families import gpt2
from seedbed.models.network import build, initialize
from seedbed.nn.config import ModelConfig
from seedbed.objectives.causal import Causal
from seedbed.training.loop import train
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings

ROWS, CONTEXT = 4, 256
WARMUP_ROUNDS = 3


def matmuls_step(weights: list[Tensor], num_tokens: int) -> Any:
    """Return a step of the matmuls alone: one forward, and backward those of input and weight gradients."""
    generator = torch.Generator().manual_seed(0)
    sizes = {size for weight in weights for size in weight.shape}
    x = {size: torch.randn(num_tokens, size, generator=generator) for size in sizes}
    y = {size: torch.empty(num_tokens, size) for size in sizes}
    gradients = [torch.empty_like(weight) for weight in weights]

    @torch.no_grad()
    def step() -> None:
        for weight in weights:
            d_out, d_in = weight.shape
            torch.mm(x[d_in], weight.T, out=y[d_out])
        for weight, gradient in zip(reversed(weights), reversed(gradients), strict=True):
            d_out, d_in = weight.shape
            torch.mm(x[d_out], weight, out=y[d_in])
            torch.mm(x[d_out].T, x[d_in], out=gradient)

    return step


def matmul_weights(module: torch.nn.Module, vocab_size: int) -> list[Tensor]:
    """Return the weights of the matmuls of a forward pass in order; the tied output is the last."""
    inner = [p.detach() for p in module.parameters() if p.ndim == 2 and p.requires_grad]
    embeddings = [w for w in inner if len(w) == vocab_size]
    positions = [w for w in inner if len(w) == module.config.max_positions]
    skipped = {id(w) for w in (*embeddings, *positions)}
    return [w for w in inner if id(w) not in skipped] + embeddings


def transformers_step(config: ModelConfig, rows: Tensor, settings: TrainingSettings) -> Any:
    """Return the training step that people write with `transformers`."""
    sizes = {"n_layer": config.num_layers, "n_head": config.num_heads, "n_embd": config.d_model}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    positions = {"n_positions": config.max_positions, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=config.vocab_size, **sizes, **positions, **dropout)).train()
    betas = (settings.beta1, settings.beta2)
    rates = {"lr": settings.learning_rate, "betas": betas, "weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW(model.parameters(), **rates)

    def step() -> None:
        loss = model(rows, labels=rows, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()

    return step


class _Beside:
    """A callback that times one step of each other loop after each of ours."""

    def __init__(self, others: Mapping[str, Any]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in ("ours", *others)}

    def begin(self, step: int, num_steps: int) -> None:
        """Do nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Record our step and time the others."""
        if line["kind"] == "step":
            self.seconds["ours"].append(ROWS * CONTEXT / line["tokens_per_second"])
            for name, step in self.others.items():
                self.seconds[name].append(seconds_of(step))

    def end(self) -> None:
        """Do nothing."""


def measure(d_model: int, num_layers: int, *, vocab_size: int, rounds: int) -> dict[str, Any]:
    """Return the milliseconds of a step of one shape, and its ratios."""
    config = replace(gpt2.FAMILY.sized(d_model, num_layers), vocab_size=vocab_size, dropout=0.0)
    steps = rounds + WARMUP_ROUNDS
    settings = TrainingSettings(
        num_steps=steps,
        batch_tokens=ROWS * CONTEXT,
        context_tokens=CONTEXT,
        precision="float32",
        evaluate_every_steps=steps,
        checkpoint_every_steps=steps,
    )
    ids = torch.randint(vocab_size, (ROWS * 8, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder) / "run") as run:
        runtime = Runtime.from_environment("cpu")
        module = build(config)
        initialize(module, torch.Generator().manual_seed(0))
        beside = _Beside(
            {
                "matmuls": matmuls_step(matmul_weights(module, vocab_size), ROWS * CONTEXT),
                "transformers": transformers_step(config, ids[:ROWS, :CONTEXT], settings),
            }
        )
        objective = Causal()
        loader = Loader(
            [MixturePart(RecordSource(ids.tolist()), objective)], batch_tokens=ROWS * CONTEXT, seed=0
        )
        train(
            module,
            loader,
            objective=objective,
            settings=settings,
            run=run,
            runtime=runtime,
            callbacks=[beside],
        )
    seconds = {name: times[WARMUP_ROUNDS:] for name, times in beside.seconds.items()}
    return {
        "shape": f"{num_layers} x {d_model}",
        "tokens_per_second": ROWS * CONTEXT / median(seconds["ours"]),
        **{f"{name}_ms": 1e3 * median(times) for name, times in seconds.items()},
        "to_matmuls": median_ratio(seconds["ours"], seconds["matmuls"]),
        "transformers_to_matmuls": median_ratio(seconds["transformers"], seconds["matmuls"]),
        "faster_than_transformers": median_ratio(seconds["transformers"], seconds["ours"]),
    }
