"""Chat: the template's ids are what is answered, and a conversation keeps to the context by whole turns."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from seedbed.base.errors import UsageError
from seedbed.generation.chat import Conversation
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.hub.bundle import open_bundle
from seedbed.models.family import Network
from seedbed.text.special_form import decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer
from seedbed.text.training import train_tokenizer

END = "<|im_end|>"
TEMPLATE = "{% for m in messages %}{{ m.role[0] + m.content + '<|im_end|>' }}{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}a{% endif %}"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def talker() -> Tokenizer:
    """A token a byte, 256 ends a document and 257 a turn."""
    made = train_tokenizer(["text"], "bytes", vocab_size=258, special=decoder_form(END_OF_TEXT, END))
    return Tokenizer(made._core, made.config | {"chat_template": TEMPLATE})


@pytest.fixture
def lm(gpt2: Network, talker: Tokenizer) -> LanguageModel:
    return LanguageModel(gpt2, talker, generation={"eos_token_id": [256, 257]})


def test_chat_answers_what_the_template_writes(lm: LanguageModel) -> None:
    ids = [*b"uhello", 257, *b"a"]
    assert lm.chat_ids(HELLO) == ids
    answer = lm.chat(HELLO, 9, seed=3, temperature=2.0)
    assert isinstance(answer, Completion) and answer.text is not None
    assert answer == lm.generate(ids, 9, seed=3, temperature=2.0)
    assert "".join(lm.stream(ids, 9, seed=3, temperature=2.0)) == answer.text
    assert len(lm.chat(HELLO, 3, num_samples=2, logprobs=1, top_k=5, top_p=0.9, stop="q")) == 2


def test_the_end_of_a_turn_that_the_model_names_ends_answers(lm: LanguageModel) -> None:
    free = lm.chat(HELLO, 12, seed=4, temperature=2.0, eos_ids=())
    lm.generation["eos_token_id"] = [256, free.token_ids[4]]
    ended = lm.chat(HELLO, 12, seed=4, temperature=2.0)
    assert ended.finish_reason == "stop" and ended.token_ids[-1] == free.token_ids[4]


def test_a_bundle_keeps_the_template(lm: LanguageModel, tmp_path: Path) -> None:
    for _ in range(2):  # the second takes the place of the first
        lm.save(tmp_path / "bundle")
    module, tokenizer, generation = open_bundle(tmp_path / "bundle")
    again = LanguageModel(module, tokenizer, generation=generation)
    assert again.eos_ids == (256, 257)
    assert again.chat(HELLO, 5, temperature=0) == lm.chat(HELLO, 5, temperature=0)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "bundle")
    ids = theirs.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    assert ids == lm.chat_ids(HELLO)


def test_a_model_without_a_template_says_so(gpt2: Network, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r"no chat template.*`generate` completes text"):
        LanguageModel(gpt2, tokenizer).chat(HELLO)
    with pytest.raises(UsageError, match="needs a tokenizer"):
        LanguageModel(gpt2).chat(HELLO)


# ---- a conversation in a context of 48


def said(ids: list[int]) -> str:
    """The words of a prompt; a dot ends a message."""
    return "".join("." if i == 257 else chr(i) for i in ids)


def test_the_oldest_turns_are_left_out_whole(lm: LanguageModel) -> None:
    talk = Conversation(lm, [{"role": "system", "content": "S"}])
    for n in range(4):
        talk.prompt(f"question{n}", max_new_tokens=10)
        assert talk.num_unseen == max(0, n - 1), n
        talk.add(f"question{n}", f"answer{n}")
    ids = talk.prompt("last", max_new_tokens=24)
    assert said(ids) == "sS.ulast.a" and talk.num_unseen == 4
    assert said(talk.prompt("last", max_new_tokens=18)) == "sS.uquestion3.aanswer3.ulast.a"
    assert talk.num_unseen == 3
    assert len(talk.messages) == 9  # all are kept


def test_half_of_the_context_is_the_most_that_an_answer_reserves(lm: LanguageModel) -> None:
    talk = Conversation(lm)
    assert len(talk.prompt("x" * 21, max_new_tokens=1000)) == 24
    with pytest.raises(UsageError, match="have 25 tokens, but 24 fit beside 24 reserved"):
        talk.prompt("x" * 22, max_new_tokens=1000)
    assert len(talk.prompt("x" * 44, max_new_tokens=1)) == 47
    assert talk.messages == []  # nothing of what was only asked


def test_a_recurrent_network_sees_every_turn(module: Network, talker: Tokenizer) -> None:
    talk = Conversation(LanguageModel(module, talker))
    talk.add("x" * 60, "y")
    assert len(talk.prompt("z", max_new_tokens=8)) == (4 if module.config.max_positions else 69)


def test_reset_keeps_what_stands_before_the_turns(lm: LanguageModel) -> None:
    talk = Conversation(lm, [{"role": "system", "content": "S"}, *HELLO])
    talk.add("more", "")
    talk.reset()
    assert talk.messages == [{"role": "system", "content": "S"}]
    assert Conversation(lm, [{"role": "assistant", "content": "I begin"}]).prompt("x", max_new_tokens=1)
