"""Truncated, flipped, hostile or unknown GGUF files: each is refused in one line, quickly, cheaply."""

import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from seedbed.base.errors import BundleError, SeedbedWarning
from seedbed.hub.bundle import open_bundle, read_bundle
from seedbed.hub.gguf_file import open_gguf_file

LONGEST_SECONDS = 2.0
HUGE = (2**16 + 1, 2**31, 2**32, 2**40, 2**63, 2**64 - 1)


def refused(path: Path, message: str = "") -> str:
    started = time.perf_counter()
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(path)
    assert time.perf_counter() - started < LONGEST_SECONDS
    said = str(caught.value)
    assert "\n" not in said and said.startswith(str(path)) and "; " in said, said
    assert len(said) < 400, said
    return said


def byte_level() -> tokenizers.Tokenizer:
    vocabulary = {"<a>": 0, "<b>": 1}
    vocabulary |= {s: i + 2 for i, s in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"ab": 258, "abc": 259}
    return tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("ab", "c")]))


@pytest.fixture
def values(tiny: Any) -> dict[str, Any]:
    """The metadata of a whole file."""
    return tiny.metadata(tiny.make_llama(260)) | tiny.tokenizer_metadata(byte_level(), "smollm")


@pytest.fixture
def whole(tiny: Any, write_gguf: Any, values: dict[str, Any]) -> Path:
    path, _ = write_gguf(tiny.make_llama(260), "Q4_1", values=values)
    assert open_bundle(path)[1] is not None
    return path


def data_start(path: Path) -> int:
    with open_gguf_file(path) as file:
        return file.data_start


# ---- cut and flipped


def test_a_file_truncated_at_any_length_is_refused(whole: Path) -> None:
    content, header = whole.read_bytes(), data_start(whole)
    lengths = {*range(80), *range(80, header, header // 60), header - 1, header, header + 1, len(content) - 1}
    lengths |= set(range(header, len(content), (len(content) - header) // 30))
    assert len(lengths) > 150
    for length in sorted(lengths):
        whole.write_bytes(content[:length])
        refused(whole, "cannot be used: .*truncated or damaged")


@pytest.mark.filterwarnings("ignore::seedbed.base.errors.SeedbedWarning")
def test_a_flipped_byte_is_refused_or_harmless(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, header, chance = whole.read_bytes(), data_start(whole), random.Random(0)
    reported = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 3))):
            damaged[chance.randrange(header)] ^= 1 << chance.randrange(8)
        whole.write_bytes(damaged)
        started = time.perf_counter()
        try:
            open_bundle(whole)
        except BundleError as error:
            reported += 1
            assert "\n" not in str(error) and str(error).startswith(str(whole))
        assert time.perf_counter() - started < LONGEST_SECONDS
    assert reported > 50
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore::seedbed.base.errors.SeedbedWarning")
def test_impossible_counts_and_lengths_are_refused_without_memory(whole: Path) -> None:
    """Every eight bytes of the header in turn, the counts, the lengths and the shapes among them."""
    content, header = whole.read_bytes(), data_start(whole)
    key = content.index(b"tokenizer.ggml.tokens")
    tensors = content.index(b"token_embd.weight") - 8
    places = [8, 16, 24, key - 8, key + 29, key + 37, *range(tensors, tensors + 60), header - 8]
    tracemalloc.start()
    for place in places:
        for number in HUGE:
            whole.write_bytes(content[:place] + struct.pack("<Q", number) + content[place + 8 :])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                open_bundle(whole)
            except BundleError as error:
                assert "\n" not in str(error)
            assert tracemalloc.get_traced_memory()[1] - before < 20 * len(content)
    tracemalloc.stop()


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("place", [8, 16, 24])
def test_a_hostile_count_is_refused(whole: Path, place: int, count: int) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[:place] + struct.pack("<Q", count) + content[place + 8 :])
    refused(whole, "its header has|beyond the end")


def header_of(*, version: int = 3, num_tensors: int = 0, entries: tuple[bytes, ...] = ()) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, len(entries)) + b"".join(entries)


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


