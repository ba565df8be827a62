"""The end of a run: the bundle of its best weights, its card, what was measured, the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

from seedbed import __version__
from seedbed.base.files import write_file
from seedbed.base.hardware import ResidentPeak
from seedbed.base.settings import to_tree
from seedbed.hub.bundle import save_bundle
from seedbed.models.family import Network
from seedbed.report.run_report import write_report
from seedbed.runs.card import model_card
from seedbed.runs.prepared import Prepared
from seedbed.runs.settings import RunSettings
from seedbed.runs.start import Start
from seedbed.training.resume import Progress, load_best
from seedbed.training.run_folder import RunFolder


def finish(
    module: Network,
    settings: RunSettings,
    start: Start,
    prepared: Prepared,
    progress: Progress,
    *,
    bits: float | None,
    run: RunFolder,
    resident: ResidentPeak,
) -> None:
    """Save the best weights as a bundle, add what was measured to the plan, write the report."""
    load_best(module, run)
    card = model_card(
        module.config,
        base=start.base,
        learns_from=prepared.objective.learns_from,
        settings=to_tree(settings),
        step=progress.best_step or progress.step,
        loss=progress.best_loss,
        bits_per_byte=bits,
        fingerprint=prepared.data.fingerprint,
        version=__version__,
    )
    generation = start.generation(settings.objective.name)
    save_bundle(run.model_path, module, prepared.tokenizer, card=card, generation=generation)
    plan = json.loads(run.plan_path.read_text())
    if progress.seconds and "measured" not in plan:
        measured = {
            "peak_bytes": resident.most(),  # above the state after the imports
            "seconds": progress.seconds,
            "tokens_per_second": progress.tokens / progress.seconds,
        }
        write_file(run.plan_path, json.dumps(plan | {"measured": measured}, indent=2).encode())
    write_report(run.path)


def bits_per_byte(progress: Progress, prepared: Prepared) -> float | None:
    """The best held-out loss in bits per byte of the text; None where the targets are not the text."""
    if progress.best_loss is None or not prepared.objective.reads_text_once:
        return None
    held_out = prepared.data.validation
    num_targets = held_out.num_tokens - held_out.num_documents
    return progress.best_loss * num_targets / (math.log(2) * held_out.num_bytes)


def next_command(run: Path, prepared: Prepared) -> str:
    """The command that shows what a run's model does."""
    config = prepared.config
    if config.head.labels:
        verb = "classify" if config.head.kind == "classification" else "tag"
        return f'python -c \'import seedbed; print(seedbed.load("{run}").{verb}("..."))\''
    fills = prepared.objective.blank() is not None
    return f'seedbed generate {run} --fill "... ___ ..."' if fills else f'seedbed generate {run} "..."'
