"""The content of a checkpoint, and how a run resumes from it bit for bit."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.base.errors import CheckpointError, SeedbedWarning
from seedbed.base.runtime import Runtime
from seedbed.data.loader import Loader
from seedbed.training.checkpoints import Checkpoint, first_names
from seedbed.training.decisions import DECISIONS
from seedbed.training.metrics import metrics_problem
from seedbed.training.optimizer import Optimizer, fill
from seedbed.training.run_folder import RunFolder


@dataclass
class Progress:
    """The progress of a training; `best_loss` is that of the best evaluation, in nats per target."""

    step: int = 0
    tokens: int = 0  # input tokens
    seconds: float = 0.0  # of the loop with evaluations and checkpoints; work lost to a kill is not counted
    loss: float | None = None  # of the last step
    evaluated_step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    decisions: Sequence[Sequence[float | None]] = ()  # `Decision` of each, up to this step


def load_best(module: nn.Module, run: RunFolder) -> Checkpoint | None:
    """Load the best weights on validation into the module; None if none were evaluated.

    The checkpoint has their step (`step`) and loss (`state["loss"]`). Frozen weights must be in the module
    already.
    """
    found, problems = run.checkpoints.best()
    if found is not None:
        _fill_weights(module, found, fingerprints_of(module), "best weights")
    elif problems:
        raise CheckpointError(
            f"the best weights in {run.checkpoints.folder} are lost: {'; '.join(problems)}; delete that "
            "folder to train again, or use the newest checkpoint"
        )
    return found


def _fill_weights(module: nn.Module, found: Checkpoint, frozen: Mapping[str, str], what: str) -> None:
    """Load a checkpoint into a module, whose `frozen` fingerprints must be those of the checkpoint."""
    weights = found.tensors("weights")
    # Legacy checkpoints have no frozen weights.
    require_same_frozen(found.state.get("frozen", {}), frozen, weights=weights)
    fill(checkpointed(module), weights, what)


class Resumable:
    """The state of a training that checkpoints save: weights that train, optimizer, loader, progress.

    Frozen weights are not saved; their fingerprints are, and are compared on resume. Torch's global
    generator, which dropout uses, is not saved either: the loop seeds it for each step.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        loader: Loader,
        *,
        run: RunFolder,
        runtime: Runtime,
        fingerprints: Mapping[str, str],
    ) -> None:
        self.module, self.optimizer, self.loader = module, optimizer, loader
        self.run, self.runtime, self.fingerprints = run, runtime, dict(fingerprints)
        self.frozen = fingerprints_of(module)
        self.saved_step = 0

    def save(self, progress: Progress) -> None:
        """Write a checkpoint of this step unless there is one; all ranks wait for the main one."""
        if progress.step == self.saved_step:
            return
        if self.runtime.is_main:
            state = {
                "progress": asdict(progress),
                "loader": self.loader.state_dict(),
                "num_ranks": self.runtime.world_size,
                "fingerprints": self.fingerprints,
                "frozen": self.frozen,
            }
            tensors = {"weights": checkpointed(self.module), "optimizer": self.optimizer.state()}
            self.run.checkpoints.save(progress.step, tensors, state)
        self.saved_step = progress.step
        self.runtime.sum_over_ranks([0.0])  # a barrier

    def save_best(self, progress: Progress) -> None:
        """Write the weights as the best on validation."""
        if self.runtime.is_main:
            state = {"loss": progress.best_loss, "frozen": self.frozen}
            self.run.checkpoints.save_best(progress.best_step, checkpointed(self.module), state)

    def load_average(self, num: int) -> int:
        """Load the mean of the newest `num` checkpoints, or fewer if there are fewer -> their number.

        See Vaswani et al. 1706.03762, section 6.1. Warns of damaged ones, which are left out.
        """
        checked = {step: self.run.checkpoints.problem(step) for step in self.run.checkpoints.steps()[-num:]}
        steps = [step for step, problem in checked.items() if not problem]
        self._warn([problem for problem in checked.values() if problem])
        mean: dict[str, Tensor] = {}
        for step in steps:
            for name, tensor in self.run.checkpoints.at(step).tensors("weights").items():
                share = tensor.double() / len(steps)
                mean[name] = mean[name] + share if name in mean else share
        saved = checkpointed(self.module)
        fill(saved, {name: tensor.to(saved[name].dtype) for name, tensor in mean.items()}, "mean weights")
        return len(steps)

    def load(self) -> tuple[Progress, list[str]]:
        """Load the newest undamaged checkpoint -> its progress, and the problems of damaged files."""
        problems: list[str] = []
        step = -1
        if self.runtime.is_main:
            found, problems = self.run.checkpoints.newest()
            step = -1 if found is None else found.step
            files = (self.run.metrics_path, self.run.path / DECISIONS)
            problems += filter(None, map(metrics_problem, files))
        step = self.runtime.broadcast_int(step)
        if step < 0:
            return Progress(), self._start(problems, is_new=True)
        checkpoint = self.run.checkpoints.at(step)
        self._require_same(checkpoint.state)
        _fill_weights(self.module, checkpoint, self.frozen, "weights")
        fill(self.optimizer.state(), checkpoint.tensors("optimizer"), "optimizer state")
        self.loader.load_state_dict(checkpoint.state["loader"])
        progress = Progress(**checkpoint.state["progress"])
        if self.runtime.is_main:
            # The best may be of a later step than the checkpoint: the run will repeat that step.
            best, worse = self.run.checkpoints.best()
            if worse:
                problems += worse
                self.run.checkpoints.recover_best(progress.best_step, progress.best_loss)
                best, _ = self.run.checkpoints.best()
            progress.best_step = best.step if best else 0
            progress.best_loss = best.state["loss"] if best else None
        self.saved_step = step
        return progress, self._start(problems)

    def _start(self, problems: list[str], *, is_new: bool = False) -> list[str]:
        """Warn of problems and copy the run's small files -> these problems and the ones already repaired."""
        self._warn(problems)
        if self.runtime.is_main and (is_new or not self.run.copies.folder.exists()):
            self.run.copies.write()
        return self.run.problems + problems

    def _warn(self, problems: list[str]) -> None:
        for problem in problems if self.runtime.is_main else ():
            warnings.warn(f"{self.run.path}: {problem}", SeedbedWarning, stacklevel=3)

    def _require_same(self, state: Mapping[str, Any]) -> None:
        then, now = state["num_ranks"], self.runtime.world_size
        if then != now:
            raise CheckpointError(
                f"{self.run.path} was trained by {then} processes and cannot resume with {now}: sums over "
                f"another number of ranks round differently, so it would not be the same run; start {then} "
                f"again (torchrun --nproc-per-node {then}), or choose another folder for a new run"
            )
        # Legacy checkpoints lack some kinds of fingerprints.
        known = {name: digest for name, digest in self.fingerprints.items() if name in state["fingerprints"]}
        self.run.refuse_difference({"data": state["fingerprints"]}, {"data": known})


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module, a tied one once, and its saved buffers."""
    saved = module.state_dict(keep_vars=True).keys()
    return dict(module.named_parameters()) | {name: b for name, b in module.named_buffers() if name in saved}


def checkpointed(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module that a checkpoint contains: parameters that train, and saved buffers."""
    return {n: t for n, t in weights_of(module).items() if t.requires_grad or not isinstance(t, nn.Parameter)}


