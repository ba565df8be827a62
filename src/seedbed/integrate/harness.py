"""EleutherAI's evaluation harness over our models: its tasks run through `lm_eval.simple_evaluate`.

The rules are those of the harness's own `hf` model (github.com/EleutherAI/lm-evaluation-harness)
with its default arguments, so that scores can be compared with published ones.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tqdm import tqdm

from seedbed.base.arguments import brief, whole_of
from seedbed.base.errors import UsageError, nearest
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.generation.request import Completion, require_continuing
from seedbed.generation.settings import GenerationSettings
from seedbed.text.chat_template import Message
from seedbed.text.library import library_errors
from seedbed.text.tokenizer import Tokenizer

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import (
        DEFAULT_MAX_LENGTH,
        handle_stop_sequences,
        normalize_gen_kwargs,
        postprocess_generated_text,
    )
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise UsageError(
        "EleutherAI's harness (lm_eval) is not installed: install the extra `harness`: pip install "
        "'seedbed[harness]'"
    ) from error

NEW_TOKENS = 256  # of an answer whose task names no maximum, as the `hf` model has it
# A context of so many tokens is read once for all of its continuations: five examples and four choices took
# 4.5 s instead of 11.6 s (8 layers of 384, one thread of a CPU, 2026-11-28). Shorter ones are read together.
LONG_CONTEXT = 64
UNLIMITED = 1 << 30  # a tokenizer's model_max_length from here on means that it has none
# The arguments of a task's generation that are settings of ours.
SETTINGS = {each.name for each in fields(GenerationSettings)} - {
    "max_new_tokens",
    "stop",
    "eos_ids",
    "num_samples",
    "logprobs",
}
CUT_MARK = "\ue0f7\ue0f8 "  # private characters behind a message that the model continues

# What the harness caches an answer by, the context's tokens, and those of its continuation.
Encoded = tuple[tuple[str, str] | None, list[int], list[int]]


class Prompt(NamedTuple):
    """A task's prompt with the settings of its answer."""

    ids: list[int]
    max_new_tokens: int
    until: tuple[str, ...]  # the answer is cut before each of them
    settings: dict[str, Any]

    @property
    def group(self) -> str:
        """The same text for prompts whose settings are the same."""
        return json.dumps([self.max_new_tokens, self.until, self.settings], sort_keys=True, default=str)


