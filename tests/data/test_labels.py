"""Labels are found and numbered, and tags stand at the tokens where the published tokenizers put words."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from seedbed.base.errors import DataError
from seedbed.data.corpus import Corpus
from seedbed.data.labels import words_begun
from seedbed.data.prepare import CorpusShards, prepare_shards, shards_of
from seedbed.data.settings import DataSettings
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

BYTES = train_tokenizer([], "bytes")
SENTENCES = [
    "Ångström's un-believable co-operation, they said, re-surfaced.",
    "U.N. officials in København re-elected Mr. O'Neil (again) ...",
    "x",
    "  two  blanks, a tab\tand a line\nend ",
    "naïve façade 日本語 👩‍👩‍👧 100,000.5 #tag @you",
]


@pytest.fixture(scope="module", params=["word pieces", "bytes", "marked blanks"])
def published(request: Any, tmp_path_factory: Any) -> Any:
    """A tokenizer as BERT's, RoBERTa's or T5's files have it, in `transformers`, and its folder."""
    special = ["[CLS]", "[SEP]", "[UNK]"]
    if request.param == "word pieces":
        core = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    elif request.param == "bytes":
        core = tokenizers.Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False
        )
    else:
        core = tokenizers.Tokenizer(models.Unigram())
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    core.train_from_iterator(SENTENCES * 3, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", cls_token="[CLS]")
    folder = tmp_path_factory.mktemp("tokenizer")
    theirs.save_pretrained(folder)
    return request.param, theirs, Tokenizer.load(folder)


def begun(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int | None]]:
    ids, spans = tokenizer.encode_spans(text)
    return ids[1:-1], words_begun(text, spans[1:-1])


@pytest.mark.parametrize("text", SENTENCES)
def test_a_word_begins_at_the_token_that_holds_its_first_character(published: Any, text: str) -> None:
    _, theirs, ours = published
    encoded = theirs(text)
    starts = [i for i, c in enumerate(text) if not c.isspace() and (i == 0 or text[i - 1].isspace())]
    ids, words = begun(ours, text)
    assert ids == encoded["input_ids"][1:-1]
    places = [encoded.char_to_token(start) for start in starts]
    assert [1 + words.index(number) for number in range(len(starts))] == places
    assert len([word for word in words if word is not None]) == len(text.split())


@pytest.mark.parametrize("text", SENTENCES)
def test_a_list_of_words_begins_where_word_ids_change(published: Any, text: str) -> None:
    """WordPiece splits at blanks, so a list of words has the same ids as one text."""
    kind, theirs, ours = published
    if kind == "word pieces":
        words = text.split()
        encoded = theirs(words, is_split_into_words=True)
        found, last = [], None
        for word in encoded.word_ids():
            found.append(word if word is not None and word != last else None)
            last = word
        assert begun(ours, " ".join(words)) == (encoded["input_ids"][1:-1], found[1:-1])


def test_a_token_over_two_words_is_the_first_one_s() -> None:
    assert words_begun("a b c", [(0, 3), (3, 5)]) == [0, 2]
    assert words_begun(" a  b", [(0, 1), (1, 2), (2, 4), (4, 4), (4, 5)]) == [None, 0, None, None, 1]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


TEXTS = [{"input": f"text {n}", "target": ["good", "bad", 7][n % 3]} for n in range(40)]
TAGGED = [{"input": ["Ada", "was", f"in{n}", "Rome"], "target": ["PER", "O", 0, "LOC"]} for n in range(40)]


def answers(data: CorpusShards) -> list[list[int]]:
    assert data.train_answers is not None
    return [data.train_answers.document(n).tolist() for n in range(data.train_answers.num_documents)]


