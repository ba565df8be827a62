"""Prepared data: the split, the shards, and finding them again."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.task_models import CHATML

from seedbed.base.errors import ConfigError, DataError, SeedbedWarning
from seedbed.data import prepare as module
from seedbed.data.corpus import Corpus
from seedbed.data.prepare import (
    CorpusShards,
    prepare_shards,
    shards_folder,
    shards_of,
)
from seedbed.data.settings import DataSettings
from seedbed.data.shards import TokenShard
from seedbed.data.split import content_hash
from seedbed.text.chat_template import ChatTemplate
from seedbed.text.special_form import decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer, blocks
from seedbed.text.training import train_tokenizer

BYTES = train_tokenizer([], "bytes")
STORIES = [f"Story {n}: the seed grew {'taller and ' * (n % 7)}tall.\nÄnd.\n" for n in range(200)]


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def texts_of(shard: TokenShard, tokenizer: Tokenizer = BYTES) -> list[str]:
    ends = shard.offsets[1:]
    ids = [shard.tokens[a:b].tolist() for a, b in zip(shard.offsets, ends, strict=False)]
    assert all(document[-1] == tokenizer.eos_id and tokenizer.eos_id not in document[:-1] for document in ids)
    return [tokenizer.decode(document) for document in ids]


def sides(settings: DataSettings) -> tuple[set[str], set[str]]:
    split = list(Corpus(settings).documents())
    return {d.text for d, validates in split if not validates}, {
        d.text for d, validates in split if validates
    }


def test_every_document_goes_to_one_side_and_ends(tmp_path: Path) -> None:
    settings = DataSettings(train=write_lines(tmp_path / "a.jsonl", STORIES), validation_fraction=0.2)
    data = prepare_shards(settings, BYTES, tmp_path / "out")
    train, validation = texts_of(data.train), texts_of(data.validation)
    assert sorted(train + validation) == sorted(STORIES)
    share = data.validation.num_bytes / (data.train.num_bytes + data.validation.num_bytes)
    assert 0.19 < share < 0.21
    assert (set(train), set(validation)) == sides(settings)
    assert train == [text for text in STORIES if text in set(train)]  # in the order of the file
    for shard, texts in ((data.train, train), (data.validation, validation)):
        assert shard.num_bytes == sum(len(text.encode()) for text in texts)
        assert shard.num_tokens == shard.num_bytes + len(texts)
    assert list(Corpus(settings).training_texts()) == train


def test_the_split_depends_on_the_hashes_of_documents_not_on_their_order(tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(STORIES, len(STORIES))
    whole = sides(DataSettings(train=write_lines(tmp_path / "a.jsonl", STORIES), validation_fraction=0.3))
    again = DataSettings(train=write_lines(tmp_path / "b.jsonl", shuffled), validation_fraction=0.3)
    assert sides(again) == whole
    some = DataSettings(train=write_lines(tmp_path / "c.jsonl", shuffled[:60]), validation_fraction=0.3)
    train, held_out = ({content_hash(text) for text in side} for side in sides(some))
    assert max(held_out) < min(train)
    small = sides(DataSettings(train=str(tmp_path / "a.jsonl"), validation_fraction=0.1))
    assert small[1] < whole[1]


def test_duplicates_count_once_and_never_on_both_sides(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "a.jsonl", STORIES[:50] * 2)
    validation = write_lines(tmp_path / "v.jsonl", STORIES[40:60] * 2)
    data = prepare_shards(DataSettings(train=train, validation=validation), BYTES, tmp_path / "out")
    assert texts_of(data.train) == STORIES[:40]
    assert texts_of(data.validation) == STORIES[40:60]
    kept = prepare_shards(
        DataSettings(train=train, validation=validation, deduplicate=False), BYTES, tmp_path / "out"
    )
    assert texts_of(kept.train) == STORIES[:50] * 2
    assert texts_of(kept.validation) == STORIES[40:60] * 2


@pytest.mark.parametrize("kind", ["bpe", "characters", "words", "bytes"])
def test_long_documents_are_tokenized_in_parts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_CHARACTERS", 1000)
    sizes = {"block_characters": 300, "longest": 10_000}
    monkeypatch.setattr("seedbed.text.tokenizer.blocks.__kwdefaults__", blocks.__kwdefaults__ | sizes)
    tokenizer = train_tokenizer(STORIES, kind, vocab_size=400)
    book = " \n".join(STORIES)
    train = write_lines(tmp_path / "a.jsonl", [book, "short", book[::-1]])
    validation = write_lines(tmp_path / "v.jsonl", ["held out"])
    data = prepare_shards(DataSettings(train=train, validation=validation), tokenizer, tmp_path / "out")
    whole = [
        tokenizer._core.encode(text, add_special_tokens=False).ids for text in (book, "short", book[::-1])
    ]
    assert data.train.tokens.tolist() == [i for ids in whole for i in [*ids, tokenizer.eos_id]]
    assert data.train.num_documents == 3
    assert data.train.num_bytes == 2 * len(book.encode()) + 5


def test_prepared_data_is_found_again_until_something_that_decides_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "a.jsonl", STORIES)
    settings = DataSettings(train=str(tmp_path / "a.jsonl"))
    out = tmp_path / "out"
    first = prepare_shards(settings, BYTES, out)
    written: list[str] = []
    write = module._write_texts

    def count(*each: Any) -> None:
        written.append("again")
        write(*each)

    monkeypatch.setattr(module, "_write_texts", count)

    def again(new: DataSettings = settings, tokenizer: Tokenizer = BYTES) -> CorpusShards:
        written.clear()
        return prepare_shards(new, tokenizer, out)

    assert again().fingerprint == first.fingerprint
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    assert again(DataSettings(train=str(tmp_path / "moved" / "a.jsonl"))).fingerprint == first.fingerprint
    assert written == []
    fingerprints = {first.fingerprint}
    changes = (
        (DataSettings(train=settings.train, validation_fraction=0.06), BYTES),
        (DataSettings(train=settings.train, deduplicate=False), BYTES),
        (DataSettings(train=settings.train, validation=settings.train, deduplicate=False), BYTES),
        (settings, train_tokenizer(STORIES, "words", vocab_size=300)),
        (settings, train_tokenizer([], "bytes", special=decoder_form())),
    )
    for new, tokenizer in changes:
        fingerprints.add(again(new, tokenizer).fingerprint)
        assert written == ["again"]
    write_lines(tmp_path / "a.jsonl", [*STORIES, "one more"])
    fingerprints.add(again().fingerprint)
    assert written == ["again"]
    assert len(fingerprints) == 2 + len(changes)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {each[:32] for each in fingerprints}
    for other, tokenizer in changes[:2]:  # what others need stays
        written.clear()
        prepare_shards(other, tokenizer, out)
        assert written == ["again"]  # the file has another record by now
        again(other, tokenizer)
        assert written == []


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DataSettings(train=write_lines(tmp_path / "a.jsonl", STORIES))
    first = prepare_shards(settings, BYTES, tmp_path / "out")
    documents = Corpus.documents

    def stop(corpus: Corpus) -> Iterator[object]:
        yield from list(documents(corpus))[:3]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Corpus, "documents", stop)
        prepare_shards(DataSettings(train=settings.train, deduplicate=False), BYTES, tmp_path / "out")
    home = shards_of(tmp_path / "out", first.fingerprint)
    assert [path for path in (tmp_path / "out").iterdir() if path.is_dir()] == [home]
    (tmp_path / "out" / "0123.part" / "train").mkdir(parents=True)  # what a kill leaves
    shutil.rmtree(home)
    assert (
        prepare_shards(settings, BYTES, tmp_path / "out").train.meta.fingerprint
        == first.train.meta.fingerprint
    )
    assert [path for path in (tmp_path / "out").iterdir() if path.is_dir()] == [home]


@pytest.mark.parametrize("learns_from", ["text", "labels"])
def test_a_bit_that_flips_in_any_file_is_named_and_the_shards_made_again(
    learns_from: Any, tmp_path: Path
) -> None:
    records = [{"text": text, "input": text, "target": "ab"[n % 2]} for n, text in enumerate(STORIES)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    settings = DataSettings(train=str(tmp_path / "a.jsonl"))
    how = {"learns_from": learns_from}
    first = prepare_shards(settings, BYTES, tmp_path / "out", **how)
    home = shards_of(tmp_path / "out", first.fingerprint)
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert len(files) == (8 if learns_from == "text" else 15)
    mapped = first.train.tokens.copy()
    for file, content in files.items():
        for bit in random.Random(file.name).sample(range(8 * len(content)), 3):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            file.with_suffix(".new").write_bytes(flipped)
            file.with_suffix(".new").replace(file)  # not in place, which mapped files would see
            named = str(file.relative_to(home)) if file.name != "manifest.json" else ".*"
            with pytest.warns(SeedbedWarning, match=rf"{home}: {named} .*; it is rebuilt"):
                again = prepare_shards(settings, BYTES, tmp_path / "out", **how)
            assert again.fingerprint == first.fingerprint and again.labels == first.labels
            assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == files
    assert (first.train.tokens == mapped).all()  # its file was replaced many times, and it still reads
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [home.name, f"{home.name}.lock"]


def test_a_truncated_or_missing_file_is_made_again(tmp_path: Path) -> None:
    settings = DataSettings(train=write_lines(tmp_path / "a.jsonl", STORIES))
    first = prepare_shards(settings, BYTES, tmp_path / "out")
    home = shards_of(tmp_path / "out", first.fingerprint)
    for file in [path for path in home.rglob("*") if path.is_file()]:
        for damage in (lambda file=file: os.truncate(file, 9), file.unlink):
            damage()
            with pytest.warns(SeedbedWarning, match="it is rebuilt"):
                again = prepare_shards(settings, BYTES, tmp_path / "out")
            assert again.train.tokens.tolist() == first.train.tokens.tolist()


def test_processes_that_need_the_same_shards_all_get_them(tmp_path: Path) -> None:
    settings = DataSettings(train=write_lines(tmp_path / "a.jsonl", STORIES * 20), deduplicate=False)
    code = (
        "import sys\n"
        "from seedbed.data.prepare import prepare_shards\n"
        "from seedbed.data.settings import DataSettings\n"
        "from seedbed.text.training import train_tokenizer\n"
        "tokenizer = train_tokenizer([], 'bytes')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "data = prepare_shards(DataSettings(train=sys.argv[1], deduplicate=False), tokenizer, sys.argv[2])\n"
        "print(data.train.meta.fingerprint, int(data.train.tokens.sum()), flush=True)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, settings.train, str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:  # all at once
        other.stdin.close()
    said = {other.stdout.read() for other in others}
    assert [other.wait() for other in others] == [0] * 4
    for other in others:
        other.stdout.close()
    data = prepare_shards(settings, BYTES, tmp_path / "out")
    assert said == {f"{data.train.meta.fingerprint} {data.train.tokens.sum()}\n"}
    home = shards_of(tmp_path / "out", data.fingerprint)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [home.name, f"{home.name}.lock"]


def test_shards_are_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shards_folder(Path("runs/one")) == shards_folder(tmp_path / "runs" / "other")
    assert shards_folder(Path("one")) == tmp_path / ".shards"
    assert shards_folder(Path()) == tmp_path.parent / ".shards"


def test_one_text_alone_is_split_in_parts_and_ends_once(tmp_path: Path) -> None:
    book = "\n\n".join(f"{n}. {text}" for n, text in enumerate(STORIES))
    (tmp_path / "book.txt").write_text(book)
    data = prepare_shards(DataSettings(train=str(tmp_path / "book.txt")), BYTES, tmp_path / "out")
    assert abs(data.validation.num_bytes - 0.05 * len(book.encode())) <= 1024
    assert data.train.num_bytes + data.validation.num_bytes == len(book.encode())
    tokens = [*data.train.tokens.tolist(), *data.validation.tokens.tolist()]
    assert tokens.count(BYTES.eos_id) == 1  # only where the book ends
    assert data.facts() == {
        "overlap": 0.0,
        "train_documents": data.train.num_documents,
        "train_bytes": data.train.num_bytes,
        "train_tokens": data.train.num_tokens,
        "validation_documents": data.validation.num_documents,
        "validation_bytes": data.validation.num_bytes,
        "validation_tokens": data.validation.num_tokens,
        "files_read": 1,
        "files_skipped": [],
        "duplicates": 0,
        "warning": data.facts()["warning"],
    }
    assert re.fullmatch(
        r"\d+ held-out tokens of text are too few for .*, 10,000 are enough: add data, raise .*",
        data.facts()["warning"],
    )


def test_facts_count_files_duplicates_and_answers_and_are_found_again(tmp_path: Path) -> None:
    records = [{"input": f"What is {n}?", "target": f"It is {n}."} for n in range(90)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records + records[:8])))
    settings = DataSettings(train=str(tmp_path / "a.jsonl"), validation_fraction=0.2)
    for _ in range(2):
        facts = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="pairs").facts()
        assert re.match(r"1\d held-out records are too few for a useful figure, 50 are", facts["warning"])
        assert facts["duplicates"] == 8 and facts["files_read"] == 1
        assert facts["train_documents"] + facts["validation_documents"] == 90
        total = sum(len(text) for record in records for text in record.values())
        assert facts["train_bytes"] + facts["validation_bytes"] == total
        assert facts["train_tokens"] + facts["validation_tokens"] == total
        assert abs(facts["validation_bytes"] / total - 0.2) < 0.02


@pytest.mark.parametrize("learns_from", ["labels", "tags"])
def test_a_label_of_one_record_trains(learns_from: Any, tmp_path: Path) -> None:
    """Whatever the hashes are: 40 classes with one record each beside a common one."""
    rare = [
        {"input": f"word {n}", "target": f"O rare{n}" if learns_from == "tags" else f"r{n}"}
        for n in range(40)
    ]
    common = [{"input": f"w {n}", "target": "O O" if learns_from == "tags" else "O"} for n in range(400)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rare + common)))
    settings = DataSettings(train=str(tmp_path / "a.jsonl"), validation_fraction=0.2)
    data = prepare_shards(settings, BYTES, tmp_path / "out", learns_from=learns_from)
    assert data.train_answers is not None and len(data.labels) == 41
    assert set(data.train_answers.tokens.tolist()) - {0} == set(range(1, 42))
    share = data.facts()["validation_bytes"] / sum(
        data.facts()[f"{side}_bytes"] for side in ("train", "validation")
    )
    assert 0.18 < share < 0.22


def test_what_cannot_be_split_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(
        DataError, match=r"no part of .*a\.txt can be held out: it has too little text; give mo"
    ):
        prepare_shards(DataSettings(train=str(tmp_path / "a.txt")), BYTES, tmp_path / "out")
    (tmp_path / "b.jsonl").write_text('{"input": "a", "target": "x"}\n{"input": "b", "target": "y"}\n')
    with pytest.raises(
        DataError, match=r"no record of .*b\.jsonl can be held out: each is the only one, of it"
    ):
        prepare_shards(
            DataSettings(train=str(tmp_path / "b.jsonl")), BYTES, tmp_path / "out", learns_from="labels"
        )
    settings = DataSettings(train=write_lines(tmp_path / "c.jsonl", STORIES), validation_fraction=0)
    with pytest.raises(
        DataError, match=r"validation_fraction=0 holds nothing out, .*: choose 0\.05, or give"
    ):
        prepare_shards(settings, BYTES, tmp_path / "out")
    train = write_lines(tmp_path / "d.jsonl", STORIES)
    same = DataSettings(train=train, validation=write_lines(tmp_path / "v.jsonl", STORIES))
    with pytest.raises(DataError, match=r"every document of .*d\.jsonl is in .*v\.jsonl too; give other"):
        prepare_shards(same, BYTES, tmp_path / "out")
    with pytest.raises(DataError, match="is in"):
        list(Corpus(same).training_texts())


def test_the_builtin_prose_splits(tmp_path: Path) -> None:
    data = prepare_shards(DataSettings(train="builtin:prose"), BYTES, tmp_path)
    share = data.validation.num_bytes / (data.train.num_bytes + data.validation.num_bytes)
    assert 0.045 < share < 0.055
    assert data.validation.num_documents >= 15
    assert prepare_shards(DataSettings(train="builtin:code"), BYTES, tmp_path).fingerprint != data.fingerprint


def test_settings_that_cannot_be() -> None:
    for fraction in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=r"data\.validation_fraction=.* choose 0 or more and below 1"):
            DataSettings(train="a", validation_fraction=fraction)
    with pytest.raises(ConfigError, match=r"data\.document_separator is empty"):
        DataSettings(train="a", document_separator="")


def test_another_chat_template_makes_other_shards(tmp_path: Path) -> None:
    """They are found by what they contain, and two models with one tokenizer can have two templates."""
    turns = [{"role": "user", "content": "a garden"}, {"role": "assistant", "content": "it grows"}]
    rows = [json.dumps({"messages": [{**turns[0], "content": f"a garden {n}"}, turns[1]]}) for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    settings = DataSettings(train=str(tmp_path / "a.jsonl"), validation_fraction=0.2)
    special = decoder_form(END_OF_TEXT, "<|im_start|>", "<|im_end|>")
    plain = train_tokenizer([], "bytes", special=special)
    found = []
    for template in (CHATML, CHATML.replace("<|im_end|>\n", "<|im_end|>\n\n"), CHATML):
        tokenizer = Tokenizer(plain._core, plain.config | {"chat_template": template})
        shards = prepare_shards(settings, tokenizer, tmp_path / "out", learns_from="conversations")
        expected, _ = ChatTemplate(template, tokenizer).encode_answers(json.loads(rows[0])["messages"])
        documents = [
            side.document(number).tolist()
            for side in (shards.train, shards.validation)
            for number in range(side.num_documents)
        ]
        assert expected in documents
        found.append(shards.fingerprint)
    assert found[0] == found[2] != found[1]
