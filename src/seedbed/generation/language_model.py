"""A network with its tokenizer: the object that `load` and `new` return."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Unpack, cast, overload

from seedbed.base.arguments import bool_of, path_of, text_of
from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.base.units import count_text
from seedbed.generation.answer import Answer
from seedbed.generation.engine import Engine
from seedbed.generation.filling import MAX_CANDIDATES, Filled, require_count
from seedbed.generation.inputs import Prompt, is_single, require_text_or_list, several_of
from seedbed.generation.own import completed
from seedbed.generation.reading import Reading
from seedbed.generation.request import Completion, check_ids, require_continuing
from seedbed.generation.rows import evaluating
from seedbed.generation.settings import AnswerOptions, GenerationOptions, GenerationSettings
from seedbed.generation.shared import shared_ids
from seedbed.hub.adapter import Adapter, merge_adapter, save_adapter
from seedbed.hub.bundle import save_bundle
from seedbed.models.network import parameter_count
from seedbed.text.chat_template import ChatTemplate, Message

__all__ = ["Completion", "LanguageModel", "Stream"]


class LanguageModel(Reading):
    """A language model of any shape, for text or token ids.

    `generation` is the content of a bundle's `generation_config.json`: its `eos_token_id` (one or several)
    ends answers, else the tokenizer's; an encoder-decoder's answer begins after `decoder_start_token_id`,
    else `bos_token_id`; `forced_bos_token_id` and `forced_eos_token_id` come first and last. Its settings of
    sampling or search are those of an answer whose own are None (generation/own.py). Without a tokenizer
    token ids work, and what needs text raises a UsageError. `adapter` says what was loaded beside the
    weights, if anything.
    """

    adapter: Adapter | None = None

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts: the first one is meant
        self, prompts: Prompt, max_new_tokens: int = 64, **how: Unpack[AnswerOptions]
    ) -> Completion: ...
    @overload
    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int = 64, **how: Unpack[AnswerOptions]
    ) -> list[Completion]: ...
    @overload
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        max_new_tokens: int = 64,
        *,
        num_samples: int,
        **how: Unpack[AnswerOptions],
    ) -> Completion | list[Completion] | list[list[Completion]]: ...
    def generate(
        self, prompts: Prompt | Sequence[Prompt], max_new_tokens: int = 64, **how: Unpack[GenerationOptions]
    ) -> Completion | list[Completion] | list[list[Completion]]:
        """Answer each prompt, text or token ids: a Completion each, or a list of `num_samples` (> 1) each.

        A single prompt gives one result, not a list of one. `how` are the fields of GenerationSettings;
        another name is refused with the nearest one; None is the model's own setting. Where the model has
        none, it is temperature 0.7 and, if no setting of sampling is given, top-p 0.9. Temperature 0 is
        greedy; `num_beams` > 1 searches, and its samples are the best answers found. `eos_ids` () never ends
        before max_new_tokens. The same prompt and seed give the same answer beside any other prompts.
        `<extra_id_0>` and `<mask>` in a prompt are text: a prompt with blanks is
        `blank_ids("Thank you ___ me")`.
        """
        settings = self.completed(GenerationSettings.of(max_new_tokens, how))
        requests = [self._request(prompt, settings) for prompt in several_of(prompts)]
        engine = self.engine(prefix_ids=shared_ids(requests))
        submitted = [engine.submit(request) for request in requests]
        while engine.is_busy:
            engine.step()
        completions = [[answer.completion() for answer in answers] for answers in submitted]
        if settings.num_samples > 1:
            return completions[0] if is_single(prompts) else completions
        results = [samples[0] for samples in completions]
        return results[0] if is_single(prompts) else results

    @overload
    def chat(
        self, messages: Sequence[Message], max_new_tokens: int = 256, **how: Unpack[AnswerOptions]
    ) -> Completion: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        *,
        num_samples: int,
        **how: Unpack[AnswerOptions],
    ) -> Completion | list[Completion]: ...
    def chat(
        self, messages: Sequence[Message], max_new_tokens: int = 256, **how: Unpack[GenerationOptions]
    ) -> Completion | list[Completion]:
        """Answer messages with the model's own template: a Completion, or a list of `num_samples` (> 1).

        Messages are those of OpenAI's API, `[{"role": "user", "content": "a question"}]`. The settings are
        those of `generate`; for a streamed answer give `chat_ids(messages)` to `stream`. Errors: UsageError
        for a model without a template.
        """
        found = self.generate(self.chat_ids(messages), max_new_tokens, **how)
        return cast("Completion | list[Completion]", found)  # of one prompt

    @overload
    def stream(self, prompt: Prompt, max_new_tokens: int = 64, **how: Unpack[AnswerOptions]) -> Stream: ...
    @overload
    def stream(
        self, prompt: Prompt, max_new_tokens: int = 64, *, num_samples: int, **how: Unpack[AnswerOptions]
    ) -> Stream | list[Stream]: ...
    def stream(
        self, prompt: Prompt, max_new_tokens: int = 64, **how: Unpack[GenerationOptions]
    ) -> Stream | list[Stream]:
        """Answer one prompt in chunks of text, which joined are the text that `generate` gives.

        A chunk never splits a character and has no part of a stop text. The settings are those of `generate`:
        a search has its text at its end; `num_samples` (> 1) are a list of streams, which advance together.
        Errors: UsageError for a model without a tokenizer.
        """
        self._need_tokenizer("streaming text")
        settings = self.completed(GenerationSettings.of(max_new_tokens, how))
        engine = self.engine()
        streams = [Stream(engine, answer) for answer in engine.submit(self._request(prompt, settings))]
        return streams if settings.num_samples > 1 else streams[0]

    def completed(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings with the model's own where they have None."""
        return completed(settings, self.generation)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of messages in the model's own template, up to its answer."""
        return self.chat_template.encode(messages)

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer's files have a template for chats."""
        return self.tokenizer is not None and ChatTemplate.of(self.tokenizer) is not None

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The model's own template; a UsageError if it has none."""
        require_continuing(self.config)
        template = ChatTemplate.of(self._need_tokenizer("a chat"))
        if template is None:
            raise UsageError(
                "this model has no chat template, so it cannot chat; `generate` completes text, or put the "
                "template of its training into chat_template.jinja beside tokenizer.json"
            )
        return template

    def engine(self, *, prefix_ids: Sequence[int] = (), **limits: int) -> Engine:
        """An engine over this model, for requests that join and leave.

        `prefix_ids` are tokens that prompts begin with, which are read once; `limits` are those of Rows.
        """
        return Engine(
            self.module,
            self.tokenizer,
            eos_ids=self.eos_ids,
            forced_bos_ids=self._named("forced_bos_token_id")[:1],
            forced_eos_ids=self._named("forced_eos_token_id"),
            prefix_ids=prefix_ids,
            **limits,
        )

    @overload
    def fill(  # type: ignore[overload-overlap]
        self, texts: str, num_candidates: int = 5, *, max_new_tokens: int | None = None
    ) -> Filled: ...
    @overload
    def fill(
        self, texts: Sequence[str], num_candidates: int = 5, *, max_new_tokens: int | None = None
    ) -> list[Filled]: ...
    def fill(
        self, texts: str | Sequence[str], num_candidates: int = 5, *, max_new_tokens: int | None = None
    ) -> Filled | list[Filled]:
        """Fill the blanks of a text, each `___` or the model's own mask or sentinel: a Filled for each text.

        A single text gives one result, not a list of one. A masked model puts one token into each blank, as
        if the others stayed blank; other models up to `max_new_tokens` (16), given the best candidates in the
        blanks before. Probabilities are those of MaskFiller and GapFiller. Errors: UsageError for a text
        without a blank or longer than the context, and for a model that fills none.
        """
        filler = self._filler
        require_count("num_candidates", num_candidates, most=MAX_CANDIDATES)
        require_text_or_list(texts)
        blanked = [filler.encoder.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        for text in blanked:
            check_ids(text.ids, self.config, num_read=len(text.ids), name="text")
        with evaluating(self.module):
            filled = filler.fill(blanked, num_candidates=num_candidates, max_new_tokens=max_new_tokens)
        return filled[0] if isinstance(texts, str) else filled

    def _facts(self) -> dict[str, str]:
        config, head = self.config, self.config.head
        facts = {"family": config.family, "shape": config.shape}
        if head.kind != "lm":
            facts["head"] = head.kind + (f" ({', '.join(head.labels[:8])})" if head.labels else "")
        facts["parameters"] = count_text(sum(parameter.numel() for parameter in self.module.parameters()))
        if self.adapter is not None:
            facts["adapter"] = self._adapter_text(self.adapter)
        facts["context"] = (
            "any length" if config.max_positions is None else f"{config.max_positions:,} tokens"
        )
        facts["tokenizer"] = "none" if self.tokenizer is None else f"{self.tokenizer.vocab_size:,} tokens"
        return facts | {"weights": f"{str(self.module.dtype).removeprefix('torch.')} on {self.device}"}

    def _adapter_text(self, adapter: Adapter) -> str:
        settings = adapter.settings
        rank = f", rank {settings.rank}" if hasattr(settings, "rank") else ""
        count = sum(p.numel() for p in self.module.parameters()) - parameter_count(self.config)
        return f"{settings.method}{rank}, {count:,} parameters"

    def merge(self) -> None:
        """Put the adapter into the weights: the model answers as before, and is saved as a bundle.

        Errors: UsageError for a model without an adapter.
        """
        if self.adapter is None:
            raise UsageError(
                "this model has no adapter to merge; load one: seedbed.load(MODEL, adapter=FOLDER)"
            )
        merge_adapter(self.module, self.adapter.settings)
        self.adapter = None

    def save(self, path: Path | str, *, card: str = "", force: bool = False) -> None:
        """Write a bundle, a folder in Hugging Face layout; load it again and compare the logits.

        Of a model with an adapter this is the adapter's folder alone, in the layout of the `peft` library.
        A folder that has the same weights, in any dtype, is replaced, with `force` also another model's.
        """
        path, card, force = path_of("path", path), text_of("card", card), bool_of("force", force)
        if self.adapter is not None:
            save_adapter(
                path,
                self.module,
                self.adapter.settings,
                base=self.adapter.parent,
                tokenizer=self.tokenizer,
                generation=self.generation,
                card=card,
                force=force,
            )
            return
        vectors = self.vectors
        if vectors is not None and vectors.problem is not None:
            lost = f"{vectors.problem}, which the bundle does not keep; take it from the model's own folder"
            warnings.warn(lost, SeedbedWarning, stacklevel=2)
            vectors = None
        save_bundle(
            path,
            self.module,
            self.tokenizer,
            card=card,
            generation=self.generation,
            vectors=vectors,
            force=force,
        )


class Stream(Iterator[str]):
    """The text of an answer in chunks; `completion` is the whole answer, None until it ends."""

    def __init__(self, engine: Engine, answer: Answer) -> None:
        self._engine, self._answer = engine, answer

    def __next__(self) -> str:
        while not (chunk := self._answer.take_text()):
            if self._answer.is_finished:
                raise StopIteration
            self._engine.step()
        return chunk

    @property
    def completion(self) -> Completion | None:
        """The whole answer, and why it ended."""
        return self._answer.completion() if self._answer.is_finished else None
