"""Tiny tunings: a base and records for each supervised objective."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.task_models import CORPUS, decoder, encoder_decoder, model

from seedbed.api.tune import train
from seedbed.generation.language_model import LanguageModel
from seedbed.nn.config import HeadConfig
from seedbed.runs.train import Run
from seedbed.text.training import train_tokenizer

MOODS = ("good", "bad")
PAIRS = [
    {"prompt": f"a {MOODS[n % 2]} garden {n}", "completion": f"it grows {n % 7} roots"} for n in range(60)
]
TEXTS = [{"text": f"a {MOODS[n % 2]} seed {n} of rain", "label": MOODS[n % 2]} for n in range(60)]
TAGGED = [
    {"tokens": ["a", word, "of", "rain", str(n)], "tags": ["O", f"B-{word[0].upper()}", "O", "O", "O"]}
    for n in range(30)
    for word in ("seed", "leaf")
]
SUMMARIES = [{"text": row["prompt"], "summary": row["completion"]} for row in PAIRS]
RECORDS: dict[str, list[Any]] = {
    "conversation": PAIRS,
    "completion": PAIRS,
    "classification": TEXTS,
    "tagging": TAGGED,
}
SETTINGS = (
    *("training.batch_tokens=160", "training.context_tokens=80", "training.micro_batch_tokens=80"),
    *("training.precision=float32", "training.checkpoint_every_steps=3", "training.evaluate_every_steps=4"),
    *("data.validation_fraction=0.2", "training.learning_rate=0.003"),
)


@cache
def encoder() -> LanguageModel:
    """A masked BERT with a pooler."""
    tokenizer = train_tokenizer(CORPUS, "wordpiece", vocab_size=120)
    return model("bert", tokenizer, 240, head=HeadConfig(kind="mlm", pooler=True))


def base_of(objective: str) -> LanguageModel:
    """The model that an objective tunes here."""
    if objective == "conversation":
        return decoder(400, chat=True)
    return encoder_decoder(400) if objective == "completion" else encoder()


def written(path: Path, rows: Sequence[Any]) -> Path:
    """The path of a file of records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


class Bench:
    """A folder with bases and records, in which tunings run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def base(self, objective: str) -> Path:
        """The folder of a base."""
        path = self.folder / f"base-{objective}"
        return path if path.exists() else Path(base_of(objective).save(path) or path)

    def data(self, objective: str) -> Path:
        """The file of its records."""
        return written(self.folder / f"{objective}.jsonl", RECORDS[objective])

    def tune(
        self,
        objective: str,
        out: str,
        *overrides: str,
        peft: str = "lora",
        steps: int | None = 8,
        data: Path | None = None,
        **options: Any,
    ) -> Run:
        """Start or resume a tuning."""
        own = [*SETTINGS, *(["peft.rank=4"] if peft == "lora" else []), *overrides]
        how: dict[str, Any] = {"peft": peft, "steps": steps, "overrides": own} | options
        return train(self.base(objective), data or self.data(objective), out=self.folder / out, **how)


def weights_of(run: Run) -> bytes:
    """The bytes of the file with the weights of a run."""
    (path,) = run.model.glob("*.safetensors")
    return path.read_bytes()
