"""Hundreds of damaged tokenizer files: each loads and cuts a line, or is one line of ours, within 2 s."""

import json
import math
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seedbed.base.errors import SeedbedError
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

SECONDS = 2.0
LINE = "The garden </s> is small,  Größe 漢字 🌱 <unk>\n"
KINDS = ("json", "gpt2", "roberta", "gpt", "bert", "t5", "llama", "gemma", "xlm-roberta", "marian")
Case = tuple[str, str, bytes]


def outcome(folder: Path) -> str:
    """The error of a folder's tokenizer, nothing where it works; fails when late or in another error."""
    started = time.perf_counter()
    try:
        tokenizer = Tokenizer.load(folder)
        ids = tokenizer.encode(LINE)
        tokenizer.decode(ids)
        tokenizer.encode_document(LINE)
        tokenizer.definition()
        stream = tokenizer.stream()
        shown = "".join(map(stream.push, ids)) + stream.flush()
        assert shown == tokenizer.decode(ids) and None not in map(tokenizer.token, ids)
        line = ""
    except SeedbedError as error:
        line = str(error)
        assert line and "\n" not in line and len(line) < 700, line
    assert time.perf_counter() - started < SECONDS
    return line


@pytest.fixture(scope="module")
def folders(legacy: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Those of `legacy`, and a tokenizer.json of T5's kind, which has the most parts."""
    folder = tmp_path_factory.mktemp("json")
    Tokenizer.load(legacy["t5"]).save(folder)
    return legacy | {"json": folder}


def cuts_and_flips(folder: Path, draw: random.Random) -> Iterator[Case]:
    """Each file cut at some places, with some bits flipped, with some bytes replaced, and without content."""
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        yield f"{file.name} empty", file.name, b""
        for _ in range(4):
            at = draw.randrange(len(content))
            yield f"{file.name} cut at {at}", file.name, content[:at]
        for number in range(8):
            changed = bytearray(content)
            # Half of them early, where counts and settings lie.
            places = [
                draw.randrange(len(content) if number % 2 else min(400, len(content)))
                for _ in range(1 + number)
            ]
            for at in places:
                changed[at] ^= 1 << draw.randrange(8)
            yield f"{file.name} flipped at {places}", file.name, bytes(changed)
        at = draw.randrange(len(content))
        yield f"{file.name} with zeros at {at}", file.name, content[:at] + bytes(4) + content[at:]
        yield f"{file.name} not UTF-8 at {at}", file.name, content[:at] + b"\xff\xfe" + content[at:]
        yield f"{file.name} twice", file.name, content * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_flipped_file_loads_or_is_one_line(
    kind: str, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[kind], folder)
    outcomes = []
    for _, name, content in cuts_and_flips(folders[kind], random.Random(kind)):
        (folder / name).write_bytes(content)
        outcomes.append(outcome(folder))
        shutil.copy(folders[kind] / name, folder / name)
    assert len(outcomes) >= 32
    assert sum(map(bool, outcomes)) > len(outcomes) / 4
    assert outcome(folder) == ""
    capfd.readouterr()


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


HOSTILE_JSON: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda v: list(v),
    "a text": lambda v: "text",
    "a number": lambda v: 1,
    "texts as ids": lambda v: {k: str(i) for k, i in v.items()},
    "true as ids": lambda v: dict.fromkeys(v, True),
    "reals as ids": lambda v: {k: i + 0.5 for k, i in v.items()},
    "negative ids": lambda v: {k: -i for k, i in v.items()},
    "one id": lambda v: dict.fromkeys(v, 0),
    "a huge id": lambda v: v | {"x": 1 << 62},
    "an id beyond 64 bits": lambda v: v | {"x": 1 << 80},
    "a large id": lambda v: v | {"x": 1 << 31},
    "gaps": lambda v: {k: 3 * i for k, i in v.items()},
    "one gap": lambda v: {k: i + (i > 50) for k, i in v.items()},
    "nothing": lambda v: {},
    "an empty token": lambda v: {"": len(v)} | v,
    "a token with NUL": lambda v: v | {"\0": len(v)},
    "a surrogate": lambda v: v | {"\ud800": len(v)},
    "without its last tokens": lambda v: dict(list(v.items())[: len(v) // 2]),
    "a long token": lambda v: v | {"x" * 1_000_000: len(v)},
}


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "gpt", "marian"])
def test_a_hostile_vocabulary(
    kind: str, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[kind], folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    outcomes = {}
    for name, change in HOSTILE_JSON.items():
        (folder / "vocab.json").write_text(json.dumps(change(vocabulary)))
        outcomes[name] = outcome(folder)
    refused = (
        "a list",
        "texts as ids",
        "true as ids",
        "negative ids",
        "one id",
        "a huge id",
        "nothing",
    )
    assert all(outcomes[name] for name in refused), outcomes
    for content in (
        deep(200_000),
        b'{"a":' * 100_000,
        b"{" + b'"a":0,' * 100_000 + b'"b":1}',
        b"nul",
        b"\xff",
    ):
        (folder / "vocab.json").write_bytes(content)
        assert outcome(folder)
    capfd.readouterr()


HOSTILE_LISTS = {
    "merges.txt": (
        b"x y\n",
        b"unknown token\n",
        b"a\n",
        b"a b c\n",
        b" a\n",
        b"a \n",
        b"\0 \0\n",
        b"\xff a\n",
    ),
    "vocab.txt": (
        b"",
        b"\n" * 100_000,
        b"[UNK]\n",
        b"a\n" * 100_000,
        b"[UNK]\0\n",
        b"\xff\n",
        b"x" * 1_000_000,
    ),
}


@pytest.mark.parametrize("kind", ["gpt2", "gpt", "bert"])
def test_a_hostile_list(
    kind: str, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[kind], folder)
    name = "vocab.txt" if kind == "bert" else "merges.txt"
    outcomes = []
    for content in HOSTILE_LISTS[name]:
        (folder / name).write_bytes(content)
        outcomes.append(outcome(folder))
    assert sum(map(bool, outcomes)) >= 4, outcomes
    capfd.readouterr()


TOKEN = {"content": "<a>", "special": True}
SETTINGS: list[dict[str, Any]] = [
    {"eos_token": 1},
    {"eos_token": {"content": 1}},
    {"eos_token": {"content": "</s>", "lstrip": "yes"}},
    {"eos_token": [], "pad_token": {}},
    {"eos_token": ""},
    {"eos_token": "x" * 1_000_000},
    {"additional_special_tokens": 7},
    {"additional_special_tokens": [None]},
    {"additional_special_tokens": [f"<{i}>" for i in range(70_000)]},
    {"added_tokens_decoder": []},
    {"added_tokens_decoder": {"x": TOKEN}},
    {"added_tokens_decoder": {"-1": TOKEN}},
    {"added_tokens_decoder": {"0": TOKEN}},
    {"added_tokens_decoder": {"99999999999999999999": TOKEN}},
    {"added_tokens_decoder": {"4000000": TOKEN}},
    {"added_tokens_decoder": {"0": 0}},
    {"tokenizer_class": ["GPT2Tokenizer"]},
    {"tokenizer_class": 3},
    {"tokenizer_class": "x" * 100_000},
    {"extra_ids": -1},
    {"extra_ids": 10**9},
    {"extra_ids": "many"},
    {"do_lower_case": "no"},
    {"strip_accents": 3},
    {"unk_token": "nowhere"},
    {"add_bos_token": "yes", "bos_token": None},
]


@pytest.mark.parametrize("kind", ["gpt2", "gpt", "bert", "t5", "llama", "marian"])
def test_hostile_settings(
    kind: str, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[kind], folder)
    named = json.loads((folder / "tokenizer_config.json").read_text())
    outcomes = []
    for settings in SETTINGS:
        (folder / "tokenizer_config.json").write_text(json.dumps(named | settings))
        outcomes.append(outcome(folder))
    assert sum(map(bool, outcomes)) >= 14, outcomes
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    for name in ("special_tokens_map.json", "added_tokens.json", "config.json"):
        for content in (
            b"",
            b"[]",
            b'{"eos_token": 5, "<a>": "b"}',
            b'{"a": -1}',
            deep(100_000),
            b'{"<a>": 1e400}',
        ):
            (folder / name).write_bytes(content)
            outcome(folder)
        (folder / name).unlink()
    capfd.readouterr()


def field(number: int, content: bytes | int | float) -> bytes:
    """A field of a protobuf: a length and bytes, a float, or an integer below 128."""
    if isinstance(content, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", content)
    if isinstance(content, int):
        return bytes([number << 3, content])
    size = len(content)
    lengths = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F])
    return bytes([number << 3 | 2]) + lengths + content


