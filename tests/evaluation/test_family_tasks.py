"""The families' tasks: records of both sides, features of the right tokens, and what a probe reads there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.objectives import small

from seedbed.data.settings import DataSettings
from seedbed.evaluation import family_tasks
from seedbed.evaluation.family_tasks import WEIGHT_DECAY, Tasks, baselines, gather, measure, probe_labels
from seedbed.evaluation.records import Record
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.text.training import train_tokenizer

CLASS = '''class Kind{n}:
    """A kind, the {n}th."""

    def change{n}(self, other):
        """Change the {n}th."""
        self.value = other{n}

'''


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules long enough to be cut, in the middle of classes too."""
    folder = tmp_path_factory.mktemp("code")
    for name in range(4):
        source = "".join(CLASS.format(n=1000 * name + n) for n in range(200))
        (folder / f"{name}.py").write_text(source)
    return folder


def language_model() -> LanguageModel:
    tokenizer = train_tokenizer(["text"], "bytes", vocab_size=257)
    module = build(replace(family("gpt2").sized(16, 1), vocab_size=257))
    initialize(module, torch.Generator().manual_seed(0))
    return LanguageModel(module.eval(), tokenizer)


def test_records_of_modules_that_are_cut_have_their_labels_and_sides(code: Path) -> None:
    tasks = gather(DataSettings(train=str(code)))
    texts = [path.read_text() for path in sorted(code.iterdir())]
    assert tasks.passages and all(any(passage in text for text in texts) for passage in tasks.passages)
    held_out = "".join(tasks.passages)
    for side, records in enumerate(tasks.labelled["words"]):
        assert {record.reference for record in records} == {
            *("class", "function", "parameter", "attribute", "read")
        }
        for record in records:
            word = record.text[slice(*record.fields["span"])]
            assert word.isidentifier() and (record.reference == "class") == word.startswith("Kind")
            assert (record.reference == "function") == word.startswith("change")
        assert [record.text in tasks.passages for record in records] == [bool(side)] * len(records)
    for side, records in enumerate(tasks.labelled["sentences"]):
        assert {record.reference for record in records} == {"class", "method"}
        assert [record.text in held_out for record in records] == [bool(side)] * len(records)


def test_every_share_has_an_interval_and_a_baseline_needs_no_network(code: Path) -> None:
    tasks, lm = gather(DataSettings(train=str(code))), language_model()
    few = Tasks(tasks.passages, {name: [x[:200] for x in sides] for name, sides in tasks.labelled.items()})
    scores, frequent = measure(lm, few), baselines(lm, few)[0]
    assert list(scores) == ["cloze", "words", "sentences"] and frequent["title"] == "Most frequent label"
    assert all(0 <= score["value"] <= 1 for score in scores.values())
    tested = [record.reference for record in few.labelled["sentences"][1]]
    known = [record.reference for record in few.labelled["sentences"][0]]
    commonest = max(set(known), key=known.count)
    value = frequent["scores"]["sentences"]["value"]
    assert value == pytest.approx(tested.count(commonest) / len(tested))
    low, high = scores["words"]["interval"]
    assert low < scores["words"]["value"] < high


def test_a_word_is_its_last_token_and_a_text_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, seen = language_model(), []

    def keep(features: torch.Tensor, known: list[str], tested: torch.Tensor) -> list[str]:
        seen.append(tested)
        return known[:1] * len(tested)

    monkeypatch.setattr(family_tasks, "probe_labels", keep)
    word = Record("def change(x)", "function", "", {"span": (4, 10)})
    text = Record("Change it.", "method", "", {})
    measure(lm, Tasks(["x" * 64], {"words": [[word], [word]], "sentences": [[text], [text]]}))
    assert lm.tokenizer is not None
    states = lm.module(torch.tensor(lm.tokenizer.encode("def change(x)")), Layout.of([13]))
    torch.testing.assert_close(seen[0][0], states[9], rtol=1e-5, atol=1e-6)
    states = lm.module(torch.tensor(lm.tokenizer.encode("Change it.")), Layout.of([10]))
    torch.testing.assert_close(seen[1][0], states.mean(0), rtol=1e-5, atol=1e-6)


def test_a_linear_rule_is_found_and_noise_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=rng)
    y = [small.LABELS[i] for i in (x @ torch.randn(8, 3, generator=rng)).argmax(1).tolist()]

    def share_right(labels: list[str]) -> float:
        found = probe_labels(x[:400], labels[:400], x[400:])
        return sum(map(str.__eq__, found, labels[400:])) / 200

    assert share_right(y) > 0.93
    noise = torch.randint(3, (600,), generator=rng).tolist()
    assert share_right([small.LABELS[i] for i in noise]) < 0.45


def test_the_fit_is_the_minimum_that_plain_descent_finds() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(60, 3, generator=rng)
    y = (x[:, 0] + 0.5 * torch.randn(60, generator=rng) > 0).long()
    scaled = ((x - x.mean(0)) / x.std(0)).double()
    weight, bias = (torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3), (2,)))
    optimizer = torch.optim.SGD([weight, bias], lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        logits = scaled @ weight.T + bias
        (torch.nn.functional.cross_entropy(logits, y) + WEIGHT_DECAY * weight.square().sum()).backward()
        optimizer.step()
    expected = ["ab"[i] for i in (scaled @ weight.T + bias).argmax(1).tolist()]
    assert probe_labels(x, ["ab"[i] for i in y.tolist()], x) == expected
