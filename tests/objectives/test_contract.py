"""What every objective promises, over every file of the package and every family that it trains."""

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.objectives import small

from seedbed.base.errors import ConfigError
from seedbed.data.batch import collate
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.adapter import METHODS
from seedbed.models.network import family as family_of
from seedbed.text.blanks import infill_ids
from seedbed.text.special_form import ROLES
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

NAMES = small.NAMES
CORRUPTING = [n for n in NAMES if any(f.name == "rate" for f in fields(OBJECTIVES.get(n).settings_class))]
TEXT_NAMES = [name for name in NAMES if OBJECTIVES.get(name).learns_from == "text"]
PAIRS = [(name, family) for name in NAMES for family in small.fitting(name)]


def made(name: str, family: str) -> Any:
    return small.objective(name, shape=small.network(family).config.shape)


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_has_a_test_file(name: str) -> None:
    assert (Path(__file__).parent / f"test_{name}.py").exists()


def test_every_objective_trains_some_family() -> None:
    assert {name for name, _ in PAIRS} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_name_the_objective(name: str) -> None:
    assert OBJECTIVES.get(name).settings_class().name == name


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_loss_falls_on_32_records(name: str, family: str) -> None:
    objective, network = made(name, family), small.network(family, name)
    loader = Loader(
        [MixturePart(small.source(OBJECTIVES.get(name), 32), objective)], batch_tokens=600, seed=0
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        (batch,) = micro_batches(loader.next_step())
        loss = objective.loss_sum(network, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_sum_and_gradients_do_not_depend_on_the_split(name: str, family: str) -> None:
    """Accumulated equals full batch, and packed with others equals alone, to 1e-5."""
    require_equal_splits(name, made(name, family), small.network(family, name).double())


@pytest.mark.parametrize(("name", "family"), [p for p in PAIRS if p[0] not in TEXT_NAMES])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sum_and_gradients_beside_an_adapter_do_not_depend_on_the_split(
    name: str, family: str, dtype: torch.dtype
) -> None:
    network = small.network(family, name)
    lora = METHODS.get("lora")
    lora(lora.settings_class(rank=4)).apply(network, torch.Generator().manual_seed(1))
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    require_equal_splits(name, made(name, family), network.to(dtype))
    assert frozen and all(parameter.grad is None for parameter in frozen)


def require_equal_splits(name: str, objective: Objective, network: Any) -> None:
    """The summed loss and its gradients are those of the whole batch for every split and order."""
    rows = small.records(OBJECTIVES.get(name), 12)
    examples = [objective.example(row, 1) for row in rows]
    count = sum(len(example.targets) for example in examples)
    sums, gradients = [], []
    for order, size in ((examples, 0), (examples, 1), (examples[::-1], 60), (examples, 150)):
        network.zero_grad()
        total = 0.0
        batches = micro_batches(order, micro_batch_tokens=size)
        for batch in batches:
            loss = objective.loss_sum(network, batch)
            loss.backward()
            total += loss.item()
        assert sum(batch.num_targets for batch in batches) == count
        assert sum(batch.num_tokens for batch in batches) == sum(example.num_tokens for example in examples)
        sums.append(total)
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    for total, gradient in zip(sums[1:], gradients[1:], strict=True):
        assert total == pytest.approx(sums[0], rel=1e-5)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-5 * gradients[0].abs().max())


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_ranks_parts_are_the_whole_step(name: str, family: str) -> None:
    objective, network = made(name, family), small.network(family)
    examples = [objective.example(row, 1) for row in small.records(OBJECTIVES.get(name), 12)]
    (whole,) = micro_batches(examples)
    parts = [micro_batches(examples, rank=rank, world_size=3) for rank in range(3)]
    total = sum(objective.loss_sum(network, batch).item() for part in parts for batch in part)
    assert total == pytest.approx(objective.loss_sum(network, whole).item(), rel=1e-5)
    assert sum(batch.num_targets for part in parts for batch in part) == whole.num_targets


@pytest.mark.parametrize("name", NAMES)
def test_an_example_depends_on_seed_and_record_alone(name: str) -> None:
    kind = OBJECTIVES.get(name)
    objective, rows = small.objective(name), small.records(kind, 6)
    before = [objective.example(row, 7) for row in rows]
    torch.manual_seed(1)
    after = [small.objective(name).example(row, 7) for row in reversed(rows)][::-1]
    for one, other in zip(before, after, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None and right is None) or np.array_equal(left, right)


@pytest.mark.parametrize("name", CORRUPTING)
@pytest.mark.parametrize("part", range(3))
def test_seed_pass_and_number_each_decide_what_is_corrupted(name: str, part: int) -> None:
    objective, ids = small.objective(name), np.arange(39)
    read = set()
    for value in range(8):
        seed, *key = (value if at == part else 0 for at in range(3))
        example = objective.example(Record(ids, (key[0], key[1])), seed)
        read.add(tuple((example.input_ids if example.source_ids is None else example.source_ids).tolist()))
    assert len(read) > 1


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_predicted_by_inputs_that_exist(name: str) -> None:
    objective = small.objective(name)
    for row in small.records(OBJECTIVES.get(name), 6):
        example = objective.example(row, 0)
        where = np.arange(len(example.input_ids)) if example.target_index is None else example.target_index
        where = where[:1] if objective.learns_from == "labels" else where  # the row as a whole
        assert len(where) == len(example.targets) > 0
        assert where.min() >= 0 and where.max() < len(example.input_ids)
        for ids in (example.input_ids, example.targets, example.source_ids):
            assert ids is None or ids.dtype == np.int64


@pytest.mark.parametrize("name", TEXT_NAMES)
@pytest.mark.parametrize("context", [5, 16, 33, 64])
def test_no_row_is_longer_than_the_context(name: str, context: int) -> None:
    objective = small.objective(name)
    size = objective.record_tokens(context) + objective.overlap
    assert size >= 1
    longest = 0
    for number in range(60):
        ids = np.random.default_rng(number).integers(0, small.TEXT, size)
        example = objective.example(Record(ids, (0, number)), 0)
        rows = [example.input_ids, *([] if example.source_ids is None else [example.source_ids])]
        longest = max(longest, *map(len, rows))
    assert context - 2 <= longest <= context


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_the_end_of_a_document_is_no_part_of_its_text(name: str) -> None:
    """A token alone is in its row; the end of its document is at most one more target, the last one."""
    objective = small.objective(name)
    for number in range(8):
        _check_ends(objective, number)


def _check_ends(objective: Objective, number: int) -> None:
    end, alone, ended, other = (
        objective.example(Record(np.array(ids, dtype=np.int64), (0, number)), 0)
        for ids in ([small.EOS], [3], [3, small.EOS], range(9))
    )
    for example, text in ((end, set[int]()), (alone, {3}), (ended, {3})):
        read = np.concatenate([ids for ids in (*example[:2], example.source_ids) if ids is not None])
        if not objective.overlap or example is ended:
            assert {i for i in read.tolist() if i < small.TEXT} == text
        batch = collate([example, other])
        assert batch.num_targets == len(example.targets) + len(other.targets)
    if objective.overlap:
        assert (len(end.targets), len(alone.targets), ended.targets.tolist()) == (0, 0, [small.EOS])
    else:
        num = len(alone.targets)
        assert ended.targets[:num].tolist() == alone.targets.tolist() and len(ended.targets) - num in (0, 1)
        sources = [example.source_ids for example in (alone, ended) if example.source_ids is not None]
        assert all(np.array_equal(source, sources[0]) for source in sources)


@pytest.mark.parametrize(("name", "family"), [p for p in PAIRS if p[0] in TEXT_NAMES])
@pytest.mark.parametrize("ids", [[small.EOS], [3], [3, small.EOS]])
def test_a_record_of_hardly_any_text_is_a_row_beside_another(name: str, family: str, ids: list[int]) -> None:
    """The end of a document alone, say: its targets, none perhaps, add their loss and change no other's."""
    objective, network = made(name, family), small.network(family).double()
    rows = [objective.example(Record(np.array(r), (0, at)), 0) for at, r in enumerate((ids, range(9)))]
    whole = collate(rows)
    alone = [objective.loss_sum(network, collate([row])).item() for row in rows if len(row.targets)]
    assert whole.num_targets == sum(len(row.targets) for row in rows) > len(rows[0].targets)
    assert objective.loss_sum(network, whole).item() == pytest.approx(sum(alone), rel=1e-9)
    assert whole.num_tokens == sum(row.num_tokens for row in rows)


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_a_batch_moves_as_a_whole(name: str, family: str) -> None:
    objective = made(name, family)
    batch = collate([objective.example(row, 0) for row in small.records(OBJECTIVES.get(name), 4)])
    assert all(tensor.device.type == "meta" for tensor in batch.to("meta").tensors)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("masked", "rate", 0.0),
        ("masked", "rate", 1.0),
        ("span_corruption", "rate", -0.1),
        ("span_corruption", "mean_span_tokens", 0.5),
        ("denoising", "rate", 1.2),
        ("denoising", "mean_span_tokens", 0.0),
        ("denoising", "delete_rate", 1.0),
        ("completion", "label_smoothing", 1.0),
        ("conversation", "label_smoothing", 1.0),
        ("classification", "label_smoothing", -0.1),
        ("tagging", "label_smoothing", 1.0),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"objective.{key}={value} is not allowed: give "):
        OBJECTIVES.get(name).settings_class(**{key: value})


