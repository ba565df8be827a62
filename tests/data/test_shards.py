"""Shards: what is written is what is read, and a damaged one is named."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.base.errors import DataError, HardwareError
from seedbed.data.shards import META, OFFSETS, TOKENS, ShardWriter, TokenShard, write_shard


def documents(shard: TokenShard) -> list[list[int]]:
    ends = shard.offsets[1:]
    return [shard.tokens[a:b].tolist() for a, b in zip(shard.offsets, ends, strict=False)]


@given(
    lists=st.lists(st.lists(st.integers(0, 70_000), min_size=1)),
    wide=st.booleans(),
)
def test_documents_come_back(
    lists: list[list[int]], wide: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vocab_size = 70_001 if wide else 65_536
    lists = [[i % vocab_size for i in ids] for ids in lists]
    shard = write_shard(tmp_path_factory.getbasetemp() / "shard", lists, vocab_size=vocab_size)
    assert documents(shard) == lists
    assert shard.tokens.dtype == (np.uint32 if wide else np.uint16)
    assert (shard.num_documents, shard.num_tokens) == (len(lists), sum(map(len, lists)))


def test_tokens_stay_on_disk(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s", [[1, 2, 3]], vocab_size=9)
    assert isinstance(shard.tokens.base, np.memmap)
    assert not shard.tokens.flags.writeable
    assert (tmp_path / "s" / TOKENS).read_bytes() == np.array([1, 2, 3], "<u2").tobytes()


def test_a_document_may_come_in_pieces(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", vocab_size=300) as writer:
        for piece, num_bytes in (([1, 2], 5), ([], 0), (np.array([3, 299]), 7)):
            writer.append(piece, num_bytes=num_bytes)
        writer.end_document()
        writer.end_document()  # an empty document leaves no trace
        writer.append([4])
        writer.end_document()
        assert writer.num_documents == 2
        shard = writer.close()
    assert documents(shard) == [[1, 2, 3, 299], [4]]
    assert (shard.num_bytes, shard.meta.vocab_size) == (12, 300)
    content = np.array([1, 2, 3, 299, 4], "<u2").tobytes() + np.array([0, 4, 5], "<i8").tobytes()
    assert shard.meta.fingerprint == hashlib.sha256(content).hexdigest()
    assert asdict(TokenShard.open(tmp_path / "s").meta) == asdict(shard.meta)


@pytest.mark.parametrize("ids", [[300], [0, -1], [1 << 40]])
def test_ids_outside_the_vocabulary_are_refused(ids: list[int], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"token ids from .* are not within vocab_size=300; use the tokenizer"
    ):
        write_shard(tmp_path / "s", [[1], ids], vocab_size=300)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HardwareError, match=r"cannot write .*s: .*file is a file, not a folder"):
        ShardWriter(tmp_path / "file" / "s", vocab_size=9)


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    def damage(name: str, content: bytes, message: str) -> None:
        write_shard(tmp_path / "s", [[1, 2, 3], [4]], vocab_size=9)
        (tmp_path / "s" / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            TokenShard.open(tmp_path / "s")

    damage(TOKENS, b"\x01\x00\x02\x00", r"has 2 tokens and 2 documents, but its meta\.json says 4 and 2")
    damage(TOKENS, b"\x01\x00\x02", r"is not a readable token shard")
    damage(TOKENS, b"", r"is not a readable token shard .*delete it to write it again")
    damage(OFFSETS, b"", r"has 4 tokens and -1 documents")
    for offsets in ([1, 3, 4], [0, 5, 4], [0, -1, 4]):
        damage(OFFSETS, np.array(offsets, "<i8").tobytes(), r"offsets\.bin does not rise from 0; delete")
    damage(OFFSETS, np.array([0, 1, 2], "<i8").tobytes(), r"delete the folder to write it again")
    damage(META, b"{", r"is not a readable token shard")
    damage(META, json.dumps({"vocab_size": 9}).encode(), r"is not a readable token shard")
    with pytest.raises(DataError, match="is not a readable token shard"):
        TokenShard.open(tmp_path / "nowhere")
