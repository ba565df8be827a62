"""Published vocabularies in their legacy files, compared with independent readers of the same files.

    python -m benchmarks.vocabularies ../shared/data

GPT-2's encoder.json + vocab.bpe against its published algorithm, T5's and two small SentencePiece models
against the `sentencepiece` library; every tokenizer also as `transformers` loads the saved files. Needs
`regex`, `sentencepiece` and `transformers`.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import regex
import sentencepiece
from transformers import AutoTokenizer

from seedbed.text.tokenizer import Tokenizer, byte_symbols

T5_TEXT = "translate English to German: That is good."
T5_IDS = [13959, 1566, 12, 2968, 10, 466, 19, 207, 5]
SCRIPTS = ((0x21, 0x7E), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A))
SCRIPTS += ((0x905, 0x939), (0xE01, 0xE3A), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3))
SCRIPTS += (
    (0x1F300, 0x1F64F),
    (0x2000, 0x206F),
    (0x300, 0x36F),
    (0xFB00, 0xFB06),
    (0xFF01, 0xFF5E),
    (0, 0x20),
)
STRINGS = (
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<|endoftext|>",
    "<extra_id_0>",
    "[SEP]",
    "<0x0A>",
    "\u2581",
    "don't",
)


def lines(folder: Path, count: int = 1500) -> list[str]:
    """Return English, code and words of many scripts, with emoji, control characters and special tokens."""
    texts = (folder / "tok-small" / "botchan.txt").read_text(encoding="utf-8").splitlines()[:count]
    texts += Path(__file__).read_text(encoding="utf-8").splitlines()
    rng = random.Random(0)
    for _ in range(count):
        words = []
        for _ in range(rng.randint(1, 8)):
            first, last = rng.choice(SCRIPTS)
            word = "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6)))
            words.append(rng.choice((word, word, rng.choice(STRINGS))))
        texts.append(
            rng.choice(("", " ")) + rng.choice((" ", "  ", "")).join(words) + rng.choice(("", "  ", "\n"))
        )
    return texts


def gpt2(folder: Path) -> Callable[[str], list[int]]:
    """Return the encoder that was published with GPT-2, reimplemented."""
    ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    ranks = {tuple(merge.split()): rank for rank, merge in enumerate(merges)}
    words = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    symbols = byte_symbols()

    def encode(text: str) -> list[int]:
        found = []
        for word in words.findall(text):
            parts = [symbols[byte] for byte in word.encode()]
            while len(parts) > 1:
                pair = min(pairwise(parts), key=lambda two: ranks.get(two, len(ranks)))
                if pair not in ranks:
                    break
                joined, at = [], 0
                while at < len(parts):
                    both = tuple(parts[at : at + 2]) == pair
                    joined.append("".join(pair) if both else parts[at])
                    at += 2 if both else 1
                parts = joined
            found += [ids[part] for part in parts]
        return found

    return encode


def compare(name: str, folder: Path, encode: Callable[[str], list[int]], texts: list[str]) -> None:
    """Print how many lines have the same tokens, and how many still have them after a save."""
    tokenizer = Tokenizer.load(folder)
    ours, theirs = tokenizer.encode_batch(texts), [encode(text) for text in texts]
    differing = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save(saved)
        again = AutoTokenizer.from_pretrained(saved)
        kept = [again(text, split_special_tokens=True)["input_ids"] for text in texts]
    num_kept = sum(their == tokenizer.encode_document(text) for their, text in zip(kept, texts, strict=True))
    num_back = sum(tokenizer.decode(i) == text for i, text in zip(ours, texts, strict=True))
    print(f"{name}: {len(texts) - len(differing)} of {len(texts)} lines have the same tokens, {num_kept} as")
    print(
        f"    `transformers` loads the saved files, with special tokens; {num_back} decode to the same text"
    )
    for i in differing[:5]:
        print(f"    {texts[i]!r}")
        for ids in (ours[i], theirs[i]):
            print(f"        {' '.join(map(tokenizer.token, ids))}")


def main() -> None:
    """Print a line for each vocabulary, and the tokens of T5's example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder of tok-gpt2, tok-t5 and tok-small")
    data = parser.parse_args().data
    texts = lines(data)
    compare("gpt2", data / "tok-gpt2", gpt2(data / "tok-gpt2"), texts)
    t5 = Tokenizer.load(data / "tok-t5").encode(T5_TEXT)
    print(f"t5: {' '.join(map(str, t5))} ({'as' if t5 == T5_IDS else 'not as'} published)")
    models = {"t5": data / "tok-t5" / "sentencepiece.model"}
    models |= {name: data / "tok-small" / f"{name}.model" for name in ("m", "spm-test_model")}
    for name, file in models.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "spiece.model").symlink_to(file.resolve())
            kind = "T5Tokenizer" if name == "t5" else "LlamaTokenizer"
            (Path(folder) / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
            processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
            compare(name, Path(folder), processor.encode, texts)


if __name__ == "__main__":
    main()
