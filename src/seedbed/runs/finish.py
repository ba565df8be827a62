"""The end of a run: the bundle of its best weights, its card, the measured plan, the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seedbed import __version__
from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.settings import to_toml, to_tree
from seedbed.evaluation.solution import ModelReference
from seedbed.evaluation.summary import best_step_text, summary_rows
from seedbed.hub.adapter import save_adapter
from seedbed.hub.base import Base
from seedbed.hub.bundle import save_bundle
from seedbed.hub.locate import SOLUTION
from seedbed.hub.model_contents import advice, predict_command
from seedbed.models.family import Config, Network
from seedbed.models.network import family, parameter_count
from seedbed.report.run_report import write_report
from seedbed.runs.prepare import PreparedRun
from seedbed.runs.scoring import solution_settings
from seedbed.training.resume import Progress

# The use of a network in the words of model hubs, by the kind of its head.
USES = {"mlm": "fill-mask", "classification": "text-classification", "tagging": "token-classification"}


def finish(
    module: Network,
    prepared: PreparedRun,
    progress: Progress,
    metrics: Mapping[str, Any],
    *,
    resident: ResidentPeak,
) -> None:
    """Save the best weights, which are in the module, as a bundle; write cost, metrics and report."""
    run, settings, start = prepared.folder, prepared.settings, prepared.start
    card = model_card(prepared, metrics)
    generation = start.generation(settings.objective.name)
    how: dict[str, Any] = {"tokenizer": prepared.tokenizer, "card": card, "force": True}
    if settings.peft is None:
        save_bundle(prepared.model_path, module, generation=generation, **how)
    else:
        assert start.base is not None
        how["generation"] = start.base.generation | generation
        save_adapter(prepared.model_path, module, settings.peft, base=start.base, **how)
    _write_solution(prepared)
    plan = json.loads(run.plan_path.read_text())
    if progress.seconds and "measured" not in plan:
        measured = {
            "peak_bytes": resident.most(),  # above the state after the imports
            "seconds": progress.seconds,
            "tokens_per_second": progress.tokens / progress.seconds,
        }
        write_file(run.plan_path, json.dumps(plan | {"measured": measured}, indent=2).encode())
    write_file(run.metrics_json_path, json.dumps(metrics, indent=1, ensure_ascii=False).encode())
    write_report(run.path)


def _write_solution(prepared: PreparedRun) -> None:
    """Write how the model answers records into the run's folder, which is then a solution."""
    path = prepared.model_path
    fingerprint, dtype = Base.open(path).fingerprint, prepared.start.dtype
    reference = ModelReference(name=path.name, fingerprint=fingerprint, dtype=dtype)
    if (settings := solution_settings(prepared, reference)) is not None:
        write_file(prepared.folder.path / SOLUTION, to_toml(settings).encode())


def next_command(prepared: PreparedRun) -> str:
    """A command that uses the model of a run."""
    generation = prepared.start.generation(prepared.settings.objective.name)
    answers_records = prepared.settings.task is not None or prepared.config.head.labels
    if answers_records and (prepared.folder.path / SOLUTION).exists():
        return predict_command(prepared.folder.path)
    if prepared.objective.learns_from == "pairs":  # learned without the chat template, if there is one
        return f'seedbed generate {prepared.folder.path} "..."'
    return advice(prepared.folder.path, prepared.config, prepared.tokenizer, generation)


def model_card(prepared: PreparedRun, metrics: Mapping[str, Any]) -> str:
    """Markdown with the front matter of model hubs; a base is named as the parent."""
    config, objective = prepared.config, prepared.settings.objective.name
    training, data = prepared.settings.training, prepared.settings.data
    architecture = family(config.family).architecture(config)
    loads = f"`transformers` loads it as `{architecture}`" if architecture else "seedbed loads it"
    figures = "\n".join(
        f"| {name} | {text.replace('|', '¦')} |" for name, text in summary_rows(metrics).items()
    )
    origin, parent, hub, warning = _origin(prepared)
    title, library = f"A {config.family} {_noun(config)} of {parameter_count(config):,} parameters", "seedbed"
    how = f"{training.learning_rate}, {training.schedule}"
    if (peft := prepared.settings.peft) is not None:
        title = f"{peft.method} for a {config.family} {_noun(config)}"
        loads, library = "`peft` and seedbed put it on its parent", "peft"
        own = ", ".join(f"{k} {v}" for k, v in to_tree(peft).items() if k != "method")
        how += f" |\n| {peft.method} | {own}"
    return f"""---
library_name: {library}
{hub}tags: [{config.family}, {_pipeline(config)}]
---
# {title}

{origin}; {loads}.

| | |
| --- | --- |{parent}
| objective | {objective} |
| weights of step | {best_step_text(metrics)} |
{figures}
| vocabulary | {config.vocab_size:,} tokens |
| context | {_context(config, training.context_tokens)} |
| data | `{data.train}`, fingerprint `{prepared.shards.fingerprint[:16]}` |
| optimizer | {training.optimizer}, {training.batch_tokens:,} tokens per step |
| learning rate | {how} |
| precision, seed | {training.precision}, {training.seed} |
| made with | seedbed {__version__} |

{_use(prepared)}{warning}
"""


def _pipeline(config: Config) -> str:
    """The use of a network in the words of model hubs."""
    if config.head.kind in USES:
        return USES[config.head.kind]
    return "text2text-generation" if config.shape == "encoder-decoder" else "text-generation"


def _noun(config: Config) -> str:
    return {"classification": "text classifier", "tagging": "tagger"}.get(config.head.kind, "language model")


def _context(config: Config, trained: int) -> str:
    """The longest row that the network takes, and that of the training where it is another."""
    if config.max_positions in (None, trained):
        return f"{trained:,} tokens" + ("" if config.max_positions else " in training, no limit of its own")
    return f"{config.max_positions:,} tokens; rows of up to {trained:,} in training"


def _use(prepared: PreparedRun) -> str:
    """What the model is for, in a sentence."""
    if labels := prepared.config.head.labels:
        some = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        what = "text" if prepared.config.head.kind == "classification" else "word"
        return f"It gives a {what} one of {len(labels)} labels: {some}."
    return prepared.objective.use()


def _origin(prepared: PreparedRun) -> tuple[str, str, str, str]:
    """The origin of the weights: a sentence, a row of the table, the hub's metadata; and a warning."""
    base, objective = prepared.start.base, prepared.settings.objective.name
    how = f"with the objective `{objective}`"
    if base is None:
        warning = " It has been taught no instructions and no facts to rely on."
        if prepared.objective.learns_from != "text":
            return f"Trained from scratch {how}", "", "", ""
        return f"Pre-trained from scratch {how}", "", "", warning
    row = f"\n| parent | `{base.name}`, weights `{base.fingerprint[:16]}` |"
    hub = "" if base.commit is None else f"base_model: {base.name.partition('@')[0]}\n"
    return f"Trained {how} from the weights of `{base.name}`", row, hub, ""
