"""The public object: text or ids in; completions, chunks, scores, logits out; one line for bad input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import processors
from transformers import GenerationConfig, GPT2LMHeadModel, PreTrainedTokenizerFast

from seedbed.base.errors import BundleError, ConfigError, SeedbedError, UsageError
from seedbed.generation import scoring
from seedbed.generation.language_model import Completion, LanguageModel
from seedbed.generation.settings import GenerationSettings
from seedbed.hub.bundle import open_bundle
from seedbed.models.family import Network
from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

EOS = 256


@pytest.fixture
def lm(module: Network, tokenizer: Tokenizer) -> LanguageModel:
    return LanguageModel(module, tokenizer)


def flat_logits(module: Network, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return module.output(module(torch.tensor(ids), Layout.of([len(ids)])))


# ---- generate


def test_a_single_prompt_gives_one_result_and_several_a_list(lm: LanguageModel) -> None:
    single = lm.generate("ab", 5, temperature=0)
    assert isinstance(single, Completion) and len(single.token_ids) == 5
    assert lm.generate(["ab"], 5, temperature=0) == [single]
    ids = lm.tokenizer.encode("ab") if lm.tokenizer else []
    assert lm.generate(ids, 5, temperature=0) == single
    assert lm.generate(["ab", ids, tuple(ids)], 5, temperature=0) == [single] * 3
    assert lm.generate(torch.tensor(ids), 5, temperature=0) == single  # type: ignore[arg-type]
    assert lm.generate([], 5) == []


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>", "$A </s>", "$A"])
def test_a_text_begins_as_the_tokenizer_has_it(
    module: Network, tokenizer: Tokenizer, template: str, tmp_path: Path
) -> None:
    """LLaMA's and Gemma's read a begin token before a text; what ends one does not stand before an answer."""
    tokenizer.save(tmp_path)
    core = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    marks = {"<s>": 1, "</s>": 2}  # any two tokens of a tiny network's may stand for them
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[*marks.items()])
    core.save(str(tmp_path / "tokenizer.json"))
    lm = LanguageModel(module, Tokenizer.load(tmp_path))
    assert lm.tokenizer is not None
    begins = [1] if template.startswith("<s>") else []
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))("ab")["input_ids"]
    expected = theirs[:-1] if template.endswith("</s>") else theirs
    assert [*begins, *lm.tokenizer.encode("ab")] == expected
    assert lm.generate("ab", 6, temperature=0) == lm.generate(expected, 6, temperature=0)
    assert "".join(lm.stream("ab", 6, seed=1)) == lm.generate(expected, 6, seed=1).text
    assert lm.score("ab", "c") == lm.score(expected, "c")


def test_samples_of_a_single_prompt_are_a_list_and_of_several_a_list_each(lm: LanguageModel) -> None:
    samples: Any = lm.generate("ab", 5, num_samples=3, seed=1, temperature=1)
    assert len(samples) == 3 and len({tuple(s.token_ids) for s in samples}) == 3
    several: Any = lm.generate(["ab", "c"], 5, num_samples=3, seed=1, temperature=1)
    assert several[0] == samples
    assert lm.generate("ab", 5, seed=1, temperature=1) == samples[0]


def test_text_is_that_of_the_tokens(lm: LanguageModel) -> None:
    assert lm.tokenizer is not None
    for completion in lm.generate(["a", "b", "漢"], 20, seed=3, temperature=2.0, eos_ids=()):
        assert completion.text == lm.tokenizer.decode(completion.token_ids)
        assert completion.finish_reason == "length" and completion.logprobs is None


def test_the_end_token_of_tokenizer_or_bundle_ends_answers(module: Network, tokenizer: Tokenizer) -> None:
    lm = LanguageModel(module, tokenizer)
    assert lm.eos_ids == (EOS,)
    free = lm.generate("a", 20, seed=3, temperature=2.0, eos_ids=())
    third, fifth = free.token_ids[2], free.token_ids[4]
    for named in (third, [fifth, third]):
        ended = LanguageModel(module, tokenizer, generation={"eos_token_id": named}).generate(
            "a", 20, seed=3, temperature=2.0
        )
        first = free.token_ids.index(third)
        assert ended.token_ids == free.token_ids[: first + 1] and ended.finish_reason == "stop"
        assert ended.text == tokenizer.decode(free.token_ids[:first])


def test_an_empty_prompt_starts_where_documents_start(module: Network, tokenizer: Tokenizer) -> None:
    lm = LanguageModel(module, tokenizer)
    assert lm.generate("", 5, temperature=0) == lm.generate([EOS], 5, temperature=0)
    assert lm.generate(["", "a"], 5, temperature=0)[0] == lm.generate([[]], 5, temperature=0)[0]
    begun = LanguageModel(module, tokenizer, generation={"bos_token_id": 7})
    assert begun.generate("", 5, temperature=0) == lm.generate([7], 5, temperature=0)
    with pytest.raises(UsageError, match="the prompt is empty"):
        LanguageModel(module).generate([[]])


def test_without_a_tokenizer_ids_work_and_text_says_what_is_missing(module: Network) -> None:
    lm = LanguageModel(module)
    completion = lm.generate([1, 2], 4, temperature=0)
    assert completion.text is None and len(completion.token_ids) == 4
    for attempt in (lambda: lm.generate("text"), lambda: lm.stream([1, 2]), lambda: lm.score([1], "text")):
        with pytest.raises(UsageError, match="needs a tokenizer"):
            attempt()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 2.5},
        {"max_new_tokens": True},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-9},
        {"top_k": -1},
        {"top_p": 1.1},
        {"top_p": -0.1},
        {"top_p": float("nan")},
        {"stop": ("a", "")},
        {"seed": -1},
        {"num_samples": 0},
        {"logprobs": -1},
        {"min_p": 1.1},
        {"min_p": -0.1},
        {"min_p": "small"},
        {"repetition_penalty": 0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": float("nan")},
        {"no_repeat_ngram_size": -1},
        {"no_repeat_ngram_size": 2.5},
        {"stop": 3},
        {"eos_ids": 3},
        {"eos_ids": ["a"]},
        {"eos_ids": [-1]},
    ],
)
def test_wrong_settings_are_refused_in_one_line(gpt2: Network, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="is not allowed: give") as error:
        LanguageModel(gpt2).generate([1], **wrong)  # type: ignore[arg-type]
    (name,) = wrong
    assert str(error.value).startswith(f"{name}=") and "\n" not in str(error.value)


def test_a_single_stop_text_is_one_text() -> None:
    assert GenerationSettings(stop="ab").stop == ("ab",)
    assert hash(GenerationSettings(stop=["a", "b"], eos_ids=[1])) == hash(
        GenerationSettings(stop=("a", "b"), eos_ids=(1,))
    )


@pytest.mark.parametrize("prompt", [[1, 300], ["a", [300]], [1.5, 2], [["a"]], "x" * 49, [[1] * 49, [1]]])
def test_wrong_prompts_are_refused_in_one_line(gpt2: Network, tokenizer: Tokenizer, prompt: object) -> None:
    with pytest.raises(SeedbedError) as error:
        LanguageModel(gpt2, tokenizer).generate(prompt)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused() -> None:
    module = build(replace(family("gru").sized(8, 1), vocab_size=256))
    with pytest.raises(BundleError, match="257 tokens, but the network has 256"):
        LanguageModel(module, train_tokenizer(["a"], "bytes", vocab_size=257))


# ---- stream


@pytest.mark.parametrize("stop", [(), "a", ("ab", "\ufffd")])
def test_chunks_joined_are_the_text_of_generate(lm: LanguageModel, stop: str | tuple[str, ...]) -> None:
    for seed in range(8):
        whole = lm.generate("a", 30, seed=seed, temperature=1.5, top_k=100, stop=stop)
        chunks = list(lm.stream("a", 30, seed=seed, temperature=1.5, top_k=100, stop=stop))
        assert "".join(chunks) == whole.text and "" not in chunks


def test_a_chunk_comes_as_soon_as_it_is_final(gpt2: Network, tokenizer: Tokenizer) -> None:
    lm = LanguageModel(gpt2, tokenizer)
    chunks = lm.stream("a", 30, temperature=0, eos_ids=())
    first = next(chunks)
    whole = lm.generate("a", 30, temperature=0, eos_ids=()).text
    assert whole is not None and whole.startswith(first) and len(first) < len(whole)


def test_a_stream_says_why_it_ended(gpt2: Network, tokenizer: Tokenizer) -> None:
    lm = LanguageModel(gpt2, tokenizer)
    for prompt, eos_ids in (("a", ()), ("a" * 40, ()), ("a", None)):
        stream = lm.stream(prompt, 30, seed=2, eos_ids=eos_ids)
        first = next(stream)
        assert stream.completion is None
        whole = lm.generate(prompt, 30, seed=2, eos_ids=eos_ids)
        assert first + "".join(stream) == whole.text and stream.completion == whole


# ---- score


def test_scores_are_the_log_probabilities_of_the_tokens(lm: LanguageModel) -> None:
    score = lm.score("ab", "cde")
    ids = list(b"abcde")
    exact = (
        flat_logits(lm.module, ids)
        .double()
        .log_softmax(-1)[1:4]
        .gather(1, torch.tensor(ids[2:])[:, None])[:, 0]
    )
    assert score.token_ids == ids[2:] and len(score.token_is_top) == 3
    assert score.token_logprobs == pytest.approx(exact.tolist(), abs=1e-4)
    assert score.logprob == pytest.approx(exact.sum().item(), abs=1e-4)
    assert lm.score(ids[:2], ids[2:]) == score
    assert lm.score("", "c").token_logprobs == pytest.approx(lm.score([EOS], "c").token_logprobs)
    assert lm.score("ab", "").logprob == 0 and lm.score("ab", "").token_logprobs == []


def test_scores_of_many_are_those_of_each(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("a" * (1 + 3 * i % 7), "b" * (i % 5)) for i in range(12)]
    alone = [lm.score(*pair) for pair in pairs]
    for pass_tokens, logit_numbers in ((4096, 1 << 26), (9, 1200), (1, 1)):
        monkeypatch.setattr(scoring, "PASS_TOKENS", pass_tokens)
        monkeypatch.setattr(scoring, "LOGIT_NUMBERS", logit_numbers)
        together = lm.score_batch(pairs)
        assert [s.token_ids for s in together] == [s.token_ids for s in alone]
        for ours, theirs in zip(together, alone, strict=True):
            assert ours.token_logprobs == pytest.approx(theirs.token_logprobs, abs=1e-4)


def test_scores_agree_with_the_log_probabilities_of_generation(lm: LanguageModel) -> None:
    completion = lm.generate("ab", 8, seed=1, logprobs=1)
    score = lm.score("ab", completion.token_ids)
    assert [report.logprob for report in completion.logprobs or ()] == pytest.approx(
        score.token_logprobs, abs=1e-4
    )


def test_a_score_says_whether_a_completion_is_greedy(lm: LanguageModel) -> None:
    ids = lm.generate("ab", 4, temperature=0, eos_ids=()).token_ids
    other = [*ids[:2], (ids[2] + 1) % 256, ids[3]]
    pairs = [([1], ids[:1]), ("ab", ids), ("ab", other), ("ab", ids[:2]), ("ab", [])]
    for scores in (lm.score_batch(pairs), [lm.score(*pair) for pair in pairs]):  # with and without repeats
        assert scores[1].token_is_top == [True] * 4 and scores[2].token_is_top[:3] == [True, True, False]
        assert [score.is_greedy for score in scores[1:]] == [True, False, True, True]


def test_a_completion_beyond_the_context_is_refused(gpt2: Network, tokenizer: Tokenizer) -> None:
    lm = LanguageModel(gpt2, tokenizer)
    assert len(lm.score("a" * 40, "b" * 9).token_ids) == 9  # the last token is not read
    with pytest.raises(UsageError, match="the row has 49 tokens, but the context holds 48"):
        lm.score("a" * 40, "b" * 10)


# ---- logits


def test_logits_do_not_depend_on_padding(lm: LanguageModel) -> None:
    rows = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
    left, right = torch.zeros(3, 5, dtype=torch.int64), torch.zeros(3, 5, dtype=torch.int64)
    for r, row in enumerate(rows):
        right[r, : len(row)] = left[r, 5 - len(row) :] = torch.tensor(row)
    counts = torch.tensor([[len(row)] for row in rows])
    right_mask = torch.arange(5) < counts
    left_mask = right_mask.flip(1)
    expected = torch.cat([flat_logits(lm.module, row) for row in rows])
    for ids, mask in ((right, right_mask), (left, left_mask.long())):
        logits = lm.logits(ids, mask)
        assert logits.shape == (3, 5, 300)
        assert torch.allclose(logits[mask.bool()], expected, atol=1e-4)
        assert (logits[~mask.bool()] == 0).all()


def test_packed_documents_are_read_as_if_alone(lm: LanguageModel) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 0], [10, 11, 12, 13, 14, 15]])
    documents = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 2, 2, 1, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1] * 6])
    logits = lm.logits(ids, mask, document_ids=documents)
    rows = [[5, 6], [7, 8, 9], [10], [11, 12], [13, 14, 15]]
    expected = torch.cat([flat_logits(lm.module, row) for row in rows])
    assert torch.allclose(logits[mask.bool()], expected, atol=1e-4)
    assert not torch.allclose(lm.logits(ids, mask)[mask.bool()], expected, atol=1e-2)


def test_logits_refuse_what_does_not_fit(gpt2: Network) -> None:
    lm = LanguageModel(gpt2)
    ids = torch.ones(2, 3, dtype=torch.int64)
    for attempt, message in (
        (lambda: lm.logits(ids[0]), r"shape \(3,\); give \(batch, seq\)"),
        (lambda: lm.logits(ids[:, :0]), r"shape \(2, 0\)"),
        (lambda: lm.logits(ids, ids[:, :2]), r"attention_mask has shape \(2, 2\)"),
        (lambda: lm.logits(ids, document_ids=ids[:1]), "document_ids has shape"),
        (lambda: lm.logits(ids + 299), "token id 300"),
        (lambda: lm.logits(torch.ones(1, 49, dtype=torch.int64)), "the row has 49 tokens"),
    ):
        with pytest.raises(UsageError, match=message):
            attempt()
    assert not lm.logits(ids, torch.zeros_like(ids)).any()


# ---- save


def test_a_saved_model_answers_as_before(tokenizer: Tokenizer, tmp_path: Path) -> None:
    module = build(replace(family("gpt2").sized(16, 1), vocab_size=257))
    initialize(module, torch.Generator().manual_seed(0))
    lm = LanguageModel(module.eval(), tokenizer, generation={"eos_token_id": [EOS, 10]})
    lm.save(tmp_path / "model")
    opened, its_tokenizer, generation = open_bundle(tmp_path / "model")
    again = LanguageModel(opened, its_tokenizer, generation=generation)
    assert again.eos_ids == (EOS, 10) and again.config == lm.config
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == [
        EOS,
        10,
    ]
    assert again.generate("ab", 8, seed=1) == lm.generate("ab", 8, seed=1)


# ---- beside the reference


def test_greedy_answers_are_those_of_transformers(gpt2: Network, tmp_path: Path) -> None:
    lm = LanguageModel(gpt2)
    lm.save(tmp_path / "model")
    reference = GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    prompts = [[5, 6, 7], [8], list(range(20))]
    for prompt, completion in zip(prompts, lm.generate(prompts, 25, temperature=0), strict=True):
        inputs = torch.tensor([prompt])
        theirs = reference.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=GenerationConfig(max_new_tokens=25, do_sample=False, pad_token_id=0),
        )
        assert completion.token_ids == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("named", [[[]], "</s>", [3, None], {"a": 1}])
def test_end_tokens_that_are_no_ids_are_refused_in_one_line(gpt2: Network, named: object) -> None:
    with pytest.raises(BundleError, match=r"eos_token_id=.* is not a token id or a list of them") as error:
        LanguageModel(gpt2, generation={"eos_token_id": named}).generate([1], 2)
    assert "\n" not in str(error.value)