SHAPED = [(name, shape) for name in NAMES for shape in OBJECTIVES.get(name).shapes]


@pytest.mark.parametrize(("name", "shape"), SHAPED)
def test_a_plan_has_the_rows_of_a_run_without_its_tokenizer(name: str, shape: str) -> None:
    """Rows are as long, and have as many targets, as those over a tokenizer with a token of each kind."""
    kind = OBJECTIVES.get(name)
    start_id = 0 if shape == "encoder-decoder" else None
    stand_in = Vocabulary.stand_in(200, needs=kind.needs, decoder_start_id=start_id)
    of_text = {"begins_word": stand_in.begins_word, "ends_sentence": stand_in.ends_sentence}
    own = small.vocabulary(shape=shape, size=200, sentinel_ids=tuple(range(100, 200)), **of_text)
    plan, run = (kind(vocabulary, kind.settings_class()) for vocabulary in (stand_in, own))
    rows = [row._replace(ids=row.ids.clip(1, small.TEXT - 1)) for row in small.records(kind, 20)]
    for row in rows:
        ours, theirs = (objective.example(row, 0) for objective in (plan, run))
        assert [x is not None and len(x) for x in ours] == [x is not None and len(x) for x in theirs]
    for context in (33, 512, 1024):
        if kind.learns_from == "text":
            assert plan.record_tokens(context) == run.record_tokens(context)
        else:
            lengths = np.arange(1, 40)
            planned, real = (each.max_input_tokens(lengths, context) for each in (plan, run))
            assert np.array_equal(planned, real)


