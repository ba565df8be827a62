"""All that a run reads: tokenizer, shards, objective, mixture, held-out records, its first examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.notices import Notify, silent
from seedbed.base.runtime import Runtime
from seedbed.base.settings import to_tree
from seedbed.base.units import bytes_text
from seedbed.data.corpus import Corpus
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.mixture import require_tasks
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.prepare import SIDES, CorpusShards, prepare_shards, shards_folder, source_fingerprint
from seedbed.data.shown import Shown, show_example
from seedbed.data.vocabulary import Vocabulary
from seedbed.evaluation.summary import label_counts_text
from seedbed.models.family import Config, Network
from seedbed.models.network import family, require_vocabulary
from seedbed.runs.settings import RunSettings
from seedbed.runs.sources import mixture_of, source_of, warn_of_length
from seedbed.runs.start import Start
from seedbed.runs.task_data import run_corpus
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer
from seedbed.training.evaluation import Validation
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings

MEASURED_RECORDS = 64  # held-out records from which the tokens of all are estimated


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedRun:
    """A run that is ready to train: its settings, its start, its folder, and everything that it reads."""

    settings: RunSettings
    start: Start
    folder: RunFolder
    tokenizer: Tokenizer
    shards: CorpusShards
    config: Config
    objective: Objective
    mixture: list[MixturePart]
    held_out: Validation

    def network(self) -> Network:
        """The network with the weights that training starts from."""
        module = self.start.network(self.config, seed=self.settings.training.seed)
        module.set_activation_checkpointing(self.settings.training.checkpoint_activations)
        return module

    @property
    def model_path(self) -> Path:
        """The folder of the result: a bundle, or an adapter."""
        return self.folder.model_path if self.settings.peft is None else self.folder.adapter_path

    def loader(self) -> Loader:
        """A loader at the first step of the run."""
        training = self.settings.training
        return Loader(self.mixture, batch_tokens=training.batch_tokens, seed=training.seed)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of the data and of the base, which must be the same on resume."""
        base = {} if self.start.base is None else {"base": self.start.base.fingerprint}
        return {"content": self.shards.fingerprint} | base

    def evaluated(self) -> Validation:
        """The held-out records that an evaluation reads."""
        training = self.settings.training
        return self.held_out.sampled(training.evaluate_tokens or 0, seed=training.seed)

    @property
    def evaluates_first(self) -> bool:
        """Whether the held-out loss is measured before step 1: from a base, so that its gain is known."""
        return self.start.base is not None

    def validation_tokens(self) -> int:
        """Estimate the tokens that the network reads of all held-out records, from the first of them."""
        records = list(islice(self.held_out.source.records(0, 0), MEASURED_RECORDS))
        seed = self.settings.training.seed
        read = sum(self.objective.example(record, seed).num_tokens for record in records)
        held = sum(len(r.ids) + (0 if r.answer is None else len(r.answer)) for r in records)
        shards = (self.shards.validation, self.shards.validation_answers)
        return sum(shard.num_tokens for shard in shards if shard is not None) * read // max(1, held)

    def first_examples(self, num: int) -> list[Shown]:
        """The first examples of the run, in the order that it reads them whatever the size of its steps."""
        loader = Loader(self.mixture, batch_tokens=1, seed=self.settings.training.seed)  # an example a step
        examples = [example for _ in range(num) for example in loader.next_step()]
        in_place, labels = self.config.shape == "encoder", self.config.head.labels
        return [show_example(each, self.tokenizer, in_place=in_place, labels=labels) for each in examples]


def prepare_run(
    settings: RunSettings,
    start: Start,
    folder: RunFolder,
    *,
    runtime: Runtime | None = None,
    notify: Notify = silent,
) -> PreparedRun:
    """Make everything that a run in this folder reads, or open it if it exists.

    The tokenizer is in the run's folder, the shards are in `.shards` beside it. With a `runtime` the main
    rank makes them, and the others wait for it. Warns of labelled records that are truncated or left out.
    """
    if runtime is not None and not runtime.is_main:
        runtime.broadcast_int(0)  # waits here for the main rank
    kind = OBJECTIVES.get(settings.objective.name)
    tokenizer, shards = _made(settings, start, folder, notify)
    if runtime is not None and runtime.is_main:
        runtime.broadcast_int(0)
    training = settings.training
    config = start.config(settings, vocab_size=tokenizer.vocab_size, labels=shards.labels)
    require_vocabulary(tokenizer, config)
    start_id = start.decoder_start_id(config)
    vocabulary = Vocabulary.of(tokenizer, decoder_start_id=start_id, family=config.family)
    objective = kind(vocabulary, settings.objective)
    mixture = mixture_of(objective, shards, settings, notify)
    held = shards.validation
    num_targets = held.num_tokens - held.num_documents if objective.reads_text_once else 0
    bytes_per_target = held.num_bytes / num_targets if num_targets else None
    held_out = Validation(source_of(objective, shards, training, validates=True), objective, bytes_per_target)
    sides = {"records": [part.source for part in mixture], "held-out records": [held_out.source]}
    most = None if start.base is None else config.max_positions  # which a new network has as settings say
    for what, sources in sides.items():
        warn_of_length(sources, objective, training.context_tokens, max_positions=most, what=what)
    return PreparedRun(
        settings=settings,
        start=start,
        folder=folder,
        tokenizer=tokenizer,
        shards=shards,
        config=config,
        objective=objective,
        mixture=mixture,
        held_out=held_out,
    )


