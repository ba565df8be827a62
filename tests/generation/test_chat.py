"""Chat: the template's ids are what is answered, and a conversation keeps to the context by whole turns."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from seedbed.base.errors import UsageError
from seedbed.generation.chat import MAX_ESTIMATES, Conversation, most_that_fit
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.hub.bundle import open_bundle
from seedbed.models.family import Network
from seedbed.models.network import build
from seedbed.nn.config import ModelConfig
from seedbed.text.chat_template import Message
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
    assert talk.messages == []  # a prompt alone adds nothing


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


# ---- which turns are kept, beside a search that renders them all

TEMPLATES = {
    file.stem: file.read_text() for file in (Path(__file__).parents[1] / "text" / "templates").glob("*.jinja")
}
NAMES = ("<s>", "</s>", END, "<|im_start|>", "<start_of_turn>", "<end_of_turn>")


class Counted(LanguageModel):
    """A model that notes how many tokens the prompts have that it renders."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.rendered: list[int] = []

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        ids = super().chat_ids(messages)
        self.rendered.append(len(ids))
        return ids


def with_template(gpt2: Network, template: str, context: int) -> Counted:
    assert isinstance(gpt2.config, ModelConfig)
    made = train_tokenizer(["text"], "bytes", vocab_size=270, special=decoder_form(END_OF_TEXT, *NAMES))
    tokens = {"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"}
    config = replace(gpt2.config, vocab_size=270, max_positions=context)
    return Counted(build(config), Tokenizer(made._core, made.config | tokens))


def random_turns(rng: random.Random, num_turns: int) -> list[dict[str, Any]]:
    """Questions and answers of very different lengths, some of them with thoughts."""
    messages = []
    for _ in range(num_turns):
        thoughts = f"<think>{'hm ' * rng.randrange(60)}</think>" if rng.random() < 0.3 else ""
        messages.append({"role": "user", "content": "q" * rng.choice([1, 5, 40, 200])})
        messages.append({"role": "assistant", "content": thoughts + "ü " * rng.choice([1, 9, 90])})
    return messages


@pytest.mark.parametrize("style", TEMPLATES)
def test_as_many_turns_are_kept_as_fit(style: str, gpt2: Network) -> None:
    rng = random.Random(style)
    lm = with_template(gpt2, TEMPLATES[style], 1024)
    head = [] if style == "gemma" else [{"role": "system", "content": "Be brief."}]
    num_left_out = set()
    for num_turns in (0, 1, 2, 3, 7, 12, 20):
        messages = [*head, *random_turns(rng, num_turns)]
        question = {"role": "user", "content": "why? " * rng.randrange(1, 20)}
        prompts = [
            lm.chat_ids([*head, *messages[len(head) + 2 * first :], question])
            for first in range(num_turns + 1)
        ]
        for reserved in (1, rng.randrange(2, 400), 512):
            talk = Conversation(lm, messages)
            first = next(n for n, ids in enumerate(prompts) if len(ids) <= 1024 - reserved)
            assert talk.prompt(question["content"], max_new_tokens=reserved) == prompts[first]
            assert talk.num_unseen == first
            num_left_out.add(first)
    assert 0 in num_left_out and len(num_left_out) > 3


@pytest.mark.parametrize("is_short", [True, False])
def test_a_long_conversation_is_cut_after_few_prompts(is_short: bool, gpt2: Network) -> None:
    """Also where most of a turn is what the template writes around it."""
    lm = with_template(gpt2, TEMPLATES["chatml"], 4096)
    short = [{"role": "user", "content": "hm"}, {"role": "assistant", "content": "ok"}] * 1000
    talk = Conversation(lm, short if is_short else random_turns(random.Random(3), 1000))
    for number in range(3):
        ids = talk.prompt(f"question {number}", max_new_tokens=500)
        assert 4096 - 500 - 600 < len(ids) <= 4096 - 500 and talk.num_unseen > 800
        assert len(lm.rendered) <= 5 and max(lm.rendered) < 4 * 4096, lm.rendered
        lm.rendered.clear()
        talk.add(f"question {number}", "answer")


def test_a_short_conversation_is_rendered_once(gpt2: Network) -> None:
    lm = with_template(gpt2, TEMPLATES["chatml"], 4096)
    talk = Conversation(lm, random_turns(random.Random(3), 4))
    talk.prompt("question", max_new_tokens=500)
    assert len(lm.rendered) == 1


def test_turns_whose_thoughts_the_template_drops_are_all_kept(gpt2: Network) -> None:
    lm = with_template(gpt2, TEMPLATES["thinking"], 1024)
    turn = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "<think>hm </think>" * 30 + "a"},
    ]
    talk = Conversation(lm, turn * 10)
    assert talk.prompt("why?", max_new_tokens=500) == lm.chat_ids(
        [*turn * 10, {"role": "user", "content": "why?"}]
    )
    assert talk.num_unseen == 0


@pytest.mark.parametrize("liar", ["no turn", "every turn", "the oldest turn", "turns, the more the older"])
def test_the_search_ends_soon_whatever_is_estimated(liar: str) -> None:
    """Sizes that have nothing to do with what a turn adds, which is 10 tokens; 100 turns of 200 fit."""
    sizes = {
        "no turn": [0] * 200,
        "every turn": [999] * 200,
        "the oldest turn": [9999] + [0] * 199,
        "turns, the more the older": [2**n for n in range(200)][::-1],
    }[liar]
    rendered = []

    def render(num_kept: int) -> list[int]:
        rendered.append(num_kept)
        return [0] * (10 * num_kept + (500 if num_kept % 3 else 0) * (num_kept > 100))

    assert most_that_fit(render, sizes, 1000) == (100, [0] * 1000)
    assert len(rendered) <= 2 + MAX_ESTIMATES + 8
