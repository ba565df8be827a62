"""Text to token ids and back, over the `tokenizers` library."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, count, islice, takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders

from seedbed.base.arguments import brief
from seedbed.base.errors import BundleError, UsageError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.json_file import has_file, read_file, read_object
from seedbed.text.legacy_files import has_legacy_files, read_legacy_files
from seedbed.text.library import library_errors, read_text, refuse_long_entries
from seedbed.text.sentencepiece_exact import EXACT_KEY, Exact, exact_sentencepiece
from seedbed.text.sentencepiece_model import METASPACE
from seedbed.text.stream import ByteStream, TextStream, WindowStream

END_OF_TEXT = "<|endoftext|>"
# The end-of-document token and the mask in published files, for a file that names none.
PUBLISHED = {
    "eos_token": (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Where transformers stores a tokenizer's chat template, and further ones.
TEMPLATE_FILE, TEMPLATE_FOLDER = "chat_template.jinja", "additional_chat_templates"
# Characters per call of the library, which allocates about 100 bytes per token until the call ends.
BLOCK_CHARACTERS = 1 << 16
LONGEST_BLOCK = 1 << 18  # of one word or one run of white space, before it is cut
MAX_IDS = 1 << 24
# No token of our tokenizers crosses from a visible character to white space. A text is not split before a
# control character that is white space to Python: some normalizers remove it, which joins its neighbours.
SAFE_CUT = re.compile(r"(?<=\S)(?=[^\S\x0b\x0c\x1c-\x1f\x85])")
MARKED_CUT = re.compile(rf"(?<=[^{METASPACE}\s])(?={METASPACE})")  # where spaces are marks already


def blocks(
    text: str,
    *,
    block_characters: int = BLOCK_CHARACTERS,
    longest: int = LONGEST_BLOCK,
    cut: re.Pattern[str] = SAFE_CUT,
) -> Iterator[str]:
    """Split a long text where white space begins: the tokens of the blocks, joined, are those of the whole.

    This is exact for the kinds of `KINDS`; another tokenizer that marks beginnings has a mark per block. What
    has no such place in `longest` characters, such as a genome in one line, is cut after so many.
    """
    start = 0
    while len(text) - start > block_characters:
        found = cut.search(text, start + block_characters, start + longest)
        if found is None and len(text) - start <= longest:
            break
        end = found.start() if found else start + longest
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def byte_symbols() -> list[str]:
    """The printable character of each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (chr(256 + n) for n in range(256))
    return [chr(b) if b in printable else next(others) for b in range(256)]


def refuse_surrogates(texts: Iterable[str]) -> None:
    """Raise a UsageError for what is not a text, and for a character that UTF-8 cannot encode."""
    for text in texts:
        _require_text(text)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text has a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
                "which UTF-8 cannot encode; remove it, or read the text with errors='replace'"
            ) from error


