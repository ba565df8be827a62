"""The model card of what a run made: where it came from, how good it is, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.data.corpora import LearnsFrom
from seedbed.hub.base import Base
from seedbed.models.family import Config
from seedbed.models.network import family, parameter_count

# What model hubs call the use of a network, by the kind of its head.
USES = {"mlm": "fill-mask", "classification": "text-classification", "tagging": "token-classification"}


def model_card(
    config: Config,
    *,
    base: Base | None,
    learns_from: LearnsFrom,
    settings: Mapping[str, Any],
    step: int,
    loss: float | None,
    bits_per_byte: float | None,
    fingerprint: str,
    version: str,
) -> str:
    """Markdown with the front matter that model hubs read; a base is named as the parent."""
    training, data = settings["training"], settings["data"]
    architecture = family(config.family).architecture(config)
    loads = f"`transformers` loads it as `{architecture}`" if architecture else "seedbed loads it"
    labels = config.head.labels
    use = "It completes text in the manner of its data."
    if labels:
        some = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        what = "text" if config.head.kind == "classification" else "word"
        use = f"It gives a {what} one of {len(labels)} labels: {some}."
    held_out = "not measured" if loss is None else f"{loss:.4f} nats a {'label' if labels else 'token'}"
    if bits_per_byte is not None:
        held_out += f", {bits_per_byte:.4f} bits a byte"
    origin, parent, hub, taught = _origin(base, settings["objective"]["name"], learns_from)
    return f"""---
library_name: seedbed
{hub}tags: [{config.family}, {USES.get(config.head.kind, "text-generation")}]
---
# A {config.family} language model of {parameter_count(config):,} parameters

{origin}; {loads}.

| | |
| --- | --- |{parent}
| weights | of step {step} of {training["num_steps"]}, the best on held-out text |
| held-out loss | {held_out} |
| vocabulary, context | {config.vocab_size:,} tokens, {training["context_tokens"]} tokens |
| data | `{data["train"]}`, fingerprint `{fingerprint[:16]}` |
| optimizer | {training["optimizer"]}, {training["batch_tokens"]:,} tokens a step |
| learning rate | {training["learning_rate"]}, {training["schedule"]} |
| precision, seed | {training["precision"]}, {training["seed"]} |
| made with | seedbed {version} |

{use}{taught}
"""


def _origin(base: Base | None, objective: str, learns_from: LearnsFrom) -> tuple[str, str, str, str]:
    """Where the weights come from: in words, a row of the table, the hub's metadata; what was not taught."""
    how = f"with the objective `{objective}`"
    if base is None:
        taught = " It has been taught no instructions and no facts to rely on."
        return f"Pre-trained from scratch {how}", "", "", taught if learns_from == "text" else ""
    row = f"\n| parent | `{base.name}`, weights `{base.fingerprint[:16]}` |"
    hub = "" if base.commit is None else f"base_model: {base.name.partition('@')[0]}\n"
    return f"Trained {how} from the weights of `{base.name}`", row, hub, ""
