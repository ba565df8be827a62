"""Tasks of EleutherAI's harness have the same results as with its own `hf` model on the same weights."""

import importlib
import json
import logging
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tests.models.reference import tiny
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import seedbed
from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.integrate.harness import LONG_CONTEXT, HarnessModel, _blocks, _max_length
from seedbed.text.tokenizer import Tokenizer

CONTEXT, NEW_TOKENS, ITEMS, NUM_TOKENS = 128, 12, 22, 320
END = "<|im_end|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["apple", "river", "stone", "green", "cloud", "seven", "quick", "night", "table", "paper", "under"]
WORDS += ["honest", "music", "winter", "small", "bird"]


@pytest.fixture(autouse=True, scope="module")
def offline() -> Iterator[None]:
    """No library looks up a host: `datasets` would count the use of its JSON reader on a server."""
    patch, asked = pytest.MonkeyPatch(), list[Any]()
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        raise PermissionError(f"a test tried to reach {host}")

    patch.setattr(socket, "getaddrinfo", look_up)
    yield
    patch.undo()
    assert not asked


def sentence(choose: random.Random, size: int) -> str:
    return " ".join(choose.choice(WORDS) for _ in range(size))


def save_tokenizer(folder: Path, *, adds_start: bool) -> None:
    """A byte-level BPE tokenizer with a chat template, which may put <s> before a text."""
    core = Core(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<|im_start|>", END]
    trainer = trainers.BpeTrainer(vocab_size=NUM_TOKENS, special_tokens=special, initial_alphabet=alphabet)
    texts = random.Random(0)
    core.train_from_iterator([f"{sentence(texts, 20)}.\n" for _ in range(50)], trainer)
    if adds_start:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    ).save_pretrained(folder)


def save_model(folder: Path, kind: str) -> None:
    """A random network whose logits are far apart, so that rounding decides nothing; it writes ASCII."""
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "vocab_size": NUM_TOKENS}
    network: transformers.PreTrainedModel
    if kind == "llama":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads, **ends))
    else:
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **ends)
        network = transformers.GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=0.3, generator=generator)
            if ("norm" in name or ".ln_" in name) and name.endswith("weight"):
                parameter.add_(1)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        odd = [i for i in range(NUM_TOKENS) if not tokenizer.decode([i]).isascii()]
        network.get_output_embeddings().weight[odd] = 0
    network.save_pretrained(folder)


def greedy_text(hf: HFLM, prompt: str) -> str:
    """What transformers itself continues a prompt with."""
    ids = hf.tokenizer(prompt, return_tensors="pt").input_ids[:, NEW_TOKENS - CONTEXT :]
    found = hf.model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=1)
    return str(hf.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))


def write_tasks(folder: Path, hf: HFLM) -> TaskManager:
    """A task of each kind of request in local files; some items are longer than the context."""
    choose, records = random.Random(1), []
    for i in range(ITEMS):
        question = sentence(choose, 90 if i == 3 else choose.randint(2, 9)).capitalize() + (
            "? " if i % 5 else "?"
        )
        greedy = greedy_text(hf, question)
        record = {"question": question, "label": choose.randrange(3), "text": sentence(choose, 10 + 12 * i)}
        record["choices"] = [sentence(choose, choose.randint(1, 4)) for _ in range(3)]
        # What both answer is the target of some, so that the metrics are neither 0 nor 1.
        record["answer"] = greedy.split("q")[0] if i % 2 else sentence(choose, 2)
        record["next"] = (greedy[:1] or "a") if i % 2 else sentence(choose, 1)
        records.append(record)
    for name, some in (("test", records), ("train", records[::3])):
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, some)))
    files = {name: str(folder / f"{name}.json") for name in ("test", "train")}
    data = {"data_files": files, "cache_dir": str(folder / "cache")}
    shared = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "fewshot_split": "train"}
    shared |= {"doc_to_text": "{{question}}", "doc_to_target": "label"}
    tasks: dict[str, dict[str, Any]] = {
        "choices": {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}"},
        "answers": {"output_type": "generate_until", "doc_to_target": "{{answer}}", "target_delimiter": ""},
        "nexts": {"output_type": "loglikelihood", "doc_to_target": "{{next}}", "target_delimiter": ""},
        "texts": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    }
    metrics = {"choices": ["acc", "acc_norm"], "answers": ["exact_match"], "nexts": ["acc", "perplexity"]}
    metrics["texts"] = ["word_perplexity", "bits_per_byte"]
    tasks["answers"]["generation_kwargs"] = {
        "until": ["q", END],
        "max_gen_toks": NEW_TOKENS,
        "do_sample": False,
    }
    tasks["continued"] = tasks["choices"] | {"gen_prefix": "The answer is"}
    for name, task in tasks.items():
        names = [{"metric": metric} for metric in metrics.get(name, metrics["choices"])]
        text = json.dumps(shared | task | {"task": name, "metric_list": names})  # JSON is YAML
        (folder / f"{name}.yaml").write_text(text)
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def models_and_tasks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[HFLM, HarnessModel, TaskManager]]:
    folder = tmp_path_factory.mktemp(request.param)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    save_tokenizer(folder / "model", adds_start=request.param == "llama")
    save_model(folder / "model", request.param)
    hf = HFLM(pretrained=str(folder / "model"), device="cpu", dtype="float32", batch_size=1)
    ours = HarnessModel(str(folder / "model"))
    yield hf, ours, write_tasks(folder, hf)
    logging.getLogger("lm_eval").setLevel(logging.NOTSET)


