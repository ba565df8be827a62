"""Small tokenizers in the legacy files of each kind, trained by the libraries of the real ones."""

import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "The garden is small. The seeds in the garden are small, too; who sows them?",
    "def grow(seed):\n\treturn seed + 1  # one more\n",
    "Größe und Übermut: drei kleine Gärten, naïve café, 12345 Ωmega.",
    "漢字と仮名、漢字。 Сад мал, семена малы. 🌱🌱 1/2 ﬁne ½ \uff26\uff55ll",
] * 4
BERT_NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_NAMES = ("<s>", "<pad>", "</s>", "<unk>")
CLASSES = {"gpt2": "GPT2", "roberta": "Roberta", "gpt": "OpenAIGPT", "bert": "Bert", "t5": "T5"}
CLASSES |= {
    "qwen2": "Qwen2",
    "llama": "Llama",
    "gemma": "Gemma",
    "xlm-roberta": "XLMRoberta",
    "marian": "Marian",
}


def texts(count: int) -> Iterator[str]:
    """Words of the corpus and of other scripts, spaces, control characters and names of special tokens."""
    rng = random.Random(1)
    words = " ".join(CORPUS).split()
    words += [
        "</s>",
        "<s>",
        "<unk>",
        "[SEP]",
        "<|endoftext|>",
        "<extra_id_3>",
        "<0x0A>",
    ]
    words += [
        "ɐ",
        "عربى",
        "하나",
        "👩‍👩‍👧",
        "\u2581",
        "\u00a0",
        "''",
        "don't",
        "\uff21",
        "e\u0301",
        "\x07",
        "\u200b",
        "<mask>",
    ]
    spaces = [" ", " ", " ", "", "  ", "   ", "\n", "\t", "\r\n"]
    for _ in range(count):
        chosen = [part for _ in range(rng.randint(1, 9)) for part in (rng.choice(words), rng.choice(spaces))]
        yield rng.choice(["", "", " ", "  "]) + "".join(chosen)


def _pairs(
    folder: Path, names: tuple[str, str], model: str, first: tuple[str, ...], last: tuple[str, ...]
) -> None:
    """Write a trained BPE model as a vocabulary and a list of merges, special tokens before and behind."""
    trained = json.loads(model)["model"]
    entries = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    ordered = [*first, *entries, *last]
    (folder / names[0]).write_text(json.dumps({entry: i for i, entry in enumerate(ordered)}))
    merges = "".join(f"{left} {right}\n" for left, right in trained["merges"])
    (folder / names[1]).write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def byte_level(
    folder: Path,
    first: tuple[str, ...],
    last: tuple[str, ...],
    names: tuple[str, str] = ("vocab.json", "merges.txt"),
) -> None:
    """GPT-2's kind of files."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    _pairs(folder, names, core.to_str(), first, last)


def word_ends(folder: Path) -> None:
    """The files of the GPT of 2018."""
    core = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False)
    )
    _pairs(folder, ("vocab.json", "merges.txt"), core.to_str(), ("<unk>",), ())


def word_pieces(folder: Path) -> None:
    """BERT's vocab.txt, of lower-cased words."""
    core = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(BERT_NAMES), show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    vocabulary = core.get_vocab()
    lines = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def sentencepiece_model(file: Path, lines: Sequence[str] = (), **settings: Any) -> None:
    """Train a SentencePiece model on the corpus and further lines."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.splitlines()] + [*lines]),
        model_writer=content,
        minloglevel=2,
        hard_vocab_limit=False,
        num_threads=1,
        **({"vocab_size": 150, "character_coverage": 1.0} | settings),
    )
    file.write_bytes(content.getvalue())


MODEL_FILES = {"t5": "spiece", "llama": "tokenizer", "gemma": "tokenizer", "xlm-roberta": "sentencepiece.bpe"}
T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
LLAMA = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 420, "normalization_rule_name": "identity"}
LLAMA |= {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True}
GEMMA = LLAMA | {"add_dummy_prefix": False, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
GEMMA |= {"bos_piece": "<bos>", "eos_piece": "<eos>", "user_defined_symbols": ["\u2581\u2581", "<turn>"]}


def write_kind(kind: str, folder: Path) -> None:
    """Write the files of one kind, and the class that names it."""
    if kind in ("gpt2", "qwen2"):
        byte_level(folder, (), ("<|endoftext|>",))
    elif kind == "roberta":
        byte_level(folder, ROBERTA_NAMES, ("<mask>",))
    elif kind == "gpt":
        word_ends(folder)
    elif kind == "bert":
        word_pieces(folder)
    elif kind == "marian":
        sentencepiece_model(folder / "source.spm")
        sentencepiece_model(folder / "target.spm", vocab_size=120, add_dummy_prefix=True)
        sides = [sentencepiece.SentencePieceProcessor(model_file=str(f)) for f in folder.glob("*.spm")]
        entries = {side.id_to_piece(i): None for side in sides for i in range(3, side.get_piece_size())}
        ordered = ["</s>", "<unk>", *reversed(entries), "Haus\u2581x", ">>deu<<", "<pad>"]
        (folder / "vocab.json").write_text(json.dumps({text: i for i, text in enumerate(ordered)}))
    else:
        settings: dict[str, dict[str, Any]] = {"t5": T5, "llama": LLAMA, "gemma": GEMMA}
        sentencepiece_model(folder / f"{MODEL_FILES[kind]}.model", **settings.get(kind, {}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": f"{CLASSES[kind]}Tokenizer"})
    )


@pytest.fixture(scope="session")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of legacy files for each kind; a test that changes one copies it first."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in CLASSES}
    for kind, folder in folders.items():
        write_kind(kind, folder)
    return folders


@pytest.fixture(scope="session")
def mixed_texts() -> list[str]:
    """A thousand lines of several scripts with all that is hard to split."""
    return [*CORPUS, "", " ", "\u2581", *texts(1000)]


@pytest.fixture(scope="session")
def train_sentencepiece() -> Callable[..., None]:
    """`sentencepiece_model`, for a test with settings of its own."""
    return sentencepiece_model