def test_labels_are_sorted_numbered_from_1_and_found_again(tmp_path: Path) -> None:
    settings = DataSettings(train=write(tmp_path / "a.jsonl", TEXTS), validation_fraction=0.3)
    data = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels")
    assert data.labels == ("7", "bad", "good")
    file = shards_of(tmp_path / "out", data.fingerprint) / "labels.json"
    assert json.loads(file.read_text()) == ["7", "bad", "good"]
    expected = {text["input"]: data.labels.index(str(text["target"])) + 1 for text in TEXTS}
    found = [BYTES.decode(data.train.document(n).tolist()) for n in range(data.train.num_documents)]
    assert answers(data) == [[expected[text]] for text in found]
    again = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels")
    assert again.labels == data.labels and again.fingerprint == data.fingerprint
    texts = list(Corpus(settings, learns_from="labels").training_texts())
    assert texts == found  # a tokenizer is not trained on labels


def test_a_head_s_own_order_stays_where_it_has_the_same_labels(tmp_path: Path) -> None:
    settings = DataSettings(train=write(tmp_path / "a.jsonl", TEXTS))
    plain = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels")
    order = ("good", "7", "bad")
    data = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels", head_labels=order)
    assert data.labels == order and data.fingerprint != plain.fingerprint
    moved = [{"7": 2, "bad": 3, "good": 1}[plain.labels[answer[0] - 1]] for answer in answers(plain)]
    assert [answer[0] for answer in answers(data)] == moved
    other = prepare_shards(settings, BYTES, tmp_path / "o", learns_from="labels", head_labels=("good", "bad"))
    assert other.labels == plain.labels


def test_tags_stand_at_the_first_tokens_of_words(tmp_path: Path) -> None:
    settings = DataSettings(train=write(tmp_path / "a.jsonl", TAGGED), validation_fraction=0.3)
    data = prepare_shards(settings, BYTES, tmp_path / "out", learns_from="tags")
    assert data.labels == ("0", "LOC", "O", "PER")
    text = BYTES.decode(data.train.document(0).tolist())
    assert text.startswith("Ada was in") and text.endswith(" Rome")
    tags = answers(data)[0]
    assert len(tags) == len(text)
    places = {place: tag for place, tag in enumerate(tags) if tag}
    assert places == {0: 4, 4: 3, 8: 1, text.index("Rome"): 2}
    joined = [{"input": " ".join(r["input"]), "target": " ".join(map(str, r["target"]))} for r in TAGGED]
    settings = DataSettings(train=write(tmp_path / "b.jsonl", joined), validation_fraction=0.3)
    assert answers(prepare_shards(settings, BYTES, tmp_path / "other", learns_from="tags")) == answers(data)


GOOD = {"input": "fine", "target": "a"}
WORDS = {"input": ["a", "b"], "target": ["X", "Y"]}


@pytest.mark.parametrize(
    ("kind", "record", "words"),
    [
        ("labels", {"input": "", "target": "a"}, r"t\.jsonl:3: the text is empty or has no token"),
        (
            "labels",
            {"input": "a"},
            r"t\.jsonl:3: no field 'target'; its fields are input; expected input and",
        ),
        (
            "labels",
            {"input": "a", "target": ["a"]},
            "3: the field 'target' is list, not one label; set data.",
        ),
        ("labels", {"input": "a", "target": float("nan")}, "3: the field 'target' is float, not one label"),
        ("labels", {"input": "a", "target": None}, "3: the field 'target' is NoneType, not one label"),
        ("labels", {"input": "a", "target": " "}, "3: the field 'target' is empty; give a label"),
        ("labels", {"input": ["a"], "target": "a"}, "3: the field 'input' is list, not text"),
        ("tags", {"input": ["a", "b"], "target": ["X"]}, r"t\.jsonl:3: 2 words with 1 tags; give each"),
        ("tags", {"input": "a b", "target": "X Y Z"}, "3: 2 words with 3 tags"),
        ("tags", {"input": ["New York"], "target": ["X"]}, "3: number 1 of the field 'input' is 'New York'"),
        ("tags", {"input": ["a", ""], "target": ["X", "X"]}, "3: number 2 of the field 'input' is '', not o"),
        ("tags", {"input": ["a"], "target": [None]}, "3: number 1 of the field 'target' is 'None', not one"),
        ("tags", {"input": [], "target": []}, "3: the text is empty"),
        ("tags", {"input": 3, "target": "X"}, "3: the field 'input' is int, not words"),
    ],
)
def test_a_bad_record_is_refused_with_its_line(kind: Any, record: Any, words: str, tmp_path: Path) -> None:
    first = [GOOD, GOOD | {"target": "b"}] if kind == "labels" else [WORDS, WORDS | {"target": ["Y", "X"]}]
    train = write(tmp_path / "t.jsonl", [*first, record])
    validation = write(tmp_path / "v.jsonl", [GOOD | {"input": "v"} if kind == "labels" else WORDS])
    settings = DataSettings(train=train, validation=validation, deduplicate=False)
    with pytest.raises(DataError, match=words) as caught:
        prepare_shards(settings, BYTES, tmp_path / "out", learns_from=kind)
    assert "\n" not in str(caught.value)