TEXT = "The seeds in the garden are small. Who waters the small garden? The gardener waters the seeds."


@cache
def trained(family: str, needs: tuple[str, ...]) -> Tokenizer:
    return train_tokenizer(
        [TEXT] * 3, "words", vocab_size=400, special=family_of(family).special.having(needs)
    )


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_a_tokenizer_of_the_family_with_what_the_objective_needs_trains_it(name: str, family: str) -> None:
    """One step; and a tokenizer with the family's tokens alone is refused where these are not enough."""
    kind, form = OBJECTIVES.get(name), family_of(family).special
    tokenizer = trained(family, kind.needs)
    network = small.network(family, name, vocab_size=tokenizer.vocab_size)
    start = family_of(family).write_config(network.config).get("decoder_start_token_id")
    objective = kind(Vocabulary.of(tokenizer, decoder_start_id=start), kind.settings_class())
    ids = np.array(tokenizer.encode(TEXT))
    answers = {"text": None, "pairs": ids[:4], "labels": np.array([1])}
    answers["tags"] = np.resize([1, 0, 2], len(ids))
    answers["conversations"] = np.resize([0, 1, 1], len(ids))
    examples = [objective.example(Record(ids, (0, n), answers[kind.learns_from]), 0) for n in range(4)]
    read = np.concatenate([i for e in examples for i in (e.input_ids, e.source_ids) if i is not None])
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=1e-3), list[float]()
    for _ in range(2):
        batch = collate(examples)
        loss = objective.loss_sum(network, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    blanks = {"mask": (tokenizer.mask_id,), "sentinels": tokenizer.sentinel_ids, None: ()}
    blank = infill_ids(tokenizer, kind.infill) if kind.infill else blanks[kind.blank()]
    assert blank is not None and (set(read.tolist()) & set(blank) or not blank)
    if form.having(kind.needs) != form:
        with pytest.raises(ConfigError, match=f"the objective {name} needs"):
            kind(Vocabulary.of(trained(family, ()), decoder_start_id=start), kind.settings_class())


def test_some_pairs_need_more_tokens_than_the_family_s() -> None:
    forms = {family: family_of(family).special for _, family in PAIRS}
    roles = {name: [need for need in OBJECTIVES.get(name).needs if need in ROLES] for name in NAMES}
    assert {(n, f) for n, f in PAIRS if forms[f].having(roles[n]) != forms[f]} == {
        ("denoising", "t5"),
        ("denoising", "transformer"),
        ("span_corruption", "bart"),
        ("span_corruption", "transformer"),
    }
