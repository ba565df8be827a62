"""One answer while it is generated."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.generation.repetition import History
from seedbed.generation.request import Completion, FinishReason, Request, TokenLogprob
from seedbed.generation.sampling import Limits, position_key, request_key
from seedbed.text.stream import TextStream


class TextOutput:
    """Turns token ids into text that is final: what may be the beginning of a stop text is held back.

    The text ends before the stop text that is complete first; token boundaries have no effect.
    """

    def __init__(self, stream: TextStream, stop: Sequence[str] = ()) -> None:
        self._stream, self._stop = stream, tuple(stop)
        self._max_held = max(map(len, self._stop), default=1) - 1
        self._held = ""
        self._num_taken = 0
        self.text = ""
        self.is_stopped = False

    def push(self, token_id: int) -> None:
        """Add a token."""
        self._add(self._stream.push(token_id))

    def finish(self) -> None:
        """Add what was held back: no token follows."""
        self._add(self._stream.flush())
        self.text, self._held = self.text + self._held, ""

    def take(self) -> str:
        """The text that became final since the last call."""
        taken = self.text[self._num_taken :]
        self._num_taken = len(self.text)
        return taken

    def _add(self, added: str) -> None:
        if self.is_stopped or not added:
            return
        held = self._held + added
        found = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            self.text, self._held = self.text + held[: min(found)[1]], ""
            return
        sizes = range(min(len(held), self._max_held), 0, -1)
        num_held = next((n for n in sizes if any(stop.startswith(held[-n:]) for stop in self._stop)), 0)
        self.text += held[: len(held) - num_held]
        self._held = held[len(held) - num_held :]


class Answer:
    """An answer to a request as it grows, the `sample_index`-th of several; the engine pushes its tokens."""

    def __init__(
        self,
        request: Request,
        *,
        seed: int,
        sample_index: int,
        limits: Limits,
        history: History | None,
        stream: TextStream | None,
    ) -> None:
        settings = request.settings
        self.request, self.sampling, self.num_logprobs = request, settings.sampling, settings.logprobs
        self.sample_index, self.history = sample_index, history
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: FinishReason | None = None
        self._key = request_key(seed, (*request.source_ids, *request.prompt_ids), sample_index)
        self._limits, self._eos_ids = limits, limits.eos_ids
        self._output = None if stream is None else TextOutput(stream, settings.stop)
        self._reads_each_token = bool(settings.stop)
        self._num_read = 0  # tokens whose text is in the output

    @property
    def is_finished(self) -> bool:
        """No more tokens will come."""
        return self.finish_reason is not None

    @property
    def sample_key(self) -> int:
        """The key that the next token is sampled with."""
        return position_key(self._key, len(self.token_ids))

    @property
    def forced_ids(self) -> tuple[int, ...]:
        """The only tokens that may come next; () for any."""
        return self._limits.forced_at(len(self.token_ids))

    def push(self, token_id: int, logprob: TokenLogprob | None = None) -> None:
        """Add a sampled token, and finish the answer if it is the last."""
        self.token_ids.append(token_id)
        if self.history is not None:
            self.history.push(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        if token_id in self._eos_ids or (self._reads_each_token and self._read().is_stopped):
            self.finish_reason = "stop"
        elif len(self.token_ids) >= self._limits.max_tokens or (self.history and self.history.is_exhausted):
            self.finish_reason = "length"

    def end(self, reason: FinishReason) -> None:
        """End the answer where it is, unless it has ended."""
        if self.finish_reason is None:
            self.finish_reason = reason

    def take_text(self) -> str:
        """The text that became final since the last call: whole characters, no part of a stop text."""
        return self._read().take()

    def completion(self) -> Completion:
        """The result of a finished answer."""
        assert self.finish_reason is not None
        text = None if self._output is None else self._read().text
        return Completion(
            text, self.token_ids, self.finish_reason, self.logprobs if self.num_logprobs else None
        )

    def _read(self) -> TextOutput:
        """Decode the tokens since the last call, without an end token."""
        assert self._output is not None
        for token_id in self.token_ids[self._num_read :]:
            if token_id not in self._eos_ids:
                self._output.push(token_id)
        self._num_read = len(self.token_ids)
        if self.is_finished:
            self._output.finish()
        return self._output