def entries(*rows: tuple[str, float, int]) -> bytes:
    return b"".join(field(1, field(1, t.encode()) + field(2, s) + field(3, k)) for t, s, k in rows)


FEW = (("<unk>", 0.0, 2), ("</s>", 0.0, 3), ("\u2581", -1.0, 1), ("a", -2.0, 1), ("aa", -3.0, 1))
TRIE = struct.pack("<I", 1024) + bytes(1024)
MODELS: dict[str, bytes] = {
    "no entry": b"",
    "no unknown entry": entries(*FEW[1:]),
    "two unknown entries": entries(*FEW, ("?", 0.0, 2)),
    "an entry twice": entries(*FEW, FEW[3]),
    "an empty entry": entries(*FEW, ("", 0.0, 1)),
    "no number as score": entries(*FEW, ("b", math.nan, 1)),
    "an infinite score": entries(*FEW, ("b", math.inf, 1)),
    "an unknown type": entries(*FEW, ("b", 0.0, 9)),
    "an entry that is not UTF-8": entries(*FEW) + field(1, field(1, b"\xff")),
    "a long entry": entries(*FEW, ("b" * 300_000, -1.0, 1)),
    "a length beyond the end": entries(*FEW) + b"\x0a\xff\xff\xff\xff\x0f",
    "an entry cut short": entries(*FEW) + field(1, field(1, b"bb"))[:-1],
    "an endless integer": entries(*FEW) + b"\x18" + b"\xff" * 1000,
    "a legacy group": entries(*FEW) + b"\x0b\x0c",
    "words as entries": entries(*FEW) + field(2, field(3, 3)),
    "spaces at ends": entries(*FEW) + field(2, b"\xc0\x01\x01"),
    "text as a flag": entries(*FEW) + field(3, field(3, b"yes")),
    "a map of nothing": entries(*FEW) + field(3, field(2, b"\0")),
    "a map without texts": entries(*FEW) + field(3, field(2, TRIE)),
    "a truncated map": entries(*FEW) + field(3, field(2, TRIE[:500])),
    "a map that points outside": entries(*FEW)
    + field(3, field(2, TRIE[:4] + b"\xff\xff\xff\x7f" * 256 + b"\0")),
    "a map to no text": entries(*FEW) + field(3, field(2, TRIE[:4] + b"\xff\xff\xff\xff" * 256 + b"\0")),
    "a map without a leaf": entries(*FEW) + field(3, field(2, TRIE[:4] + b"\0\1\0\0" * 256 + b"\0")),
    "many control entries": entries(*FEW, *((f"<{i}>", 0.0, 3) for i in range(5000))),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["t5", "xlm-roberta"])