def _require_text(text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{brief(text)} is not a text; give one")


class Tokenizer:
    """An immutable tokenizer: a user's text becomes ordinary tokens only, never special tokens.

    `config` is the content of tokenizer_config.json: the special tokens by role, and perhaps a
    `chat_template`, one text or a list of `{"name": .., "template": ..}`.
    """

    def __init__(self, core: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
        self._exact: Exact | None = None
        if EXACT_KEY in config:
            with library_errors("the tokenizer"):
                self._exact = exact_sentencepiece(core, config[EXACT_KEY])
            core = self._exact.core
        core.encode_special_tokens = True  # names of special tokens in a user's text stay text
        core.no_padding()
        core.no_truncation()
        self._core, self.config = core, config
        self.vocab_size = 1 + max(core.get_vocab(with_added_tokens=True).values(), default=-1)
        if self.vocab_size > MAX_IDS:  # the library counts to it when it writes
            raise BundleError(f"the tokenizer has the id {self.vocab_size - 1}, allowed are {MAX_IDS} ids")
        self.kind = str(config.get("seedbed_kind") or type(core.model).__name__.lower())
        self.eos_id, self.mask_id, self.bos_id, self.pad_id, self.unk_id, self.cls_id, self.sep_id = (
            self._special_id(f"{role}_token") for role in ("eos", "mask", "bos", "pad", "unk", "cls", "sep")
        )
        self.special_ids = frozenset(i for i, t in core.get_added_tokens_decoder().items() if t.special)

    def _special_id(self, role: str) -> int | None:
        name = self.special_name(role)
        names = PUBLISHED.get(role, ()) if name is None else (name,)
        return next((i for name in names if (i := self._core.token_to_id(name)) is not None), None)

    def special_name(self, role: str) -> str | None:
        """The text of the token that tokenizer_config.json has in a role such as `eos_token`."""
        token = self.config.get(role)
        return str(token["content"] if isinstance(token, dict) else token) if token else None

    @cached_property
    def sentinel_ids(self) -> tuple[int, ...]:
        """The ids of T5's sentinels <extra_id_0>, <extra_id_1> and so on, up to the first that is missing."""
        ids = (self._core.token_to_id(f"<extra_id_{i}>") for i in count())
        return tuple(i for i in takewhile(lambda i: i is not None, ids) if i in self.special_ids)

    @cached_property
    def begins_word(self) -> NDArray[np.bool_]:
        """Which tokens begin a word (vocab_size,), for masks over whole words; special tokens always do.

        WordPiece: all without its mark of a continuation. Bytes: those whose first byte is ASCII and neither
        letter nor digit (a space, for example). SentencePiece: those that begin with its mark of a space.
        """
        begins = np.ones(self.vocab_size, dtype=np.bool_)
        inside = str(getattr(self._core.model, "continuing_subword_prefix", None) or "")
        for name, i in self._core.get_vocab(with_added_tokens=False).items():
            if i in self.special_ids:
                continue
            if (raw := self.token_bytes(i)) is not None:
                first = raw[:1].decode("latin-1")
                begins[i] = first.isascii() and not first.isalnum()
            elif inside:
                begins[i] = not name.startswith(inside)
            else:
                begins[i] = name.startswith(METASPACE)
        return begins

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the ids of a text."""
        own = json.dumps(self.config[EXACT_KEY]) if self._exact else ""
        return hashlib.sha256((self._definition() + own).encode()).hexdigest()

    @property
    def added_tokens(self) -> dict[int, AddedToken]:
        """The tokens that are matched before a text is split, special tokens among them, by id."""
        return dict(self._core.get_added_tokens_decoder())

    @property
    def vocabulary(self) -> dict[str, int]:
        """The ids of all tokens by name, added ones included."""
        return dict(self._core.get_vocab(with_added_tokens=True))

    def definition(self) -> dict[str, Any]:
        """The content of tokenizer.json."""
        return dict(json.loads(self._definition()))

    def _definition(self, *, pretty: bool = False) -> str:
        if self._exact is None:
            return str(self._core.to_str(pretty))
        tree = json.loads(self._core.to_str()) | {"normalizer": self._exact.published}
        return json.dumps(tree, ensure_ascii=False, indent=2 if pretty else None)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_document(self, text: str) -> list[int]:
        """The ids of a text with the special tokens that the file puts around it, such as [CLS] and [SEP]."""
        return self.encode_spans(text)[0]

    @cached_property
    def around_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that the file puts before a text (<s> for LLaMA), and those after it."""
        ordinary = (self.decode([i]) for i in range(self.vocab_size) if i not in self.special_ids)
        text = next((text for text in ordinary if text and self.encode(text)), "")
        with library_errors("the tokenizer"):
            found = self._core.encode(text, add_special_tokens=True)
        marked = list(zip(found.ids, found.special_tokens_mask, strict=True)) if text else []
        before, behind = (takewhile(itemgetter(1), side) for side in (marked, marked[::-1]))
        return tuple(i for i, _ in before), tuple(i for i, _ in behind)[::-1]

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """As `encode_document`, and each token's characters, start and end; (0, 0) for those around it."""
        refuse_surrogates([text])
        if self._exact:
            return self._encode_exact(text, self._exact)
        with library_errors("the tokenizer"):
            encoding = self._core.encode(text, add_special_tokens=True)
        return list(encoding.ids), list(encoding.offsets)

    def _encode_exact(self, text: str, exact: Exact) -> tuple[list[int], list[tuple[int, int]]]:
        normalized, origin = exact.normalizer.aligned(text)
        if exact.paths and exact.paths.has_ties(normalized):
            ids, spans = exact.paths.encode(normalized)
            before, behind = self.around_ids
            ids = [*before, *ids, *behind]
            spans = [*((0, 0) for _ in before), *spans, *((0, 0) for _ in behind)]
        else:
            with library_errors("the tokenizer"):
                encoding = self._core.encode(normalized, add_special_tokens=True)
            ids, spans = list(encoding.ids), list(encoding.offsets)
        return ids, [(origin[a][0], origin[b - 1][1]) if b > a else (0, 0) for a, b in spans]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as `encode` gives them, on all cores."""
        if self._exact:
            refuse_surrogates(texts)
            texts = [self._exact.normalizer(text) for text in texts]
            paths = self._exact.paths
            tied = {
                i: paths.encode(text)[0] for i, text in enumerate(texts) if paths and paths.has_ties(text)
            }
            split = [[] if i in tied else list(blocks(t, cut=MARKED_CUT)) for i, t in enumerate(texts)]
        else:
            for text in texts:
                _require_text(text)
            tied, split = {}, [list(blocks(text)) for text in texts]
        found = iter(self._encode([block for text in split for block in text]))
        rows = [list(chain.from_iterable(islice(found, len(text)))) for text in split]
        return [tied.get(i, row) for i, row in enumerate(rows)]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        try:
            with library_errors("the tokenizer"):
                return [e.ids for e in self._core.encode_batch_fast(texts, add_special_tokens=False)]
        except BundleError:
            refuse_surrogates(texts)
            raise

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        with library_errors("the tokenizer"):
            return str(self._core.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self) -> TextStream:
        """A decoder of one id at a time, for streamed output."""
        if self._bytes is not None:
            return ByteStream(self.token_bytes)
        return WindowStream(self.decode)

    def token(self, token_id: int) -> str:
        """One token for display: its text, `<0xE2>` for incomplete bytes, the name of a special token."""
        if (raw := self.token_bytes(token_id)) is not None:
            try:
                return raw.decode()
            except UnicodeDecodeError:
                return "".join(f"<0x{byte:02X}>" for byte in raw)
        name = self._core.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None
        if name is None:
            raise UsageError(f"no token has the id {token_id}; this vocabulary has {self.vocab_size} tokens")
        return str(name)

    def token_bytes(self, token_id: int) -> bytes | None:
        """The bytes of a token; None for a special token or without a byte-level vocabulary."""
        return self._bytes.get(token_id) if self._bytes is not None else None

    @cached_property
    def _bytes(self) -> dict[int, bytes] | None:
        if not isinstance(self._core.decoder, decoders.ByteLevel):
            return None
        byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
        added = self._core.get_added_tokens_decoder()
        table = {
            # A token that byte symbols cannot spell is its own text, as the library decodes it.
            i: bytes(byte_of[symbol] for symbol in name) if byte_of.keys() >= {*name} else name.encode()
            for name, i in self._core.get_vocab(with_added_tokens=False).items()
            if i not in added
        }
        return table | {i: t.content.encode() for i, t in added.items() if not t.special}

    def save(self, folder: Path | str) -> None:
        """Write tokenizer_config.json, then tokenizer.json, as `transformers.AutoTokenizer` loads them.

        A chat template has a file of its own; tokenizer.json is last, so a folder with it is complete.
        Errors: HardwareError where the folder cannot be written.
        """
        folder = Path(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        values = dict(self.config)
        if isinstance(values.get("chat_template"), str):
            write_file(folder / TEMPLATE_FILE, values.pop("chat_template").encode())
        config = json.dumps(values, indent=2, ensure_ascii=False)
        write_file(folder / "tokenizer_config.json", f"{config}\n".encode())
        write_file(folder / "tokenizer.json", self._definition(pretty=True).encode())

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a folder with tokenizer.json or legacy files, or a tokenizer.json and the files beside it."""
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if file.suffix == ".model" and has_file(file):
            core, config = read_legacy_files(file.parent, file.name)
            return cls(core, config | _template_files(file.parent))
        if not has_file(file):
            if has_legacy_files(path):
                core, config = read_legacy_files(path)
                return cls(core, config | _template_files(path))
            shown = file if str(file).isprintable() else brief(str(file))
            raise BundleError(f"{shown} does not exist; a tokenizer is a tokenizer.json or a folder with one")
        config_file = file.parent / "tokenizer_config.json"
        content = read_file(file)
        with library_errors(file):
            refuse_long_entries(content)
            core = tokenizers.Tokenizer.from_str(content.decode())
            config = read_object(config_file) if has_file(config_file) else {}
            return cls(core, config | _template_files(file.parent))

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder has the files of a tokenizer."""
        return has_file(folder / "tokenizer.json") or has_legacy_files(folder)


def _template_files(folder: Path) -> dict[str, Any]:
    """The chat templates in a tokenizer's folder, which replace those of its config."""
    others = sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))
    files = [(folder / TEMPLATE_FILE, "default"), *((file, file.stem) for file in others)]
    named = [{"name": name, "template": read_text(file)} for file, name in files if has_file(file)]
    if not named:
        return {}
    alone = len(named) == 1 and named[0]["name"] == "default"
    return {"chat_template": named[0]["template"] if alone else named}
