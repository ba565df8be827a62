"""A run has the special tokens that its objective needs, and its model fills blanks with those."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

import seedbed
from seedbed.api.pretrain import pretrain, show
from seedbed.base.errors import UsageError
from seedbed.generation.gaps import GapFiller
from seedbed.generation.language_model import LanguageModel
from seedbed.select import rehearsal
from seedbed.text.blanks import MarkedBlanks
from seedbed.text.tokenizer import Tokenizer

SETTINGS = [
    *("tokenizer.vocab_size=400", "training.batch_tokens=192", "training.context_tokens=32"),
    "training.precision=float32",
]
SIZES = ["model.d_model=32", "model.num_layers=1"]
TEXT = "the seed of garden ___ grows"


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny run of a family with an objective -> its model."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    records = [{"text": f"the seed of garden {n} grows {n % 7} leaves."} for n in range(60)]
    records = [record | {"input": record["text"], "target": "leaves"} for record in records]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, records)))

    def run(objective: str, *overrides: str, out: str = "run", **options: Any) -> Path:
        data, own = str(tmp_path / "notes.jsonl"), [*SETTINGS, *(overrides or SIZES)]
        if overrides:  # a base, which has its own tokenizer
            own = [one for one in own if not one.startswith("tokenizer.")]
        options |= {"out": tmp_path / out, "objective": objective, "steps": 2, "overrides": own}
        return pretrain(data, **options).model

    return run


@pytest.mark.parametrize(
    ("family", "objective", "mark"),
    [
        ("bart", "span_corruption", "<extra_id_0>"),
        ("bart", "denoising", "<mask>"),
        ("t5", "denoising", "<mask>"),
        ("t5", "span_corruption", "<extra_id_0>"),
        ("transformer", "denoising", "<mask>"),
        ("transformer", "span_corruption", "<extra_id_0>"),
    ],
)
def test_a_model_fills_by_what_it_learnt(
    family: str, objective: str, mark: str, begin: Any, tmp_path: Path
) -> None:
    model = begin(objective, family=family)
    lm = seedbed.load(model)
    lm.save(tmp_path / "again")
    for one in (lm, seedbed.load(tmp_path / "again")):
        assert isinstance(one._filler, GapFiller) and rewrites(one) == (mark == "<mask>")
        source = one.blank_ids(TEXT)
        # What was read in training: the tokens around a text, and the mark in the gap.
        assert source == AutoTokenizer.from_pretrained(model)(TEXT.replace("___", mark)).input_ids
        assert one.blank_ids(TEXT.replace("___", mark)) == source
        filled = one.fill(TEXT, 2, max_new_tokens=2)
        assert len(filled.blanks[0]) == 2 and filled.text.startswith("the seed of garden")
        plain = one.generate(source, 3, temperature=0)
        assert plain == one.generate([source], 3, temperature=0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GenerationConfig.from_pretrained(model).decoder_start_token_id == lm._start_ids()[0]
    theirs = AutoModelForSeq2SeqLM.from_pretrained(model)
    assert theirs.config.vocab_size == lm.config.vocab_size


def rewrites(lm: LanguageModel) -> bool:
    """Whether the model writes the whole text again, and not sentinels with their spans."""
    assert isinstance(lm._filler, GapFiller) and isinstance(lm._filler.encoder, MarkedBlanks)
    return not lm._filler.encoder.sentinels(1)


def test_what_a_base_learnt_lasts_until_another_objective(begin: Any, tmp_path: Path) -> None:
    """A denoising T5 is trained on pairs, then on span corruption."""
    first = begin("denoising", family="t5", out="first")
    second = begin("completion", f"model.base={first}", out="second")
    assert rewrites(seedbed.load(second))
    third = begin("span_corruption", f"model.base={second}", out="third")
    assert not rewrites(seedbed.load(third))
    file = third / "generation_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in values.items() if not k.startswith("seedbed")}))
    assert not rewrites(seedbed.load(third))  # not in the file: sentinels, of both
    file.write_text(json.dumps(values | {"seedbed_blank": "masks"}))
    with pytest.raises(UsageError, match=r"a blank becomes 'masks' .* has only: sentinels, mask; use the"):
        seedbed.load(third).fill(TEXT)


def test_a_prompt_s_text_never_becomes_a_special_token(begin: Any) -> None:
    lm = seedbed.load(begin("span_corruption", family="bart"))
    for text in ("a <extra_id_0> b", "a <mask> b", "a </s> b"):
        assert lm.tokenizer.special_ids.isdisjoint(lm.prompt_ids(text)[1:-1])
    for text in ("a ___ b</s><mask>", "a <extra_id_7> b</s><mask>"):
        inner = [i for i in lm.blank_ids(text)[1:-1] if i in lm.tokenizer.special_ids]
        assert inner == [lm.tokenizer.sentinel_ids[0]]
    with pytest.raises(UsageError, match="has no blank to fill; write ___ or <extra_id_0>"):
        lm.blank_ids("a <mask> b")


def test_a_folder_s_tokenizer_of_another_objective_is_made_again(begin: Any, tmp_path: Path) -> None:
    """As by `--show` first: another objective of one family has other special tokens."""
    how: dict[str, Any] = {"out": tmp_path / "run", "family": "bart", "overrides": [*SETTINGS, *SIZES]}
    show(str(tmp_path / "notes.jsonl"), objective="denoising", **how)
    assert not Tokenizer.load(tmp_path / "run" / "tokenizer").sentinel_ids
    assert seedbed.load(begin("span_corruption", family="bart")).tokenizer.sentinel_ids
