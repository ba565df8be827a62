"""Fill in the middle: the share and the order of cut texts, the places of the cuts, and a filled blank."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.objectives import small

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError
from seedbed.data.records import Record
from seedbed.objectives.fill_in_the_middle import MIDDLE, PREFIX, SUFFIX, FillInTheMiddle, Settings
from seedbed.select import rehearsal

TEXT = list(range(9))
NUM = 4000  # records of a statistic


def rows(**settings: Any) -> list[list[Any]]:
    """The rows of the text in NUM records, the special tokens by name."""
    objective = small.objective("fill_in_the_middle", **settings)
    own = {objective.vocabulary.special_tokens[token]: token for token in (PREFIX, SUFFIX, MIDDLE)}
    found = []
    for number in range(NUM):
        example = objective.example(Record(np.array([*TEXT, small.EOS]), (0, number)), 0)
        row = [*example.input_ids.tolist(), example.targets.tolist()[-1]]
        assert example.targets.tolist() == row[1:] and example.target_index is None  # all are targets
        assert row[0] == small.BEGIN and row[-1] == small.END and example.source_ids is None
        found.append([own.get(token, token) for token in row[1:-1]])
    return found


def between(row: list[Any]) -> tuple[list[int], list[int], list[int]]:
    """What follows each of the three special tokens of a row, in the order of the row."""
    first, second, third = (row.index(token) for token in (PREFIX, SUFFIX, MIDDLE))
    assert 0 == first < second < third
    return row[1:second], row[second + 1 : third], row[third + 1 :]


def test_psm_is_prefix_suffix_middle_cut_at_every_place_alike() -> None:
    cuts = Counter[int]()
    for row in rows(rate=1, spm_rate=0):
        prefix, suffix, middle = between(row)
        assert prefix + middle + suffix == TEXT
        cuts.update([len(prefix), len(prefix + middle)])
    # 800 expected of each of 10 places, with a standard deviation of 27.
    assert sorted(cuts) == list(range(10)) and all(abs(num - 800) < 110 for num in cuts.values())


def test_spm_is_suffix_then_prefix_and_middle_together() -> None:
    """The suffix begins at the later of two cuts: at place k of 10 with probability (2k + 1) / 100."""
    cuts = Counter[int]()
    for row in rows(rate=1, spm_rate=1):
        nothing, suffix, rest = between(row)
        assert nothing == [] and rest + suffix == TEXT
        cuts[len(rest)] += 1
    # The standard deviation is at most 25.
    assert all(abs(cuts[k] - NUM * (2 * k + 1) / 100) < 100 for k in range(10))


@pytest.mark.parametrize(("rate", "spm_rate"), [(0.5, 0.5), (0.9, 0.2), (0.2, 0.9)])
def test_rates_are_the_shares_of_cut_rows_and_of_spm(rate: float, spm_rate: float) -> None:
    """Within 4 standard deviations; the rows that are not cut are the text."""
    found = rows(rate=rate, spm_rate=spm_rate)
    cut = [row for row in found if MIDDLE in row]
    assert all(row == TEXT for row in found if MIDDLE not in row)
    assert abs(len(cut) / NUM - rate) < 4 * (rate * (1 - rate) / NUM) ** 0.5
    # An empty prefix in the order PSM looks like SPM; it has both cuts to choose, the first at place 0: 19%.
    expected = spm_rate + (1 - spm_rate) * 0.19
    share = sum(between(row)[0] == [] for row in cut) / len(cut)
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(cut)) ** 0.5


def test_a_text_that_goes_on_has_no_end_token_unless_it_is_cut() -> None:
    for rate, last in ((1, small.END), (1e-9, TEXT[-1])):
        objective = small.objective("fill_in_the_middle", rate=rate)
        assert objective.example(Record(np.array(TEXT), (0, 0)), 0).targets[-1] == last


def test_half_of_the_rows_are_cut_by_default() -> None:
    assert Settings() == Settings(rate=0.5, spm_rate=0.5)


def test_the_longest_record_makes_a_row_of_the_context() -> None:
    objective = small.objective("fill_in_the_middle", rate=1)
    for context in range(5, 65):
        example = objective.example(Record(np.zeros(objective.record_tokens(context), np.int64), (0, 0)), 0)
        assert len(example.input_ids) == context
    with pytest.raises(ConfigError, match="context_tokens=4 leaves no token for text"):
        objective.record_tokens(4)


@pytest.mark.parametrize(
    ("key", "value"), [("rate", 0), ("rate", -0.1), ("rate", 1.1), ("spm_rate", -0.1), ("spm_rate", 1.1)]
)
def test_other_shares_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"objective.{key}={value} is not allowed: give a share"):
        Settings(**{key: value})


@pytest.mark.parametrize("lacking", [PREFIX, SUFFIX, MIDDLE])
def test_a_tokenizer_without_one_of_the_tokens_is_refused(lacking: str) -> None:
    own = {token: i for i, token in enumerate((PREFIX, SUFFIX, MIDDLE), small.OWN[0]) if token != lacking}
    message = rf"the objective fill_in_the_middle needs {lacking.replace('|', '[|]')}, and this tokenizer has"
    with pytest.raises(ConfigError, match=message):
        FillInTheMiddle(small.vocabulary(special_tokens=own), Settings())


def test_a_model_trained_from_text_fills_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prompt has the order of PSM, and the text around the blank stays."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    texts = [f"# {n}\ndef {name}(a, b):\n    return a + b\n" for n in range(30) for name in ("add", "join")]
    (tmp_path / "code.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    run = pretrain(
        str(tmp_path / "code.jsonl"),
        out=tmp_path / "run",
        family="gpt2",
        objective="fill_in_the_middle",
        steps=3,
        overrides=[
            *("tokenizer.vocab_size=400", "model.d_model=32", "model.num_layers=1"),
            *("training.batch_tokens=192", "training.context_tokens=64", "training.precision=float32"),
        ],
    )
    lm = seedbed.load(run.model)
    before, after = "def add(a, b):\n    return ", "\n"
    ids, own = lm.tokenizer.encode, lm.tokenizer.vocabulary
    prompt = [own[PREFIX], *ids(before[:-1]), own[SUFFIX], *ids(after), own[MIDDLE]]
    assert lm.blank_ids(f"{before}___{after}") == prompt
    filled = lm.fill(f"{before}___{after}", 3, max_new_tokens=4)
    assert len(filled.blanks[0]) == 3
    added = filled.blanks[0][0].text
    assert filled.text == (before[:-1] if added[:1].isspace() else before) + added + after
