"""Vectors are computed by the settings of a sentence-transformers folder, which a bundle saves again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.reference import tiny

import seedbed
from seedbed.base.errors import BundleError, SeedbedWarning, UsageError

ROWS = [[5, 6, 7], [9, 4]]
FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")


def flags(*on: str) -> dict[str, Any]:
    """`1_Pooling/config.json` as in most published folders."""
    return {"word_embedding_dimension": 64} | {f"pooling_mode_{flag}": flag in on for flag in FLAGS}


def sentence_folder(folder: Path, pooling: Any, *more: str) -> Path:
    """A bundle with the files of sentence-transformers, `more` being its modules after the pooling."""
    seedbed.new(tiny("bert")).save(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"a.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    ("pooling", "more", "expected"),
    [
        (flags("cls_token"), [], ("first", False)),
        (flags("cls_token"), ["Normalize"], ("first", True)),
        (flags("mean_tokens"), ["Normalize"], ("mean", True)),
        ({"embedding_dimension": 64, "pooling_mode": "cls"}, [], ("first", False)),
        ({"word_embedding_dimension": 64}, [], ("mean", False)),
    ],
)
def test_vectors_follow_the_folders_settings_and_bundles_save_them(
    pooling: Any, more: list[str], expected: tuple[str, bool], tmp_path: Path
) -> None:
    lm = seedbed.load(sentence_folder(tmp_path / "theirs", pooling, *more))
    vectors = lm.embed(ROWS)
    plain = {name: lm.embed(ROWS, pooling=name, normalize=False) for name in ("mean", "first")}
    assert not torch.allclose(plain["mean"], plain["first"], atol=0.1)
    vector = plain[expected[0]]
    vector = vector / vector.norm(dim=-1, keepdim=True) if expected[1] else vector
    assert torch.allclose(vectors, vector, atol=1e-6)
    assert torch.equal(lm.embed(ROWS, pooling="mean", normalize=False), plain["mean"])
    for _ in range(2):  # the second save replaces the first
        lm.save(tmp_path / "ours")
    again = seedbed.load(tmp_path / "ours")
    assert torch.equal(again.embed(ROWS), vectors) and again.vectors == lm.vectors


def test_a_folder_without_settings_has_the_mean(tmp_path: Path) -> None:
    lm = seedbed.new(tiny("bert"))
    lm.save(tmp_path)
    again = seedbed.load(tmp_path)
    assert again.vectors is None and not (tmp_path / "modules.json").exists()
    assert torch.equal(again.embed(ROWS), lm.embed(ROWS, pooling="mean", normalize=False))


@pytest.mark.parametrize(
    ("pooling", "more", "words"),
    [
        (flags("max_tokens"), [], "requests 'pooling_mode_max_tokens', which"),
        (flags("cls_token", "mean_tokens"), [], "'pooling_mode_cls_token', 'pooling_mode_mean_tokens'"),
        (flags(), [], "requests no pooling"),
        ({"pooling_mode": "lasttoken"}, [], "requests 'lasttoken'"),
        (
            flags("mean_tokens"),
            ["Dense", "Normalize"],
            "computes vectors by Transformer, Pooling, Dense, Normal",
        ),
    ],
)
def test_what_is_not_known_is_never_taken_for_the_mean(
    pooling: Any, more: list[str], words: str, tmp_path: Path
) -> None:
    lm = seedbed.load(sentence_folder(tmp_path / "theirs", pooling, *more))
    with pytest.raises(UsageError, match=words) as caught:
        lm.embed(ROWS)
    assert "\n" not in str(caught.value) and "give pooling='mean' or 'first'" in str(caught.value)
    assert lm.embed(ROWS, pooling="mean").shape == (2, 64)
    with pytest.warns(SeedbedWarning, match=r"bundle does not keep.*own folder"):
        lm.save(tmp_path / "ours")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("content", ["", "{", "7", '["a"]', '[{"type": 1}]', '{"a": 1}', "\xff", "[[]]"])
def test_damaged_files_are_refused_in_one_line(name: str, content: str, tmp_path: Path) -> None:
    file = sentence_folder(tmp_path, flags("mean_tokens")) / name
    file.write_text(content, encoding="latin-1")
    if name != "modules.json" and content == '{"a": 1}':  # an object without a mode
        assert seedbed.load(tmp_path).embed(ROWS).shape == (2, 64)
        return
    with pytest.raises(BundleError, match=file.name) as caught:
        seedbed.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_number_of_tokens_is_saved_and_the_context_bounds_it(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "theirs", flags("mean_tokens"))
    context = seedbed.load(folder).config.max_positions
    rows = [[7] * (context + 9), [5, 6, 7, 8]]
    for limit, rest in ((None, context), (3, 3), (10**9, context)):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
        lm = seedbed.load(folder)
        with pytest.warns(SeedbedWarning, match=f"longer texts than {rest} tokens are cut off"):
            vectors = lm.embed(rows)
        cut = [row[:rest] for row in rows]
        assert torch.allclose(vectors, lm.embed(cut), atol=1e-6)
        lm.save(tmp_path / "ours", force=True)
        assert seedbed.load(tmp_path / "ours").vectors == lm.vectors
    for odd in (0, -1, 2.5, True, "256"):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": odd}))
        with pytest.raises(BundleError, match=r"sentence_bert_config.json has max_seq_length=.*at least 1"):
            seedbed.load(folder)
