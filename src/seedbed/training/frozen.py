"""Which weights of a network train and which are frozen, and how a checkpoint knows the frozen ones again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seedbed.base.errors import CheckpointError, UsageError
from seedbed.training.checkpoints import first_names
from seedbed.training.optimizer import Parameters, trainable

Fingerprints = Mapping[str, str]


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters, a tied one once, and the buffers that are saved with it."""
    saved = module.state_dict(keep_vars=True).keys()
    return dict(module.named_parameters()) | {name: b for name, b in module.named_buffers() if name in saved}


def checkpointed(module: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint contains of a module's weights: the parameters that train, and saved buffers."""
    return {n: t for n, t in weights_of(module).items() if t.requires_grad or not isinstance(t, nn.Parameter)}


def require_trainable(module: nn.Module) -> Parameters:
    """The parameters that train; a module without any is refused."""
    parameters = trainable(module)
    if not parameters:
        raise UsageError(
            "nothing trains: requires_grad is False for every parameter of the network; leave some of them "
            "trainable"
        )
    return parameters


def fingerprints_of(module: nn.Module) -> dict[str, str]:
    """The frozen parameters by name: type, shape, and SHA-256 of the numbers, which are not copied on a CPU.

    About 1.4 GB a second (2026-11-27).
    """
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    return {name: f"{p.dtype} {tuple(p.shape)} {_digest(p)}" for name, p in frozen.items()}


def _digest(tensor: Tensor) -> str:
    numbers = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(numbers.data).hexdigest()


def require_same_frozen(saved: Fingerprints, now: Fingerprints, *, weights: Mapping[str, Tensor]) -> None:
    """Refuse a module with frozen parameters `now` where those of a checkpoint with `weights` were others.

    Errors: CheckpointError naming those that train in one and not in the other, or whose values differ.
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