def require_equal(hf: HFLM, ours: HarnessModel, tasks: list[str], manager: TaskManager, **how: Any) -> Any:
    """Run tasks with both; compare every metric and every request. Returns our results."""
    theirs, found = (
        lm_eval.simple_evaluate(model=lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, **how)
        for lm in (hf, ours)
    )
    for task in tasks:
        for name, value in theirs["results"][task].items():
            if isinstance(value, float):
                rel = 1e-5 if "perplexity" in name else 1e-6  # exp() of a mean log-likelihood
                assert found["results"][task][name] == pytest.approx(value, rel=rel), (task, name)
        for one, other in zip(theirs["samples"][task], found["samples"][task], strict=True):
            assert other["arguments"] == one["arguments"]
            for expected, actual in zip(one["resps"], other["resps"], strict=True):
                require_same(actual, expected)
    return found


def require_same(found: Any, expected: Any) -> None:
    """Compare nested lists: log-likelihoods to 1e-5 (3e-8 to 8e-7 on 2026-11-28), the rest exactly."""
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert one == (pytest.approx(other, rel=1e-5) if isinstance(other, float) else other)


def flat(value: Any) -> list[Any]:
    """The numbers and texts of nested lists."""
    return [each for part in value for each in flat(part)] if isinstance(value, list | tuple) else [value]


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_results_are_those_of_the_hf_model(
    models_and_tasks: tuple[HFLM, HarnessModel, TaskManager], num_fewshot: int
) -> None:
    hf, ours, manager = models_and_tasks
    tasks = ["choices", "answers", "nexts", *([] if num_fewshot else ["texts"])]
    found = require_equal(hf, ours, tasks, manager, num_fewshot=num_fewshot)
    results, samples = found["results"], found["samples"]
    assert 0 < results["choices"]["acc,none"] < 1
    sizes = [len(ours.tok_encode(sample["arguments"][0][0])) for sample in samples["choices"]]
    assert max(sizes) > CONTEXT > min(sizes)
    answers = [
        ours.tok_encode(sample["resps"][0][0], add_special_tokens=False) for sample in samples["answers"]
    ]
    assert min(map(len, answers)) < NEW_TOKENS - 2 <= max(map(len, answers))
    if num_fewshot == 0:
        assert 0 < results["answers"]["exact_match,none"] < 1 and 0 < results["nexts"]["acc,none"] < 1
        assert (
            max(len(ours.tok_encode(sample["arguments"][0][0])) for sample in samples["texts"]) > 3 * CONTEXT
        )