def fingerprints_of(module: nn.Module) -> dict[str, str]:
    """The fingerprints of frozen parameters: type, shape and SHA-256, at 1.4 GB/s (2026-11-27)."""
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    return {name: f"{p.dtype} {tuple(p.shape)} {tensor_digest(p)}" for name, p in frozen.items()}


def tensor_digest(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's numbers."""
    numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(numbers.data).hexdigest()


def require_same_frozen(
    saved: Mapping[str, str], now: Mapping[str, str], *, weights: Mapping[str, Tensor]
) -> None:
    """Raise CheckpointError if the frozen parameters `now` are not those of a checkpoint with `weights`.

    It names those that train in only one of them, and those whose values differ.
    """
    problems = {
        "frozen now but trained in the checkpoint": [name for name in now if name in weights],
        "frozen in the checkpoint but trainable now": [n for n in saved if n not in now],
        "not in the checkpoint": [n for n in now if n not in saved and n not in weights],
        "frozen with other values than in the checkpoint": [
            n for n, fingerprint in now.items() if saved.get(n, fingerprint) != fingerprint
        ],
    }
    found = [f"{first_names(names)} ({what})" for what, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"the frozen weights are not those of the checkpoint: {'; '.join(found)}; freeze what was frozen "
            "and load the base that it was trained on, or start a new run in another folder"
        )
