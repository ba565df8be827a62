"""A form of special tokens gets those that an objective needs, and keeps its own."""

import json
from pathlib import Path

import pytest
from tests.text.test_training import CORPUS, FORMS, trained
from transformers import AutoTokenizer

from seedbed.text.training import train_tokenizer

# What an objective adds to a family's tokens: sentinels, a mask, both.
ADDED: dict[str, tuple[str, ...]] = {
    "roberta": ("sentinels",),
    "t5": ("mask",),
    "marian": ("mask", "sentinels"),
}


@pytest.mark.parametrize("form", ADDED)
def test_tokens_that_an_objective_needs_join_the_family_s(form: str, tmp_path: Path) -> None:
    """Those of the family keep their ids, the new ones have their role, and `transformers` reads them."""
    needed, before = ADDED[form], trained(form, FORMS[form].kind)
    made = train_tokenizer(CORPUS, vocab_size=480, special=FORMS[form].having(needed))
    made.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": form}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    size = made.vocab_size
    for name in ("bos", "eos", "pad", "unk", "cls", "sep"):
        assert (
            getattr(made, f"{name}_id")
            == getattr(before, f"{name}_id")
            == getattr(theirs, f"{name}_token_id")
        )
    assert size <= 480  # as requested, new ones included
    assert made.sentinel_ids == tuple(range(size - 1, size - 101, -1))
    mask = before.mask_id if form == "roberta" else size - 101
    assert made.mask_id == theirs.mask_token_id == mask and theirs.mask_token == "<mask>"
    assert made.special_ids == frozenset(theirs.all_special_ids) and made.special_ids > before.special_ids
    first = made.sentinel_ids[0]
    marked = theirs("the <mask> and <extra_id_0>", add_special_tokens=False)["input_ids"]
    assert [i for i in marked if i in (mask, first)] == [mask, first]
    hidden = made.encode("the <mask> and <extra_id_0>")
    assert {mask, first}.isdisjoint(hidden)
    assert made.encode_document("the")[-1] == made.eos_id


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_has_what_is_needed_stays_as_it_is(form: str) -> None:
    own: dict[str, tuple[str, ...]] = {
        "bert": ("mask",),
        "roberta": ("eos", "mask"),
        "t5": ("eos", "sentinels"),
    }
    assert FORMS[form].having(own.get(form, ())) == FORMS[form]
    assert form == "bert" or FORMS[form].having(("eos",)) == FORMS[form]