def test_a_hostile_sentencepiece_model(
    kind: str, name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders[kind], folder)
    file = next(folder.glob("*.model"))
    file.write_bytes(MODELS[name])
    later = ("words as entries", "spaces at ends", "a long entry", "many control entries")
    expected = str(folder) if name in later else f"{file} is not a whole SentencePiece model"
    assert outcome(folder).startswith(expected)
    file.write_bytes(entries(*FEW) + field(3, field(2, TRIE + b"\0")))
    assert kind == "xlm-roberta" or outcome(folder) == ""


NESTED: dict[str, Any] = {"type": "Lowercase"}
for _ in range(200):
    NESTED = {"type": "Sequence", "normalizers": [NESTED]}
PARTS: list[dict[str, Any]] = [
    {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"(\S|\S\S)+$"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
    {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}},
    {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    {"pre_tokenizer": {"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": True}},
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}},
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}},
    {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 1000}},
    {"normalizer": {"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}},
    {"normalizer": NESTED},
    {"model": {"type": "Unigram", "unk_id": 5, "vocab": []}},
    {"model": {"type": "Unigram", "unk_id": 10**12, "vocab": [["a", 0.0]]}},
    {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}},
    {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["a", 1e308], ["b", -1e308]]}},
    {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["x" * 1_000_000, 0.0]]}},  # crashes the library
    {"model": {"unk_id": 0, "vocab": [['"' * 1_000_000, 0.0]]}},
    {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a"]]}},
    {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
    {"model": {"type": "BPE", "vocab": {"a": 1 << 31}, "merges": []}},  # the library would count to it
    {"model": {"type": "BPE", "vocab": {"t": 0, "\u4e00": 1}, "merges": []}},
    {"model": {"type": "BPE", "vocab": {"a": 4_294_967_295}, "merges": []}},
    {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 1.0}},
    {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "b"}},
    {"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "b", "max_input_chars_per_word": 5}},
    {"model": {"type": "WordPiece", "vocab": {"a": 0}, "continuing_subword_prefix": "", "unk_token": "a"}},
    {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "b"}},
    {"model": None},
    {"decoder": {"type": "Strip", "content": "", "start": 10**18, "stop": 10**18}},
    {"decoder": {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True}},
    {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "?", "type_id": 0}}],
        }
    },
    {"truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9}},
    {"padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": 0}},
    {"added_tokens": [{"id": 10**9, "content": "<a>", "special": True}]},
    {"added_tokens": [{"id": 3, "content": ""}] * 1000},
    {"added_tokens": [{"id": i, "content": f"<{i}>"} for i in range(20_000)]},
]


@pytest.mark.parametrize("at", range(len(PARTS)))
def test_a_hostile_part_of_a_tokenizer_json(
    at: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = train_tokenizer(["the garden"], "bpe", vocab_size=270).definition()
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree | PARTS[at]))
    outcome(tmp_path)
    capfd.readouterr()


@pytest.mark.parametrize(
    "content", [deep(100_000), b'{"model":' * 100_000, b"null", b"\0", b'"\\ud800"', b"{}"]
)
def test_no_tokenizer_json_at_all(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert outcome(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(train_tokenizer([], "bytes").definition()))
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    outcome(tmp_path)
    capfd.readouterr()
