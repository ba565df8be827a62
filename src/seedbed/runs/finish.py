"""The end of a run: the bundle of its best weights, its card, the measured plan, the report."""

from __future__ import annotations

import json
import math

from seedbed import __version__
from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.hub.bundle import save_bundle
from seedbed.models.family import Network
from seedbed.models.network import family, parameter_count
from seedbed.report.run_report import write_report
from seedbed.runs.prepare import PreparedRun
from seedbed.training.resume import Progress, load_best

# The use of a network in the words of model hubs, by the kind of its head.
USES = {"mlm": "fill-mask", "classification": "text-classification", "tagging": "token-classification"}


def finish(
    module: Network, prepared: PreparedRun, progress: Progress, *, bits: float | None, resident: ResidentPeak
) -> None:
    """Save the best weights as a bundle, add the measured cost to the plan, write the report."""
    run, settings, start = prepared.folder, prepared.settings, prepared.start
    load_best(module, run)
    card = model_card(prepared, progress, bits_per_byte=bits)
    generation = start.generation(settings.objective.name)
    save_bundle(run.model_path, module, prepared.tokenizer, card=card, generation=generation, force=True)
    plan = json.loads(run.plan_path.read_text())
    if progress.seconds and "measured" not in plan:
        measured = {
            "peak_bytes": resident.most(),  # above the state after the imports
            "seconds": progress.seconds,
            "tokens_per_second": progress.tokens / progress.seconds,
        }
        write_file(run.plan_path, json.dumps(plan | {"measured": measured}, indent=2).encode())
    write_report(run.path)


def bits_per_byte(progress: Progress, prepared: PreparedRun) -> float | None:
    """The best held-out loss in bits per byte of text; None if the targets are not the text itself."""
    if progress.best_loss is None or not prepared.objective.reads_text_once:
        return None
    held_out = prepared.shards.validation
    num_targets = held_out.num_tokens - held_out.num_documents
    return progress.best_loss * num_targets / (math.log(2) * held_out.num_bytes)


def next_command(prepared: PreparedRun) -> str:
    """A command that uses the model of a run."""
    run, config = prepared.folder.path, prepared.config
    if config.head.labels:
        verb = "classify" if config.head.kind == "classification" else "tag"
        return f'python -c \'import seedbed; print(seedbed.load("{run}").{verb}("..."))\''
    if prepared.objective.learns_from == "conversations":
        return f"seedbed chat {run}"
    fills = prepared.objective.blank() is not None
    return f'seedbed generate {run} --fill "... ___ ..."' if fills else f'seedbed generate {run} "..."'


def model_card(prepared: PreparedRun, progress: Progress, *, bits_per_byte: float | None) -> str:
    """Markdown with the front matter of model hubs; a base is named as the parent."""
    config, labels, loss = prepared.config, prepared.config.head.labels, progress.best_loss
    training, data = prepared.settings.training, prepared.settings.data
    architecture = family(config.family).architecture(config)
    loads = f"`transformers` loads it as `{architecture}`" if architecture else "seedbed loads it"
    use = "It completes text in the manner of its data."
    if labels:
        some = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        what = "text" if config.head.kind == "classification" else "word"
        use = f"It gives a {what} one of {len(labels)} labels: {some}."
    held_out = "not measured" if loss is None else f"{loss:.4f} nats per {prepared.target}"
    if bits_per_byte is not None:
        held_out += f", {bits_per_byte:.4f} bits per byte"
    origin, parent, hub, warning = _origin(prepared)
    return f"""---
library_name: seedbed
{hub}tags: [{config.family}, {USES.get(config.head.kind, "text-generation")}]
---
# A {config.family} language model of {parameter_count(config):,} parameters

{origin}; {loads}.

| | |
| --- | --- |{parent}
| weights | of step {progress.best_step or progress.step} of {training.num_steps}, the best on held-out text |
| held-out loss | {held_out} |
| vocabulary, context | {config.vocab_size:,} tokens, {training.context_tokens} tokens |
| data | `{data.train}`, fingerprint `{prepared.shards.fingerprint[:16]}` |
| optimizer | {training.optimizer}, {training.batch_tokens:,} tokens per step |
| learning rate | {training.learning_rate}, {training.schedule} |
| precision, seed | {training.precision}, {training.seed} |
| made with | seedbed {__version__} |

{use}{warning}
"""


def _origin(prepared: PreparedRun) -> tuple[str, str, str, str]:
    """The origin of the weights: a sentence, a row of the table, the hub's metadata; and a warning."""
    base, objective = prepared.start.base, prepared.settings.objective.name
    how = f"with the objective `{objective}`"
    if base is None:
        warning = " It has been taught no instructions and no facts to rely on."
        learns_from = prepared.objective.learns_from
        return f"Pre-trained from scratch {how}", "", "", warning if learns_from == "text" else ""
    row = f"\n| parent | `{base.name}`, weights `{base.fingerprint[:16]}` |"
    hub = "" if base.commit is None else f"base_model: {base.name.partition('@')[0]}\n"
    return f"Trained {how} from the weights of `{base.name}`", row, hub, ""