def test_conversations_are_those_of_the_hf_model(
    models_and_tasks: tuple[HFLM, HarnessModel, TaskManager],
) -> None:
    hf, ours, manager = models_and_tasks
    how = {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."}
    found = require_equal(hf, ours, ["choices", "answers", "continued"], manager, num_fewshot=1, **how)
    prompt = found["samples"]["continued"][0]["arguments"][0][0]
    assert prompt.startswith("<s><|im_start|>system\nBe brief.<|im_end|>") and prompt.endswith(
        "The answer is"
    )
    assert ours.tok_encode(prompt) == hf.tok_encode(prompt)  # one <s>, special tokens as such
    assert ours.chat_template(True) == hf.chat_template(True) == TEMPLATE and ours.chat_template() is None


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("{{ m.content }}", "{{ m.content | trim }}"),
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE,
    ],
)
def test_templates_that_trim_or_refuse_a_system_message(
    models_and_tasks: tuple[HFLM, HarnessModel, TaskManager], template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, ours, _ = models_and_tasks
    tokenizer = Tokenizer.load(Path(str(hf.pretrained)))
    tokenizer.config["chat_template"] = template
    monkeypatch.setattr(hf.tokenizer, "chat_template", template)
    changed = HarnessModel(LanguageModel(ours.lm.module, tokenizer))
    messages = [("system", "Be brief."), ("user", f"What is {END}?"), ("assistant", "It is ")]
    chat = [{"role": role, "content": content} for role, content in messages]
    for prompts, some in ((True, chat[:2]), (False, chat)):
        text = changed.apply_chat_template(some, add_generation_prompt=prompts)
        assert text == hf.apply_chat_template(some, add_generation_prompt=prompts)
        assert changed.tok_encode(text) == hf.tok_encode(text)
    assert changed.tokenizer_name != ours.tokenizer_name
    with pytest.raises(UsageError, match="does not write the last message"):
        monkeypatch.setitem(
            tokenizer.config, "chat_template", "{% for m in messages %}{{ m.role }}{% endfor %}"
        )
        HarnessModel(LanguageModel(ours.lm.module, tokenizer)).apply_chat_template(chat, False)


def requests_of(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]


def test_an_empty_context_and_edges_of_texts(
    models_and_tasks: tuple[HFLM, HarnessModel, TaskManager],
) -> None:
    hf, ours, _ = models_and_tasks
    pairs = [("", "river"), ("", "<s>river"), ("green  ", "stone"), ("<s>green", " stone"), ("a</s>b", END)]
    for kind, arguments in (
        ("loglikelihood", pairs),
        ("loglikelihood_rolling", [(p[1] * 40,) for p in pairs]),
    ):
        theirs = getattr(hf, kind)(requests_of(kind, *arguments), disable_tqdm=True)
        found = getattr(ours, kind)(requests_of(kind, *arguments), disable_tqdm=True)
        require_same(found, theirs)
    empty = requests_of("loglikelihood_rolling", ("",))
    require_same(ours.loglikelihood_rolling(empty), hf.loglikelihood_rolling(empty))


@pytest.fixture(scope="module")
def ours(models_and_tasks: tuple[HFLM, HarnessModel, TaskManager]) -> HarnessModel:
    return models_and_tasks[1]


def test_settings_of_an_answer(models_and_tasks: tuple[HFLM, HarnessModel, TaskManager]) -> None:
    """Those that both have give the same answers; a sampled one depends on the seed and the repetition."""
    hf, ours, _ = models_and_tasks
    for more in ({"repetition_penalty": 1.3}, {"until": "e", "max_tokens": 9}, {"num_beams": 3}):
        asked = requests_of("generate_until", *[(text, {"max_gen_toks": 7} | more) for text in WORDS[:4]])
        assert ours.generate_until(asked, disable_tqdm=True) == hf.generate_until(asked, disable_tqdm=True)
    sampled = {"temperature": 5.0, "top_p": 0.9, "max_gen_toks": 9}
    asked = requests_of("generate_until", *[("green", sampled)] * 3)
    other = HarnessModel(ours.lm)
    first = ours.generate_until(asked)
    assert len(set(first)) == 3 and other.generate_until(asked) == first
    assert HarnessModel(ours.lm, seed=7).generate_until(asked) != first


def test_long_contexts_are_blocks_of_their_own() -> None:
    short, long, other = [1], [2] * LONG_CONTEXT, [3]
    pairs = [(context, [i]) for i, context in enumerate([short, short, long, long, other, other, other])]
    assert list(_blocks(pairs, 4)) == [pairs[:2], pairs[2:4], pairs[4:]]
    assert list(_blocks(pairs, 2)) == [pairs[:2], pairs[2:4], pairs[4:]]
    assert not list(_blocks([], 2))


def test_the_longest_input_of_a_model_without_limit(
    ours: HarnessModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = ours.lm.tokenizer
    assert tokenizer is not None
    for limit, expected in ((None, 2048), (int(1e30), 2048), (512, 512)):
        monkeypatch.setitem(tokenizer.config, "model_max_length", limit)
        assert _max_length(None, None, tokenizer) == expected and _max_length(None, 64, tokenizer) == 64
    assert HarnessModel(ours.lm, max_length=7).max_length == 7


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda lm: lm.generate_until(requests_of("", ("a", {"max_gen_tok": 3}))), "max_gen_tok"),
        (
            lambda lm: lm.generate_until(requests_of("", ("a", {"do_sample": True, "max_tokens": 9}))),
            "no temperature",
        ),
        (lambda lm: lm.generate_until(requests_of("", ("a", {"max_gen_toks": CONTEXT}))), "at most 127"),
        (lambda lm: lm.loglikelihood(requests_of("", ("a", "b" * 2 * CONTEXT))), "allowed are 1 to 128"),
        (lambda lm: lm.chat_template("tools"), "apply_chat_template='tools'"),
        (lambda lm: HarnessModel(lm.lm, batch_size=0), "batch_size=0"),
        (lambda lm: HarnessModel(lm.lm, max_length=CONTEXT + 1), "max_length=129"),
        (lambda lm: HarnessModel(seedbed.new(tiny("gpt2"))), "no tokenizer"),
        (lambda lm: HarnessModel(seedbed.new(tiny("t5"))), "encoder-decoder"),
        (lambda lm: HarnessModel(seedbed.new(tiny("bert"))), "encoder-only"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(
    ours: HarnessModel, wrong: Callable[[HarnessModel], object], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as error:
        wrong(ours)
    assert "\n" not in str(error.value)


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "seedbed.integrate.harness")
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(UsageError, match=r"pip install 'seedbed\[harness\]'"):
        importlib.import_module("seedbed.integrate.harness")
