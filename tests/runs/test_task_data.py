"""Records of a task as training data: the tokens of its evaluation, held-out records, refusals, resuming."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.test_tasks import rows_of
from tests.moments import At, kill
from tests.task_models import decoder, encoder_decoder, headed, saved

from seedbed.api.pretrain import pretrain, resume
from seedbed.base.errors import CheckpointError, ConfigError, DataError
from seedbed.data.corpus import Corpus
from seedbed.data.labels import encode_conversations, encode_pairs
from seedbed.data.objective import OBJECTIVES
from seedbed.data.prepare import prepare_shards, source_fingerprint
from seedbed.data.records import Record as Ids
from seedbed.data.settings import DataSettings
from seedbed.data.vocabulary import Vocabulary
from seedbed.evaluation.prompts import Prompts
from seedbed.evaluation.records import Record
from seedbed.evaluation.task import TASKS, TaskSettings
from seedbed.generation.language_model import LanguageModel
from seedbed.runs.start import load_run
from seedbed.runs.task_data import (
    TaskDocument,
    TaskReader,
    complete_task,
    held_out_records,
    run_corpus,
    task_learns_from,
)
from seedbed.runs.train import train
from seedbed.select import rehearsal


def write(path: Path, rows: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def documents(
    folder: Path, rows: list[Any], learns_from: Any, *, joins: bool = False, **task: Any
) -> tuple[TaskSettings, list[TaskDocument]]:
    data = DataSettings(train=write(folder / "train.jsonl", rows))
    settings = complete_task(TaskSettings(**task), data)
    return settings, list(TaskReader(settings, data, learns_from=learns_from, joins=joins)(data.train))


@pytest.mark.parametrize("description", ["", "Answer in the manner of a garden."])
@pytest.mark.parametrize("name", TASKS.names())
def test_a_conversation_has_the_tokens_of_its_evaluation(name: str, description: str, tmp_path: Path) -> None:
    lm = decoder(2000, chat=True)
    how: dict[str, Any] = {"use_case": name, "description": description}
    settings, found = documents(tmp_path, rows_of(name), "conversations", **how)
    prompts = Prompts(lm, settings, chat=True)
    assert lm.tokenizer is not None and len(found) == 2
    for document, (ids, flags) in zip(found, encode_conversations(found, lm.tokenizer), strict=True):
        prompt, _ = prompts.ids(document.record, [], room=0)
        assert ids[: len(prompt)] == list(prompt) and flags.index(1) == len(prompt)
        answer = prompts.tokens(prompts.answer(document.record))
        rest = ids[len(prompt) :]
        assert rest[: len(answer)] == answer and all(flags[len(prompt) :][: len(answer) + 1])
        behind = [lm.tokenizer.token(i) for i in rest[len(answer) :]]
        assert next(token for token in behind if token != "\n") == "<|im_end|>"  # a program ends with a line


def example(lm: LanguageModel, document: TaskDocument) -> Any:
    """The training example of a pair."""
    assert lm.tokenizer is not None
    ((ids, answer),) = encode_pairs([document], lm.tokenizer)
    start = lm.generation.get("decoder_start_token_id") if lm.config.shape == "encoder-decoder" else None
    kind = OBJECTIVES.get("completion")
    vocabulary = Vocabulary.of(lm.tokenizer, decoder_start_id=start, family=lm.config.family)
    objective = kind(vocabulary, kind.settings_class())
    return objective.example(Ids(np.array(ids), (0, 0), np.array(answer)), 0)


@pytest.mark.parametrize("name", TASKS.names())
def test_a_pair_has_the_tokens_of_its_evaluation(name: str, tmp_path: Path) -> None:
    for lm, joins in ((encoder_decoder(2000), False), (decoder(2000), True)):
        how: dict[str, Any] = {"use_case": name, "description": "In a garden."}
        settings, found = documents(tmp_path, rows_of(name), "pairs", joins=joins, **how)
        prompts = Prompts(lm, settings, chat=False)
        for document in found:
            prompt, _ = prompts.ids(document.record, [], room=0)
            space = prompts.text(document.record)[1] if joins else ""
            answer = prompts.tokens(f"{space}{prompts.answer(document.record)}")
            row = example(lm, document)
            targets = row.targets.tolist()
            if joins:
                assert row.input_ids.tolist() == [*prompt, *answer]
                assert targets[:-1] == answer and targets[-1] in lm.eos_ids
            else:
                assert row.source_ids.tolist() == list(prompt)
                assert document.answer == prompts.answer(document.record)
                inner = targets[targets.index(answer[0]) :] if answer else targets
                assert inner[: len(answer)] == answer


def test_labels_and_tags_are_those_of_the_records(tmp_path: Path) -> None:
    rows = [{"text": f"a seed {n}", "label": n % 2} for n in range(4)]
    settings, found = documents(
        tmp_path, rows, "labels", use_case="classify", labels={"0": "bad", "1": "good"}
    )
    assert [(one.text, one.answer) for one in found] == [(row["text"], str(row["label"])) for row in rows]
    settings, found = documents(tmp_path, rows_of("tag"), "tags", use_case="tag")
    assert (found[0].text, found[0].answer) == ("either/or 10\u00a0000", "CONJ NUM")
    assert settings.labels == ("CONJ", "DET", "NOUN", "NUM") and found[0].origin.endswith("train.jsonl:1")


def test_the_way_to_learn_follows_from_the_network() -> None:
    classify, summarize = TaskSettings(use_case="classify"), TaskSettings(use_case="summarize")
    assert task_learns_from(classify, headed("classification").config, chats=False) == "labels"
    assert task_learns_from(TaskSettings(use_case="tag"), headed("tagging").config, chats=False) == "tags"
    assert task_learns_from(classify, decoder().config, chats=True) == "conversations"
    assert task_learns_from(classify, decoder().config, chats=False) == "pairs"
    assert task_learns_from(classify, encoder_decoder().config, chats=True) == "pairs"
    with pytest.raises(ConfigError, match="task summarize are texts, which an encoder does not write; take"):
        task_learns_from(summarize, headed("classification").config, chats=False)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        (
            "summarize",
            {"text": "a", "summary": " "},
            r"train\.jsonl:2: the field 'summary' is ' ', expected is",
        ),
        ("summarize", {"text": "a"}, r"train\.jsonl:2: no field 'summary'; "),
        (
            "code",
            {"prompt": "a", "test": "b"},
            r"train\.jsonl:2: the record has tests, but no solution to learn",
        ),
        (
            "code",
            {"prompt": "a", "test": "b", "solution": None},
            "but no solution to learn; give it as a field",
        ),
        (
            "classify",
            {"text": "a", "label": "c"},
            r"train\.jsonl:2: the task has no label 'c', only good, bad: ",
        ),
        (
            "answer",
            {"question": "a", "answers": ["b"]},
            r"jsonl:2: the prompt names \{title\}, but the record",
        ),
        (
            "answer",
            {"question": "a", "answers": ["b"], "title": "\ud800"},
            "2: the lone surrogate .ud800 is not",
        ),
    ],
)
def test_a_record_that_teaches_nothing_is_refused(task: str, row: Any, words: str, tmp_path: Path) -> None:
    own: dict[str, Any] = {"labels": ("good", "bad")} if task == "classify" else {}
    first = rows_of(task)[0] | {"title": "t"}
    if task == "summarize":
        first = {"text": "a", "summary": "b"}
    elif task == "answer":
        own["instruction"] = "{title} {input}"
    data = DataSettings(train=write(tmp_path / "train.jsonl", [first, row]))
    reader = TaskReader(TaskSettings(use_case=task, **own), data, learns_from="conversations")
    corpus = Corpus(data, learns_from="conversations", read=reader)
    tokenizer = decoder(chat=True).tokenizer
    assert tokenizer is not None
    with pytest.raises(DataError, match=words) as caught:
        prepare_shards(data, tokenizer, tmp_path / "out", learns_from="conversations", corpus=corpus)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]


def test_settings_that_contradict_a_task_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": "b"}])
    task = TaskSettings(use_case="classify", input="text")
    with pytest.raises(ConfigError, match=r"task\.input=text and data\.input=x name two fields for"):
        complete_task(task, DataSettings(train=path, input="x", target="label"))
    with pytest.raises(ConfigError, match=r"data\.text_field has no effect beside a task"):
        complete_task(task, DataSettings(train=path, text_field="text"))
    with pytest.raises(DataError, match="has one label, 'b'; give records of at least two"):
        complete_task(task, DataSettings(train=path))
    for learns_from, task_name in (("tags", "classify"), ("labels", "summarize"), ("text", "summarize")):
        own = TaskSettings(use_case=task_name)
        with pytest.raises(
            ConfigError, match=f"are not learned as {learns_from}, but as conversations, pairs"
        ):
            TaskReader(own, DataSettings(train=path), learns_from=learns_from)  # type: ignore[arg-type]


SUMMARIES = [{"text": f"a garden {n} grows", "summary": f"it grows {n % 7}"} for n in range(60)]


@pytest.mark.parametrize("learns_from", ["conversations", "pairs"])
def test_held_out_records_are_the_documents_of_the_validation_shard(learns_from: Any, tmp_path: Path) -> None:
    """In their order, without the equal ones, and of a folder without its notes."""
    write(tmp_path / "data" / "a.jsonl", SUMMARIES[:40])
    write(tmp_path / "data" / "b.jsonl", SUMMARIES[30:])
    (tmp_path / "data" / "notes.txt").write_text("read me\n")
    data = DataSettings(train=str(tmp_path / "data"), validation_fraction=0.3)
    task = complete_task(TaskSettings(use_case="summarize"), data)
    reader = TaskReader(task, data, learns_from=learns_from)
    corpus = Corpus(data, learns_from=learns_from, read=reader)
    lm = decoder(chat=True)
    assert lm.tokenizer is not None
    lines: list[str] = []
    how: dict[str, Any] = {"corpus": corpus, "rendering": reader.rendering, "notify": lines.append}
    shards = prepare_shards(data, lm.tokenizer, tmp_path / "out", learns_from=learns_from, **how)
    held = held_out_records(corpus)
    assert 5 < len(held) == shards.validation.num_documents < 30
    assert shards.train.num_documents + len(held) == 60 and all(isinstance(one, Record) for one in held)
    for number, record in enumerate(held):
        prompt = Prompts(lm, task, chat=learns_from == "conversations").ids(record, [], room=0)[0]
        ids = shards.validation.document(number).tolist()
        assert ids[: len(prompt)] == list(prompt)
    assert any(line.startswith("read 2 files, 60 documents; left out 10 equal") for line in lines)
    assert "skipped 1: notes.txt (no record of the task)" in lines[-1]


def test_a_changed_prompt_gives_other_shards_and_a_metric_the_same(tmp_path: Path) -> None:
    data = DataSettings(train=write(tmp_path / "a.jsonl", SUMMARIES))
    lm = decoder(chat=True)
    assert lm.tokenizer is not None
    found = []
    for change in ({}, {"instruction": "Short: {input}"}, {"description": "d"}, {"metric": "rouge1"}):
        task = complete_task(TaskSettings.of("summarize", **change), data)
        reader = TaskReader(task, data, learns_from="conversations")
        how: dict[str, Any] = {"corpus": Corpus(data, learns_from="conversations", read=reader)}
        how |= {"rendering": reader.rendering, "learns_from": "conversations"}
        found.append(prepare_shards(data, lm.tokenizer, tmp_path / "out", **how))
    assert len({one.fingerprint for one in found}) == 3
    assert found[0].fingerprint == found[3].fingerprint != source_fingerprint(data)
    assert len({one.train.meta.fingerprint for one in found}) == 3


SETTINGS = [
    *("training.batch_tokens=256", "training.context_tokens=128", "training.precision=float32"),
    *("training.checkpoint_every_steps=4", "data.validation_fraction=0.2", "objective.name=conversation"),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


def test_a_run_of_a_task_resumes_and_refuses_another_prompt(quick: None, tmp_path: Path) -> None:
    base = saved(decoder(chat=True), tmp_path / "base")
    rows = [{"sms": f"a small {word} {n}", "kind": word} for n in range(30) for word in ("good", "bad")]
    data, lines = write(tmp_path / "a.jsonl", rows), list[str]()
    tables: dict[str, Any] = {
        "model": {"base": str(base)},
        "data": {"train": data, "input": "sms", "target": "kind"},
        "task": {"use_case": "classify"},
    }

    def run(out: str, *changes: str, **how: Any) -> Any:
        overrides = [*SETTINGS, "training.num_steps=8", *changes]
        settings, start = load_run(tables, overrides=overrides, notify=lines.append)
        return train(settings, tmp_path / out, start=start, **how), settings

    whole, settings = run("whole")
    assert settings.task.labels == ("bad", "good") and (settings.task.input, settings.task.target) == (
        "sms",
        "kind",
    )
    assert f"recognised in {data}: sms and kind -> conversation" in lines
    assert 'use_case = "classify"' in (whole.run / "settings.toml").read_text()
    with pytest.raises(KeyboardInterrupt):
        run("run", callbacks=[At("step", 4, kill)])
    again = resume(tmp_path / "run")
    ours, theirs = ((one.model / "model.safetensors").read_bytes() for one in (again, whole))
    assert ours == theirs
    with pytest.raises(CheckpointError, match=r"task\.instruction was not set, now 'Which"):
        run("run", "task.instruction=Which: {input}")
    corpus, _ = run_corpus(settings, learns_from="conversations", shape="decoder")
    assert len(held_out_records(corpus)) == whole.data["validation_documents"]


def test_a_run_from_before_tasks_and_mixtures_resumes(quick: None, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": f"a {n}", "completion": f"b {n}"} for n in range(60)])
    sizes = ["model.d_model=16", "model.num_layers=1", "tokenizer.kind=bytes", "training.context_tokens=32"]
    how: dict[str, Any] = {
        "family": "gpt2",
        "steps": 8,
        "overrides": [*sizes, *SETTINGS[0:1], *SETTINGS[2:4]],
    }
    with pytest.raises(KeyboardInterrupt):
        pretrain(data, out=tmp_path / "run", callbacks=[At("step", 4, kill)], **how)
    settings = tmp_path / "run" / "settings.toml"
    old = [
        line
        for line in settings.read_text().splitlines()
        if "mixture_t" not in line and "mixture_l" not in line
    ]
    without = "\n".join(line for line in old if line != "# task is not set") + "\n"
    assert without.count("\n") == settings.read_text().count("\n") - 3
    settings.write_text(without)
    (tmp_path / "run" / ".copies" / "settings.toml").write_text(without)
    for path in (tmp_path / "run" / ".copies").glob("manifest*"):
        path.unlink()
    assert resume(tmp_path / "run").metrics["step"] == 8