class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A decoder for `lm_eval.simple_evaluate(model=HarnessModel(MODEL), tasks=[..])`.

    `model` is what `seedbed.load` takes, or a loaded model. `batch_size` is the number of requests that are
    submitted together; `max_length` the number of tokens that the model reads at most, by default the context
    of the model, else the tokenizer's limit, else 2,048. Longer inputs lose their first tokens, and rolling
    log-likelihoods are taken in windows of this size.

    Names of special tokens in a task's text become special tokens, because the harness passes conversations
    as rendered text. Sampled answers depend on `seed`, the prompt, and how often it was asked before.
    Errors: UsageError for an encoder, an encoder-decoder, a network with labels or one without a tokenizer.
    """

    def __init__(
        self,
        model: str | Path | LanguageModel,
        *,
        batch_size: int = 64,
        max_length: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.lm = model if isinstance(model, LanguageModel) else load(model)
        self.batch_size = whole_of("batch_size", batch_size, least=1)
        self.seed = whole_of("seed", seed)
        config = self.lm.config
        require_continuing(config)
        if config.shape == "encoder-decoder":
            raise UsageError("the harness runs decoders here, and this is an encoder-decoder; take a decoder")
        if self.lm.tokenizer is None:
            raise UsageError("the harness gives texts, and this model has no tokenizer; load one with it")
        self._tokens = self.lm.tokenizer
        self._core = _with_special_names(self._tokens)
        special = self._tokens.special_ids
        self._special = {name: i for name, i in self._tokens.vocabulary.items() if i in special}
        self.max_length = _max_length(max_length, config.max_positions, self._tokens)
        self._num_asked: Counter[str] = Counter()

    # ---- tokens

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends documents."""
        return self._tokens.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context: the one that begins documents, else that ends them."""
        found = self._tokens.eos_id if self._tokens.bos_id is None else self._tokens.bos_id
        if found is None:
            raise UsageError(
                "the tokenizer names no token that begins or ends a document, which an empty context needs; "
                "put bos_token or eos_token into tokenizer_config.json"
            )
        return found

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_unused: Any) -> list[int]:
        """The ids of a text, by default with the special tokens that the tokenizer puts around it.

        A text that begins with the token for an empty context gets none.
        """
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self._decode([self.prefix_token_id], skips=False))
        with library_errors("the tokenizer"):
            return list(self._core.encode(string, add_special_tokens=add_special_tokens).ids)

    def _decode(self, ids: Sequence[int], *, skips: bool = True) -> str:
        with library_errors("the tokenizer"):
            return str(self._core.decode(list(ids), skip_special_tokens=skips))

    # ---- log-likelihoods

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_unused: Any
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether greedy decoding gives it."""
        pairs = [self._pair(context, continuation) for _, context, continuation in requests]
        found: list[tuple[float, bool]] = []
        with tqdm(total=len(pairs), disable=disable_tqdm, desc="log-likelihoods") as progress:
            for block in _blocks(pairs, self.batch_size):
                scores = self.lm.score_batch(block)
                for score, (key, _, _) in zip(scores, requests[len(found) :], strict=False):
                    found.append((score.logprob, score.is_greedy))
                    if key is not None:  # a window of a longer text has none
                        self.cache_hook.add_partial("loglikelihood", key, found[-1])
                progress.update(len(block))
        return found

    def _pair(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """The context, cut from the left, with its continuation, whose last token is not read."""
        if not 0 < len(continuation) <= self.max_length:
            raise UsageError(
                f"a continuation has {len(continuation)} tokens, allowed are 1 to {self.max_length}; change "
                "the task, or raise max_length"
            )
        return context[-(self.max_length + 1 - len(continuation)) :], continuation

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, in windows where it is longer than the context."""
        windows: list[list[Encoded]] = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            parts = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows.append([(None, *make_disjoint_window(part)) for part in parts])
        found = iter(self._loglikelihood_tokens([*chain(*windows)], disable_tqdm=disable_tqdm))
        sums = [sum(next(found)[0] for _ in parts) for parts in windows]
        for request, value in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return sums

    # ---- answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each prompt, cut before the first of the texts that end it."""
        prompts = [self._prompt(*request.args) for request in requests]
        found: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=lambda r: prompts[r].group)
        with tqdm(total=len(prompts), disable=disable_tqdm, desc="answers") as progress:
            for _, members in groupby(order, key=lambda r: prompts[r].group):
                same = list(members)
                for start in range(0, len(same), self.batch_size):
                    block = same[start : start + self.batch_size]
                    texts = self._answers([prompts[r] for r in block])
                    found |= dict(zip(block, texts, strict=True))
                    for r in block:
                        self.cache_hook.add_partial("generate_until", requests[r].args, found[r])
                    progress.update(len(block))
        return [found[r] for r in range(len(prompts))]

    def _prompt(self, context: str, arguments: Mapping[str, Any]) -> Prompt:
        """A prompt, cut from the left so that its answer is within the context."""
        options = dict(normalize_gen_kwargs(dict(arguments), NEW_TOKENS))
        num_new = whole_of("max_gen_toks", options.pop("max_gen_toks"), least=1)
        most = self.max_length - num_new
        if most < 1:
            raise UsageError(
                f"max_gen_toks={num_new} leaves no token for the prompt: the model reads {self.max_length}; "
                f"lower it to at most {self.max_length - 1}"
            )
        end = None if self.eot_token_id is None else self._decode([self.eot_token_id], skips=False)
        until = tuple(handle_stop_sequences(options.pop("until"), end))
        samples, temperature = options.pop("do_sample"), options.pop("temperature", 0.0)
        if samples and not temperature:
            raise UsageError("do_sample=True has no temperature; give one above 0, or leave do_sample out")
        if unknown := next((name for name in options if name not in SETTINGS), None):
            raise UsageError(
                f"a task's generation argument {unknown!r} is not supported; {nearest(unknown, SETTINGS)}"
            )
        if samples or (options.get("num_beams") or 1) == 1:
            options["temperature"] = temperature
        if samples and options.get("seed") is None:
            asked = json.dumps([context, dict(arguments)], sort_keys=True, default=str)
            options["seed"] = self.seed + self._num_asked[asked]
            self._num_asked[asked] += 1
        return Prompt(self.tok_encode(context)[-most:], num_new, until, options)

    def _answers(self, prompts: Sequence[Prompt]) -> list[str]:
        """The answers to prompts with the same settings."""
        _, num_new, until, settings = prompts[0]
        ends = {*self.lm.eos_ids, *(self._special[text] for text in until if text in self._special)}
        if (settings.get("num_beams") or 1) == 1:  # a search has its text at its end alone
            settings = settings | {"stop": [text for text in until if text and text not in self._special]}
        settings = settings | {"eos_ids": sorted(ends)}
        completions: list[Completion] = self.lm.generate([p.ids for p in prompts], num_new, **settings)
        return [
            str(postprocess_generated_text(self._decode(each.token_ids), list(until), None))
            for each in completions
        ]

    # ---- conversations

    def apply_chat_template(self, chat_history: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of a conversation in the model's own template, up to its answer.

        Without `add_generation_prompt` the model continues the last message, whose end is left out. A system
        message that the template refuses is left out too.
        """
        try:
            return self._conversation(chat_history, add_generation_prompt)
        except UsageError:
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
        return self._conversation(others, add_generation_prompt)

    def _conversation(self, messages: Sequence[Message], prompts: bool) -> str:
        template = self.lm.chat_template
        if prompts:
            return template.render(messages)
        *before, last = messages
        marked = {**last, "content": f"{last['content']}{CUT_MARK}"}
        text = template.render([*before, marked], add_generation_prompt=False)
        end = text.rfind(CUT_MARK.strip())
        if end < 0:
            raise UsageError(
                "the chat template does not write the last message as it is, so the model cannot continue "
                "it; leave gen_prefix out of the task"
            )
        return text[:end] if text.startswith(CUT_MARK, end) else text[:end].rstrip()

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The source of the model's template, for the harness's records; None where none is applied."""
        if chat_template not in (True, False, None, "", "default"):
            raise UsageError(
                f"apply_chat_template={brief(chat_template)} is not allowed: the model's default template is "
                "used; give True or False"
            )
        return self.lm.chat_template.source if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """A name of tokenizer and template, by which the harness caches requests."""
        template = json.dumps(self._tokens.config.get("chat_template"))
        digest = hashlib.sha256(f"{self._tokens.fingerprint}{template}".encode()).hexdigest()
        return f"seedbed-{digest[:16]}"

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        module = self.lm.module
        return {
            "model_family": self.lm.config.family,
            "model_num_parameters": sum(parameter.numel() for parameter in module.parameters()),
            "model_dtype": str(module.dtype),
            "max_length": self.max_length,
        }


def _with_special_names(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """A copy of the library's tokenizer that reads names of special tokens in a text as these tokens."""
    with library_errors("the tokenizer"):
        core = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.definition()))
    core.encode_special_tokens = False
    core.no_padding()
    core.no_truncation()
    return core


def _max_length(requested: int | None, max_positions: int | None, tokenizer: Tokenizer) -> int:
    if requested is not None:
        most = {} if max_positions is None else {"most": max_positions}
        return whole_of("max_length", requested, least=2, **most)
    limit = tokenizer.config.get("model_max_length")
    known = limit if isinstance(limit, int) and 1 < limit < UNLIMITED else DEFAULT_MAX_LENGTH
    return int(known if max_positions is None else max_positions)


def _blocks(
    pairs: Sequence[tuple[list[int], list[int]]], size: int
) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Split pairs in their order; those of a long context are a block, whose context is read once."""
    block: list[tuple[list[int], list[int]]] = []
    for context, same in groupby(pairs, key=lambda pair: pair[0]):
        members = list(same)
        if block and (len(context) >= LONG_CONTEXT or len(block) + len(members) > size):
            yield block
            block = []
        if len(context) >= LONG_CONTEXT or len(members) > size:
            yield members
        else:
            block += members
    if block:
        yield block
