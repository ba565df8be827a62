"""Multi30k English-German: the 2017 Transformer in its published tiny shape, and its BLEU.

    python -m benchmarks.translation ../shared/data/multi30k --budget 30m --json translation.json

4 + 4 layers, d_model 128, feed-forward 256, 4 heads, one table of embeddings, the published 10,000 merges,
label smoothing, an inverse-square-root schedule, the mean of the last checkpoints, a beam of 5.
BLEU is that of lower-cased tokens (sacrebleu, tokenize none) on the validation part, which chooses no
setting: weights are evaluated on held-out training pairs. Muon replaces Adam, since 30 minutes of two cores
are a fraction of the published training (docs/LOG.md).
"""

import gzip
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import parser_of, pretrain_command, write_json
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
    """Write the published merges as a tokenizer of words, with the 2017 model's special tokens."""
    merges = [tuple(line.split()) for line in (data / "revisit-mmt-bpe10k.code").read_text().splitlines()[1:]]
    text = "".join(lines(data, "train", language) for language in ("en", "de"))
    letters = {form for letter in set(text) - {" ", "\n"} for form in (letter, f"{letter}</w>")}
    entries = dict.fromkeys([*SPECIAL, *sorted(letters), *("".join(pair) for pair in merges)])
    ids = {entry: i for i, entry in enumerate(entries)}
    core = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def lines(data: Path, part: str, language: str) -> str:
    """Return the lower-cased text of a part."""
    with gzip.open(data / f"{part}.lc.norm.tok.{language}.gz", "rt", encoding="utf-8") as file:
        return file.read()


def score(run: Path, data: Path) -> dict[str, Any]:
    """Return the BLEU of a run's model with a beam of 5 on the validation part."""
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
    """Train within the budget, then evaluate."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--out", type=Path, default=Path("runs/multi30k"))
    parser.add_argument("--set", action="append", default=[], help="a setting other than the benchmark's own")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.data, options.out / "tokenizer")
    pairs = options.out / "train.jsonl"
    sides = [lines(options.data, "train", language).splitlines() for language in ("en", "de")]
    with pairs.open("w", encoding="utf-8") as file:
        for en, de in zip(*sides, strict=True):
            file.write(json.dumps({"en": en, "de": de}, ensure_ascii=False) + "\n")
    chosen = SETTINGS | dict(setting.split("=", 1) for setting in options.set)
    flags = ["--family", "transformer", "--budget", options.budget]
    flags += ["--tokenizer", str(options.out / "tokenizer")]
    command = pretrain_command(pairs, options.out / "run", chosen, *flags)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    measured = {"seconds_in_all": time.perf_counter() - started, **score(options.out / "run", options.data)}
    print(json.dumps(measured, indent=2, ensure_ascii=False))
    write_json(options.json, {"settings": chosen, **measured})


if __name__ == "__main__":
    main()