def _made(
    settings: RunSettings, start: Start, folder: RunFolder, notify: Notify
) -> tuple[Tokenizer, CorpusShards]:
    """The tokenizer in the folder of a run, and the shards beside it."""
    learns_from = OBJECTIVES.get(settings.objective.name).learns_from
    require_tasks(settings.data, learns_from)
    notify(f"reading {settings.data.train}")
    corpus, rendering = run_corpus(settings, learns_from=learns_from, shape=_shape(settings, start))
    source = source_fingerprint(settings.data, rendering)  # of what tokenizer and shards are made from
    tokenizer = _tokenizer(settings, start, folder, source=source, corpus=corpus, notify=notify)
    shards = prepare_shards(
        settings.data,
        tokenizer,
        shards_folder(folder.path),
        learns_from=learns_from,
        head_labels=start.labels(settings.objective.name),
        source=source,
        corpus=corpus,
        rendering=rendering,
        notify=notify,
    )
    _say_sizes(shards, notify)
    if not folder.can_resume:
        _warn_of_few_steps(shards, settings.training, notify)
    return tokenizer, shards


def _shape(settings: RunSettings, start: Start) -> str:
    """The shape of the network, of the base or of the family."""
    own = family(settings.model.family).sized(64, 1) if start.base is None else start.base.config
    return own.shape


def _say_sizes(shards: CorpusShards, notify: Notify) -> None:
    """Say the sizes of both sides and the labels, and warn where the held-out one is small."""
    facts = shards.facts()
    share = facts["validation_bytes"] / max(1, facts["train_bytes"] + facts["validation_bytes"])
    sizes = []
    for side in SIDES:
        records = "" if shards.learns_from == "text" else f"{facts[f'{side}_documents']:,} records, "
        sizes.append(f"{records}{bytes_text(facts[f'{side}_bytes'])}, {facts[f'{side}_tokens']:,} tokens")
    notify(f"training on {sizes[0]}; held out: {sizes[1]} ({share:.1%} of the bytes)")
    if facts["warning"]:
        notify(f"warning: {facts['warning']}")
    if counts := shards.label_counts():
        unit = "word" if shards.learns_from == "tags" else "record"
        notify(f"labels: {label_counts_text(counts, unit)}")


def _warn_of_few_steps(shards: CorpusShards, training: TrainingSettings, notify: Notify) -> None:
    """Warn where a step has more than a tenth of the training data."""
    tenth = shards.facts()["train_tokens"] // 10
    smaller = max(training.context_tokens, 1 << max(0, tenth.bit_length() - 1))
    if smaller < training.batch_tokens > tenth and training.num_passes is None:
        notify(
            f"warning: a step of {training.batch_tokens:,} tokens is more than a tenth of the training data; "
            f"set training.batch_tokens={smaller}"
        )


def _tokenizer(
    settings: RunSettings, start: Start, run: RunFolder, *, source: str, corpus: Corpus, notify: Notify
) -> Tokenizer:
    """Load the tokenizer in the folder of a run; make it if there is none.

    One that was made with other settings, before the run had a checkpoint, is made again.
    """
    folder, tree = run.path / "tokenizer", to_tree(settings)
    model = {key: tree["model"].get(key) for key in ("family", "base")}
    made_from = {"tokenizer": tree["tokenizer"], "data": tree["data"], "model": model}
    objective = OBJECTIVES.get(settings.objective.name)
    made_from |= {"learns_from": objective.learns_from, "needs": objective.needs}
    if not run.can_resume:
        existing = _existing_tokenizer(settings, start)
        made_from["content"] = source if existing is None else existing.fingerprint
        made_from["template"] = None if existing is None else existing.config.get("chat_template")
    content, note = json.dumps(made_from, sort_keys=True).encode(), folder / "made_from.json"
    if note.exists() and not run.can_resume and note.read_bytes() != content:
        (folder / "tokenizer.json").unlink(missing_ok=True)
    if not (folder / "tokenizer.json").exists():
        made = new_tokenizer(settings, start, corpus, notify=notify)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_file(note, content)
        made.save(folder)
    return Tokenizer.load(folder)


def _existing_tokenizer(settings: RunSettings, start: Start) -> Tokenizer | None:
    """The tokenizer that the settings name, or that of the base; None if one is to be trained."""
    base, path = start.base, settings.tokenizer.path
    own = None if base is None else start.tokenizer or base.tokenizer
    if path is not None:
        loaded = Tokenizer.load(Path(path))
        if own is not None and own.fingerprint != loaded.fingerprint:
            raise ConfigError(
                f"tokenizer.path={path} is not the tokenizer that the base was trained with; leave it out: a "
                "base has its own"
            )
        return own or loaded
    if base is not None and own is None:
        raise ConfigError(f"the base {base.name} has no tokenizer; give one with --tokenizer FOLDER")
    return own


def new_tokenizer(
    settings: RunSettings, start: Start, corpus: Corpus, *, notify: Notify = silent
) -> Tokenizer:
    """The tokenizer that the settings name, that of the base, or one trained on the training documents."""
    if (existing := _existing_tokenizer(settings, start)) is not None:
        return existing
    objective, chosen = OBJECTIVES.get(settings.objective.name), settings.tokenizer
    form = family(settings.model.family).special.having(objective.needs)
    texts = corpus.training_texts()
    notify("training a tokenizer on the part that is not held out")
    return train_tokenizer(texts, chosen.kind, vocab_size=chosen.vocab_size, special=form)
