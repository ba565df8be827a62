"""Multi30k English-German: the 2017 Transformer in its published tiny shape, and its BLEU.

    python -m benchmarks.translation ../shared/data/multi30k --budget 30m --json translation.json

4 + 4 layers, d_model 128, feed-forward 256, 4 heads, one table of embeddings, the given 10,000 merges, label
smoothing, a rate that falls with the inverse square root, the mean of the last checkpoints, a beam of 5.
BLEU is that of lower-cased tokens (sacrebleu, tokenize none) on the validation part, which chooses nothing:
weights are judged on training pairs that are held out. Muon takes Adam's place, since 30 minutes of two cores
are a fraction of the published training (docs/LOG.md).
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

SPECIAL = ("<pad>", "</s>", "<unk>")
SETTINGS = {
    "model.d_model": 128,
    "model.num_layers": 4,
    "model.num_heads": 4,
    "model.d_ff": 256,
    "model.dropout": 0.2,
    "data.input": "en",
    "data.target": "de",
    "data.validation_fraction": 0.02,
    "objective.label_smoothing": 0.1,
    "training.batch_tokens": 2048,
    "training.context_tokens": 96,
    "training.schedule": "inverse_sqrt",
    "training.optimizer": "muon",
    "training.learning_rate": 5e-3,
    "training.matrix_learning_rate": 0.01,
    "training.warmup_steps": 400,
    "training.beta1": 0.8,
    "training.beta2": 0.98,
    "training.weight_decay": 0.0,
    "training.keep_checkpoints": 5,
    "training.average_checkpoints": 5,
}


def write_tokenizer(data: Path, folder: Path) -> None:
    """The given merges as a tokenizer of words, with the tokens of the 2017 model's files."""
    merges = [tuple(line.split()) for line in (data / "revisit-mmt-bpe10k.code").read_text().splitlines()[1:]]
    text = "".join(lines(data, "train", language) for language in ("en", "de"))
    letters = {form for letter in set(text) - {" ", "\n"} for form in (letter, f"{letter}</w>")}
    pieces = dict.fromkeys([*SPECIAL, *sorted(letters), *("".join(pair) for pair in merges)])
    core = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def lines(data: Path, part: str, language: str) -> str:
    """The lower-cased tokens of a part."""
    with gzip.open(data / f"{part}.lc.norm.tok.{language}.gz", "rt", encoding="utf-8") as file:
        return file.read()


def score(run: Path, data: Path) -> dict[str, Any]:
    """BLEU of a run's model with a beam of 5 on the validation part."""
    import sacrebleu

    import seedbed

    lm = seedbed.load(run)
    sources, references = (lines(data, "val", language).splitlines() for language in ("en", "de"))
    started = time.perf_counter()
    answers = lm.generate(sources, num_beams=5, max_new_tokens=64, temperature=0.0)
    texts = [answer.text for answer in answers]
    bleu = sacrebleu.corpus_bleu(texts, [references], tokenize="none")
    seconds = time.perf_counter() - started
    shown = list(zip(sources, texts, references, strict=True))[:3]
    return {"bleu": bleu.score, "signature": str(bleu), "seconds": seconds, "examples": shown}


def main() -> None:
    """Train within the budget, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--out", type=Path, default=Path("runs/multi30k"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[], help="a setting other than the benchmark's own")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.data, options.out / "tokenizer")
    pairs = options.out / "train.jsonl"
    sides = [lines(options.data, "train", language).splitlines() for language in ("en", "de")]
    with pairs.open("w", encoding="utf-8") as file:
        for en, de in zip(*sides, strict=True):
            file.write(json.dumps({"en": en, "de": de}, ensure_ascii=False) + "\n")
    chosen = [f"{key}={value}" for key, value in SETTINGS.items()] + options.set
    command = [sys.executable, "-m", "seedbed", "pretrain", str(pairs), "--family", "transformer"]
    command += ["--tokenizer", str(options.out / "tokenizer"), "--out", str(options.out / "run")]
    command += ["--budget", options.budget, *(part for one in chosen for part in ("--set", one))]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    measured = {"seconds_in_all": time.perf_counter() - started, **score(options.out / "run", options.data)}
    print(json.dumps(measured, indent=2, ensure_ascii=False))
    if options.json:
        options.json.write_text(json.dumps({"settings": chosen, **measured}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
