"""Tokenizers without a tokenizer.json: the tokens of the libraries that wrote the files, a save later too."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers

from seedbed.base.errors import BundleError
from seedbed.text.tokenizer import Tokenizer

SPECIAL = ("<s>", "</s>", "<unk>", "<mask>", "<extra_id_3>")
LOSSLESS = ("gpt2", "roberta")
SENTENCEPIECE = ("t5", "llama", "gemma", "xlm-roberta")
KINDS = ("gpt2", "qwen2", "roberta", "gpt", "bert", *SENTENCEPIECE, "marian")


@pytest.fixture
def copy(legacy: dict[str, Path], tmp_path: Path) -> Any:
    """Copies the folder of a kind, writes other files into it, and takes some away."""

    def make(kind: str, without: tuple[str, ...] = (), **files: Any) -> Path:
        folder = tmp_path / kind
        shutil.copytree(legacy[kind], folder, dirs_exist_ok=True)
        for name, values in files.items():
            (folder / f"{name}.json").write_text(json.dumps(values))
        for name in without:
            (folder / name).unlink()
        return folder

    return make


def theirs(folder: Path) -> Any:
    name = json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]
    return getattr(transformers, name).from_pretrained(folder)


@pytest.mark.parametrize(
    "kind", ["gpt2", "qwen2", "roberta", "gpt", "bert", "t5", "gemma", "xlm-roberta", "marian"]
)
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_the_tokens_are_those_of_transformers(
    kind: str, legacy: dict[str, Path], mixed_texts: list[str]
) -> None:
    tokenizer, reference = Tokenizer.load(legacy[kind]), theirs(legacy[kind])
    # Theirs finds a unigram model's control entries in any text; what SentencePiece does is tested below.
    by_entries = kind in ("t5", "xlm-roberta", "marian")
    texts = [t for t in mixed_texts if not (by_entries and any(name in t for name in SPECIAL))]
    assert len(texts) > 700
    split = {} if kind == "marian" else {"split_special_tokens": True}
    their_ids = [reference(t, add_special_tokens=False, **split)["input_ids"] for t in texts]
    assert tokenizer.encode_batch(texts) == their_ids
    if kind != "gemma":  # published ones set add_bos_token, which is ours without a word of it
        whole = [reference(t, **split)["input_ids"] for t in texts]
        assert [tokenizer.encode_document(t) for t in texts] == whole
    if kind not in ("marian", "gemma"):  # Marian's decoding strips blanks
        assert tokenizer.special_ids == frozenset(reference.all_special_ids)
        decoded = [reference.decode(ids, skip_special_tokens=True) for ids in their_ids]
        assert [tokenizer.decode(ids) for ids in their_ids] == decoded


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_the_tokens_are_those_of_sentencepiece(
    kind: str, legacy: dict[str, Path], mixed_texts: list[str]
) -> None:
    """Names of special tokens in a text, spaces at its ends and literal marks of spaces included."""
    tokenizer = Tokenizer.load(legacy[kind])
    model = sentencepiece.SentencePieceProcessor(model_file=str(next(legacy[kind].glob("*.model"))))
    ids = [model.encode(text) for text in mixed_texts]
    if kind == "xlm-roberta":
        ids = [[{0: 3}.get(i, i + 1) for i in row] for row in ids]
    found = tokenizer.encode_batch(mixed_texts)
    assert found == ids
    unknown = {tokenizer.unk_id}
    assert all((tokenizer.special_ids - unknown).isdisjoint(row) for row in found)
    if kind in ("llama", "gemma"):
        literal = [text for text in mixed_texts if "\u2581" not in text]
        assert [tokenizer.decode(tokenizer.encode(text)) for text in literal] == literal


@pytest.mark.parametrize("rules", ["identity", "nmt_nfkc"])
@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_tokens_are_those_of_sentencepiece_for_every_setting(
    model_type: str,
    dummy: bool,
    extra: bool,
    rules: str,
    train_sentencepiece: Any,
    mixed_texts: list[str],
    tmp_path: Path,
) -> None:
    """Characters are replaced or not, spaces are added, removed or kept, and symbols are user-defined."""
    settings = {"add_dummy_prefix": dummy, "remove_extra_whitespaces": extra, "byte_fallback": dummy == extra}
    symbols = ["<turn>", "\u2581\u2581"] if model_type == "bpe" and not dummy else ["<turn>"]
    train_sentencepiece(
        tmp_path / "tokenizer.model",
        model_type=model_type,
        vocab_size=420,
        normalization_rule_name=rules,
        user_defined_symbols=symbols,
        **settings,
    )
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    texts = ["<turn> a", "a<turn>", " <turn>  the<turn><turn> x ", *mixed_texts[:300]]
    assert Tokenizer.load(tmp_path).encode_batch(texts) == [model.encode(text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_the_same_tokenizer_elsewhere(
    kind: str, legacy: dict[str, Path], mixed_texts: list[str], tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(legacy[kind])
    tokenizer.save(tmp_path)
    model_type = {"gpt": "openai-gpt"}.get(kind, kind)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    elsewhere, again = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    whole = [tokenizer.encode_document(text) for text in mixed_texts]
    assert [elsewhere(t, split_special_tokens=True)["input_ids"] for t in mixed_texts] == whole
    assert [again.encode_document(text) for text in mixed_texts] == whole
    assert len(elsewhere) == tokenizer.vocab_size
    for name in ("bos_id", "eos_id", "pad_id", "unk_id", "special_ids", "config"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert elsewhere.eos_token_id == tokenizer.eos_id
    if kind in LOSSLESS:
        assert [tokenizer.decode(tokenizer.encode(text)) for text in mixed_texts] == mixed_texts


def test_the_special_tokens_around_one_text_and_two(legacy: dict[str, Path], tmp_path: Path) -> None:
    both = {}
    for kind in ("roberta", "bert", "t5", "llama", "marian"):
        tokenizer = Tokenizer.load(legacy[kind])
        tokenizer.save(tmp_path / kind)
        pair = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)(
            "The", "seed", return_token_type_ids=True
        )
        both[kind] = [tokenizer.token(i) for i in pair["input_ids"] if i in tokenizer.special_ids]
        if kind == "bert":
            sizes = [len(tokenizer.encode(text)) for text in ("The", "seed")]
            assert pair["token_type_ids"] == [0] * (sizes[0] + 2) + [1] * (sizes[1] + 1)
    assert both["roberta"] == ["<s>", "</s>", "</s>", "</s>"]
    assert both["bert"] == ["[CLS]", "[SEP]", "[SEP]"]
    assert both["t5"] == both["marian"] == ["</s>", "</s>"]
    assert both["llama"] == ["<s>", "<s>"]


def test_the_tokens_that_begin_and_part_texts(legacy: dict[str, Path]) -> None:
    for kind in ("bert", "roberta"):
        tokenizer, reference = Tokenizer.load(legacy[kind]), theirs(legacy[kind])
        expected = (reference.cls_token_id, reference.sep_token_id, reference.mask_token_id)
        assert None not in expected
        assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == expected
    gpt2 = Tokenizer.load(legacy["gpt2"])
    assert (gpt2.cls_id, gpt2.sep_id) == (None, None)


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "bert", "t5"])
def test_where_words_begin(kind: str, legacy: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(legacy[kind])
    assert tokenizer.begins_word.shape == (tokenizer.vocab_size,)
    assert tokenizer.begins_word[sorted(tokenizer.special_ids)].all()
    ids = tokenizer.encode("who sows gardenseeds")
    words: list[list[int]] = []
    for place, token_id in enumerate(ids):
        if not place or tokenizer.begins_word[token_id]:
            words.append([])
        words[-1].append(token_id)
    assert len(ids) > 3
    assert [tokenizer.decode(word).strip().removeprefix("##") for word in words] == [
        "who",
        "sows",
        "gardenseeds",
    ]


def test_t5_has_its_sentinels_last_to_first(legacy: dict[str, Path], copy: Any, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(legacy["t5"])
    size = tokenizer.vocab_size
    assert [tokenizer.token(size - 1 - i) for i in range(3)] == [f"<extra_id_{i}>" for i in range(3)]
    assert tokenizer.sentinel_ids == tuple(range(size - 1, size - 101, -1))
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").sentinel_ids == tokenizer.sentinel_ids
    assert Tokenizer.load(legacy["bert"]).sentinel_ids == ()
    listed = {
        "tokenizer_class": "T5Tokenizer",
        "additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)],
    }
    assert Tokenizer.load(copy("t5", tokenizer_config=listed)).fingerprint == tokenizer.fingerprint
    few = Tokenizer.load(copy("t5", tokenizer_config={"tokenizer_class": "T5Tokenizer", "extra_ids": 2}))
    assert few.vocab_size == size - 98


def test_the_mask_takes_the_space_before_it(legacy: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("roberta", "xlm-roberta"):
        tokenizer = Tokenizer.load(legacy[kind])
        tokenizer.save(tmp_path / kind)
        elsewhere = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        ids = elsewhere("The <mask>.", add_special_tokens=False)["input_ids"]
        assert [i in tokenizer.special_ids for i in ids].count(True) == 1
        assert ids[: ids.index(elsewhere.mask_token_id)] == tokenizer.encode("The")


def test_marian_decodes_what_the_target_s_model_alone_has(legacy: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(legacy["marian"])
    vocabulary = json.loads((legacy["marian"] / "vocab.json").read_text())
    assert tokenizer.decode([vocabulary["Haus\u2581x"]]) == "Haus x"
    assert vocabulary["Haus\u2581x"] not in tokenizer.encode("Haus\u2581x Haus x")
    code, *rest = tokenizer.encode(">>deu<< The garden")
    assert code == vocabulary[">>deu<<"]
    assert rest == tokenizer.encode("The garden")


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_comes_from_the_class_else_the_config_else_the_files(kind: str, copy: Any) -> None:
    named = Tokenizer.load(copy(kind)).fingerprint
    model_type = {"model_type": {"gpt": "openai-gpt"}.get(kind, kind)}
    assert Tokenizer.load(copy(kind, ("tokenizer_config.json",), config=model_type)).fingerprint == named
    if kind not in ("xlm-roberta", "qwen2"):  # whose files several kinds have
        nameless = copy(kind, config={}, tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"})
        assert Tokenizer.load(nameless).fingerprint == named


def test_an_unknown_kind_is_named(copy: Any) -> None:
    nameless = copy("xlm-roberta", ("tokenizer_config.json",))
    with pytest.raises(BundleError, match=r"is not known; name one of GPT2Tokenizer, .*Llama"):
        Tokenizer.load(nameless)
    other = copy("t5", tokenizer_config={"tokenizer_class": "PegasusTokenizer"})
    with pytest.raises(
        BundleError, match="the tokenizer_class 'PegasusTokenizer', whose kind of tokenizer is not known"
    ):
        Tokenizer.load(other)
    phi = copy("gpt2", ("tokenizer_config.json",), config={"model_type": "phi"})  # cut at other places
    with pytest.raises(BundleError, match="the model_type 'phi', whose kind of tokenizer is not known"):
        Tokenizer.load(phi)
    wrong = copy("bert", tokenizer_config={"tokenizer_class": "GPT2TokenizerFast"})
    with pytest.raises(BundleError, match=r"not vocab\.json \+ merges\.txt or encoder\.json \+ vocab\.bpe"):
        Tokenizer.load(wrong)


def test_gpt2_s_original_names(legacy: dict[str, Path], tmp_path: Path) -> None:
    for new, old in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        shutil.copy(legacy["gpt2"] / new, tmp_path / old)
    assert Tokenizer.load(tmp_path).fingerprint == Tokenizer.load(legacy["gpt2"]).fingerprint


def test_bert_s_settings_and_its_case_without_them(copy: Any) -> None:
    texts = ["Größe Und ÜBERMUT 漢字 the", "The Seeds"]
    for settings in (
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"strip_accents": True, "do_lower_case": False},
        {"tokenize_chinese_chars": False},
    ):
        folder = copy("bert", tokenizer_config={"tokenizer_class": "BertTokenizer"} | settings)
        expected = [theirs(folder)(t, add_special_tokens=False)["input_ids"] for t in texts]
        assert Tokenizer.load(folder).encode_batch(texts) == expected
    lines = (copy("bert") / "vocab.txt").read_text()
    cased = copy("bert", ("tokenizer_config.json",))
    (cased / "vocab.txt").write_text(lines + "The\n")
    assert Tokenizer.load(cased).encode("The") == [lines.count("\n")]


def test_added_tokens_get_the_ids_and_flags_of_their_files(copy: Any) -> None:
    size = Tokenizer.load(copy("gpt2")).vocab_size
    folder = copy(
        "gpt2",
        added_tokens={"<new>": size, "<|pad|>": size + 1},
        special_tokens_map={
            "pad_token": {"content": "<|pad|>", "lstrip": False},
            "additional_special_tokens": [],
        },
    )
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (size + 2, size + 1)
    assert tokenizer.encode("a<new>") == [*tokenizer.encode("a"), size]  # an ordinary token
    assert tokenizer.encode("<|pad|>") != [size + 1]
    flags = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    decoder = {str(size): {"content": "<a>", "special": True} | flags}
    config = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": decoder, "bos_token": None}
    placed = Tokenizer.load(copy("gpt2", ("added_tokens.json",), tokenizer_config=config))
    assert placed.added_tokens[size].lstrip and size in placed.special_ids
    assert (placed.bos_id, placed.eos_id) == (None, size - 1)
    decoder = {str(size + 5): decoder[str(size)]}
    with pytest.raises(BundleError, match=f"'<a>' has the id {size + 5}, but its place is {size}"):
        Tokenizer.load(copy("gpt2", tokenizer_config=config | {"added_tokens_decoder": decoder}))


def test_begin_and_end_tokens_as_the_config_says(copy: Any) -> None:
    for kind, settings, marks in (
        ("llama", {"add_bos_token": False, "add_eos_token": True}, (None, "eos_id")),
        ("gpt2", {"add_bos_token": True}, ("bos_id", None)),
        ("gpt2", {}, (None, None)),
    ):
        name = {"llama": "Llama", "gpt2": "GPT2"}[kind]
        config = {"tokenizer_class": f"{name}Tokenizer"} | settings
        tokenizer = Tokenizer.load(copy(kind, tokenizer_config=config))
        first, last = ([] if mark is None else [getattr(tokenizer, mark)] for mark in marks)
        assert tokenizer.encode_document("the") == [*first, *tokenizer.encode("the"), *last]


@pytest.mark.parametrize("kind", ["llama", "t5", "gemma"])
def test_a_sentencepiece_file_is_a_tokenizer_too(
    kind: str, legacy: dict[str, Path], copy: Any, tmp_path: Path
) -> None:
    texts = ["the seeds in the garden", "", " a  b"]
    expected = Tokenizer.load(legacy[kind]).encode_batch(texts)
    folder = copy(kind)
    (file,) = folder.glob("*.model")
    assert Tokenizer.load(file).encode_batch(texts) == expected
    (folder / "tokenizer_config.json").unlink()
    renamed = file.rename(folder / "mine.model")
    assert Tokenizer.load(renamed).encode_batch(texts) == expected