def test_an_unknown_label_of_validation_and_a_single_label_are_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", TEXTS)
    validation = write(tmp_path / "v.jsonl", [GOOD | {"target": "bad"}, GOOD | {"target": "odd"}])
    settings = DataSettings(train=train, validation=validation)
    words = (
        r"v\.jsonl:2: no training record has the label 'odd', they have 7, bad, good; correct it or add one"
    )
    with pytest.raises(DataError, match=words):
        prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels")
    alone = DataSettings(train=write(tmp_path / "s.jsonl", [t | {"target": "same"} for t in TEXTS]))
    with pytest.raises(DataError, match=r"s\.jsonl have only the label 'same', allowed are 2 to 100,000 d"):
        prepare_shards(alone, BYTES, tmp_path / "out", learns_from="labels")
    with pytest.raises(DataError, match="have only the label 'O'"):
        same = [t | {"target": ["O"] * 4} for t in TAGGED]
        prepare_shards(
            DataSettings(train=write(tmp_path / "o.jsonl", same)), BYTES, tmp_path / "o", learns_from="tags"
        )


def labels_of(targets: list[Any], folder: Path, *, kind: Any = "labels") -> tuple[str, ...]:
    folder.mkdir()
    words: Any = "a text" if kind == "labels" else ["word"]
    train = write(folder / "a.jsonl", [{"input": words, "target": target} for target in targets])
    settings = DataSettings(train=train, validation=train, deduplicate=False)
    return prepare_shards(settings, BYTES, folder / "out", learns_from=kind).labels


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    twelve = tuple(str(n) for n in range(12))
    shuffled = [5, 11, 2, 0, 10, 1, 9, 3, 8, 4, 7, 6, 5]
    assert labels_of(shuffled, tmp_path / "whole") == twelve
    assert labels_of([str(n) for n in shuffled], tmp_path / "texts") == twelve
    assert labels_of([f"{n}.0" for n in shuffled], tmp_path / "as tables with gaps") == twelve
    assert labels_of([float(n) for n in shuffled], tmp_path / "floats") == twelve
    assert labels_of([[n] for n in shuffled], tmp_path / "tags", kind="tags") == twelve
    assert labels_of([10, -1, 2.5, 0.5, 0.5], tmp_path / "stars") == ("-1", "0.5", "2.5", "10")
    assert labels_of([True, False, True], tmp_path / "booleans") == ("false", "true")
    assert labels_of([" b", "a ", 3], tmp_path / "blanks") == ("3", "a", "b")


def test_a_message_about_labels_is_short(tmp_path: Path) -> None:
    train = write(
        tmp_path / "t.jsonl", [{"input": f"{n}", "target": f"a long label {n}"} for n in range(100)]
    )
    validation = write(tmp_path / "v.jsonl", [GOOD | {"target": "odd" * 99}])
    settings = DataSettings(train=train, validation=validation)
    with pytest.raises(DataError) as caught:
        prepare_shards(settings, BYTES, tmp_path / "out", learns_from="labels")
    said = str(caught.value).removeprefix(str(tmp_path))
    assert len(said) < 200 and said.count("a long") <= 10 and said.endswith("...; correct it or add one")