HOSTILE = {
    "empty": (b"", "it is empty"),
    "other": (b"PK\x03\x04" * 30, "does not begin like a GGUF file"),
    "old": (header_of(version=1), "has the version 1 of the format; allowed"),
    "future": (header_of(version=9), "has the version 9"),
    "big-endian": (header_of(version=3 << 24), "big-endian"),
    "nested lists": (header_of(entries=(entry("a", 9, struct.pack("<IQ", 9, 2**40)),)), "has 10995116"),
    "a list of lists": (header_of(entries=(entry("a", 9, struct.pack("<IQ", 9, 1)),)), "type 9"),
    "nothing, often": (
        header_of(entries=(entry("a", 9, struct.pack("<IQ", 8, 100)),)) + bytes(800),
        "lacks general.architecture",
    ),
    "a kind of value": (header_of(entries=(entry("a", 77, b""),)), "type 77"),
    "a key twice": (header_of(entries=(entry("a", 0, b"1"), entry("a", 0, b"1"))), "names 'a' twice"),
    "no UTF-8": (header_of(entries=(entry("a", 8, struct.pack("<Q", 2) + b"\xff\xfe"),)), "is not UTF-8"),
    "a list of everything": (
        header_of(entries=(entry("a", 9, struct.pack("<IQ", 10, 300)),)) + bytes(1000),
        "beyond the end",
    ),
    "alignment": (
        header_of(entries=(entry("general.alignment", 4, struct.pack("<I", 0)),)),
        "general.alignment=0 is not allowed",
    ),
    "an architecture that is a number": (
        header_of(entries=(entry("general.architecture", 0, b"\x01"),)),
        "has 1 as general.architecture; allowed: a text",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    refused(path, message)


def test_millions_of_empty_texts_are_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "many.gguf"
    count = 3 << 20
    path.write_bytes(header_of(entries=(entry("a", 9, struct.pack("<IQ", 8, count)),)) + bytes(8 * count))
    refused(path, "lists of more than 2097152 texts")
    entries = (entry("a", 9, struct.pack("<IQ", 8, 1 << 20)) + bytes(8 << 20),)
    path.write_bytes(header_of(entries=entries))
    refused(path, "lacks general.architecture")


def test_an_unreadable_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(BundleError, match=r"folder\.gguf has no config\.json"):
        open_bundle(tmp_path / "folder.gguf")


# ---- whole, but contradictory or unknown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": None}, "its metadata lacks llama.block_count"),
        ({"llama.block_count": 3}, "its 21 tensors are too few for 3 layers"),
        ({"llama.block_count": 10**9}, "too few for 1000000000 layers"),
        ({"llama.block_count": 1}, "has no decoder.blocks.1|no place for"),
        ({"llama.block_count": 0}, "num_layers=0 must be at least 1|no place for"),
        (
            {"llama.embedding_length": 2**31},
            "the config needs .* parameters, but the weights have .* numbers",
        ),
        ({"llama.embedding_length": 63}, "the shape|cannot be split|odd"),
        ({"llama.embedding_length": -64}, "must be at least 1|cannot be"),
        ({"llama.feed_forward_length": 95}, "the shape"),
        ({"llama.feed_forward_length": 3.5}, "has 3.5 as llama.feed_forward_length; allowed: a whole number"),
        ({"llama.attention.head_count": 0}, "head_count=0 must be at least 1"),
        ({"llama.attention.head_count_kv": 3}, "num_heads=4 is not a multiple of num_kv_heads=3"),
        ({"llama.attention.head_count_kv": [2, 2]}, "has a list as llama.attention.head_count_kv"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "norm_eps=nan is not allowed"),
        ({"llama.attention.value_length": 8}, "value_length differs from the 16 of a head"),
        ({"llama.rope.dimension_count": 8}, "dimension_count differs"),
        ({"llama.rope.freq_base": -1.0}, "rotary_base=-1.0 must be at least 1"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary scaling 'yarn'"),
        ({"split.count": 3}, "is one of 3 parts; join them with `llama-gguf-split --merge`"),
        (
            {"tokenizer.ggml.model": "bert"},
            "its tokenizer is of the kind 'bert', unknown here; allowed: gpt2",
        ),
        ({"tokenizer.ggml.model": "llama"}, "its metadata lacks tokenizer.ggml.scores"),
        ({"tokenizer.ggml.pre": "smolm"}, "pre-tokenizer 'smolm', unknown here; did you mean 'smollm'"),
        ({"tokenizer.ggml.merges": ["ab"]}, "the merge 'ab', which is not a pair of tokens"),
        ({"tokenizer.ggml.merges": ["a zz"]}, "its tokenizer cannot be used: .*zz"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "has 260 tokens, but 2 token types"),
        ({"tokenizer.ggml.token_type": [1.5] * 260}, "numbers with fractions as tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.tokens": ["a"] * 260}, "has 259 tokens twice"),
        ({"tokenizer.ggml.tokens": 5}, "has 5 as tokenizer.ggml.tokens; allowed: a list of texts"),
        ({"tokenizer.ggml.tokens": None}, "its metadata lacks tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.eos_token_id": 260}, "has 260 as tokenizer.ggml.eos_token_id, but there are 260"),
        (
            {"tokenizer.ggml.add_bos_token": 3},
            "has 3 as tokenizer.ggml.add_bos_token; allowed: true or false",
        ),
    ],
)
def test_contradictory_metadata_is_refused(
    tiny: Any, write_gguf: Any, values: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    given = {key: value for key, value in (values | changes).items() if value is not None}
    path, _ = write_gguf(tiny.make_llama(260), values=given)
    refused(path, message)


def test_an_unknown_architecture_is_refused(tiny: Any, write_gguf: Any) -> None:
    path, _ = write_gguf(tiny.make_llama(40), architecture="lama")
    refused(path, "its architecture is 'lama', unknown here; did you mean 'llama'")
    with pytest.raises(BundleError, match="its architecture is 'lama'"):
        read_bundle(path)


@pytest.mark.parametrize(("kind", "said"), [(99, "99"), (15, "Q8_K"), (26, "I32"), (2**32 - 1, "4294967295")])
def test_an_unknown_quantization_is_refused(whole: Path, kind: int, said: str) -> None:
    content = whole.read_bytes()
    place = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    assert content[place : place + 4] == struct.pack("<I", 3)
    whole.write_bytes(content[:place] + struct.pack("<I", kind) + content[place + 4 :])
    refused(
        whole, f"'token_embd.weight' has the quantization {said}, which is unknown here; take a file in F32"
    )


def test_tensors_that_do_not_match_the_config_are_refused(tiny: Any, write_gguf: Any) -> None:
    module = tiny.make_llama(40)
    one = np.ones(4, np.float32)
    refused(write_gguf(module, extra={"blk.0.attn_q.bias": one})[0], "weights have .*q_proj.bias")
    refused(
        write_gguf(module, extra={"blk.0.extra.weight": one})[0], "no place for, first blk.0.extra.weight"
    )
    refused(write_gguf(module, extra={"x\ny": one})[0], "name 'x.*y', which cannot be printed")
    path, _ = write_gguf(module)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"output_norm.weight", b"output_mean.weight"))
    refused(path, "missing from the weights, first model.norm.weight")
    path.write_bytes(content.replace(b"token_embd.weight", b"token_embb.weight"))
    refused(path, "it lacks the tensor token_embd.weight")
    path.write_bytes(content.replace(b"blk.0.attn_k.weight", b"blk.0.attn_v.weight"))
    refused(path, "names the tensor 'blk.0.attn_v.weight' twice")


def test_overlapping_tensors_are_refused(whole: Path) -> None:
    """A small file cannot claim more than its size by naming the same bytes several times."""
    content, header = whole.read_bytes(), data_start(whole)
    damaged, shape = bytearray(content), struct.pack("<QQ", 64, 260)
    for name in (
        b"blk.0.ffn_gate.weight",
        b"blk.0.ffn_up.weight",
        b"blk.1.ffn_up.weight",
        b"blk.0.attn_q.weight",
    ):
        place = content.index(name) + len(name) + 4
        damaged[place : place + 28] = shape + struct.pack("<IQ", 3, 0)
    whole.write_bytes(damaged[:header] + content[header : header + 40_000])
    refused(whole, "is at byte 0 of the data, not [1-9]|would end at")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_cause_a_warning(tiny: Any, write_gguf: Any, number: float) -> None:
    module = tiny.make_llama(40)
    module.decoder.blocks[1].ffn_norm.weight.data[3] = number
    path = write_gguf(module)[0]
    with pytest.warns(
        SeedbedWarning, match=r"1 number that is not finite, first in blk\.1\.ffn_norm\.weight"
    ):
        open_bundle(path)
