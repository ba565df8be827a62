"""Bad input of every kind: one line that says what to do, exit 1 or 2, and no file lost."""

import fcntl
import gzip
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from seedbed.text.tokenizer import Tokenizer

TEXT = '{"text": "one"}\n'
CORPORA: dict[str, tuple[str, bytes, list[str]]] = {
    "empty": ("a.txt", b"", ["a.txt has no text", "at least one document"]),
    "blank": ("a.txt", b" \n\t\n", ["a.txt has no text"]),
    "not UTF-8": ("a.txt", b"caf\xe9", ["a.txt is not UTF-8", "offset 3", "save it as UTF-8"]),
    "binary": ("a.bin", bytes(range(256)), ["a.bin is binary, not text", "leave it out"]),
    "no JSON": ("a.jsonl", f'{TEXT}{{"text: two}}\n'.encode(), ["a.jsonl:2 is not JSON", "at column 2)"]),
    "no object": ("a.jsonl", b"[1]\n", ["a.jsonl:1: expected an object"]),
    "no field": ("a.jsonl", b'{"txt": "one"}\n', ["a.jsonl has records with the fields txt", "text_field"]),
    "no text": ("a.jsonl", b'{"text": 3}\n', ["a.jsonl:1: the field 'text' is int"]),
    "half a JSON file": ("a.json", b'[{"text":\n "on', ["a.json is not JSON", "line 2"]),
    "cut gzip": ("a.txt.gz", gzip.compress(b"text" * 99)[:-12], ["a.txt.gz cannot be read", "complete"]),
    "no gzip": ("a.txt.gz", b"text", ["a.txt.gz cannot be read: Not a gzipped file"]),
    "cut Parquet": ("a.parquet", b"PAR1", ["a.parquet is not a readable Parquet file"]),
}  # fmt: skip


def one_line(said: tuple[int, str, str], code: int, *parts: str) -> None:
    """A user's error is the last line on stderr, with the exit code; it contains these words.

    Lines before it say what was read until then.
    """
    assert said[0] == code, said
    errors = [line for line in said[2].splitlines() if line.startswith("seedbed: ")]
    assert said[1] == "" and said[2].splitlines()[-1:] == errors and "Traceback" not in said[2], said
    assert not [part for part in parts if part not in errors[0]], said[2]


@pytest.mark.parametrize("what", CORPORA)
@pytest.mark.parametrize("verb", ["pretrain", "tokenizer"])
def test_a_corpus(what: str, verb: str, seedbed: Callable, tmp_path: Path) -> None:
    name, content, parts = CORPORA[what]
    (tmp_path / name).write_bytes(content)
    one_line(seedbed(verb, tmp_path / name, "--out", tmp_path / "out"), 1, *parts)


def test_parquet_without_the_text_column(seedbed: Callable, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"content": ["a"]}), tmp_path / "a.parquet")
    said = seedbed("pretrain", tmp_path / "a.parquet", "--out", tmp_path / "out")
    one_line(said, 1, "a.parquet has records with the fields content; expected", "data.text_field")


def test_a_file_that_the_system_does_not_read(seedbed: Callable, tmp_path: Path) -> None:
    """Reading the first page of a process's memory fails for root too, who has every permission."""
    said = seedbed("tokenizer", "/proc/self/mem", "--out", tmp_path / "out")
    one_line(said, 1, "/proc/self/mem cannot be read: Input/output error", "you may read it")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--set", "training.lerning_rate=1"], 2, ["[training] (from --set)", "mean 'learning_rate'"]),
        (["--set", "lerning_rate=1"], 2, ["did you mean 'training.learning_rate'", "allowed: data, model"]),
        (["--steps", "2.5"], 2, ["--steps", "valid integer", "; see seedbed pretrain --help"]),
        (["--budget", "soon"], 2, ["'soon' is not a duration", "90s"]),
        (["--budget", "-5s"], 2, ["'-5s' is not a duration"]),
    ],
)  # fmt: skip
def test_settings(
    arguments: list[str], code: int, parts: list[str], seedbed: Callable, corpus: Path, tmp_path: Path
) -> None:
    one_line(seedbed("pretrain", corpus, "--out", tmp_path / "out", *arguments), code, *parts)
    assert not (tmp_path / "out").exists()


def test_an_unknown_verb(seedbed: Callable) -> None:
    one_line(seedbed("pretran"), 2, "'pretran'", "; did you mean 'pretrain'? see seedbed --help")


@pytest.fixture
def model(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a bundle, to be damaged."""
    return Path(shutil.copytree(tiny_run / "model", tmp_path / "model"))


def config(model: Path, **changes: object) -> None:
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values | changes))


def cut(model: Path, size: int) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:size])


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no weights": (lambda m: (m / "model.safetensors").unlink(), ["has no model.safetensors"]),
    "cut weights": (lambda m: cut(m, 5000), ["model.safetensors cannot be read", "truncated or damaged"]),
    "empty weights": (lambda m: cut(m, 0), ["model.safetensors cannot be read"]),
    "unknown family": (lambda m: config(m, model_type="gpt7"), ["model_type 'gpt7'", "did you mean 'gpt2'"]),
    "vocabulary too large": (lambda m: config(m, vocab_size=400), ["(300, 16)", "(400, 16)", "the config"]),
    "vocabulary too small": (lambda m: config(m, vocab_size=200), ["300 tokens", "200", "use the tokenizer"]),
    "no config": (lambda m: (m / "config.json").unlink(), ["has no config.json"]),
    "config no JSON": (lambda m: (m / "config.json").write_text("{"), ["config.json is not JSON"]),
    "tokenizer cut": (lambda m: (m / "tokenizer.json").write_text("{"), ["tokenizer.json cannot be used"]),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), ["no tokenizer.json", "put the tokenizer"]),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_model(what: str, seedbed: Callable, model: Path) -> None:
    damage, parts = DAMAGE[what]
    damage(model)
    one_line(seedbed("generate", model, "Note", "--max-new-tokens", 2), 1, *parts)


def test_a_folder_without_a_model(seedbed: Callable, tmp_path: Path) -> None:
    one_line(seedbed("generate", tmp_path, "Note"), 1, "has no config.json", "give a bundle")
    one_line(seedbed("generate", tmp_path / "absent", "Note"), 1, "there is no model at")
    (tmp_path / "settings.toml").touch()
    one_line(seedbed("generate", tmp_path, "Note"), 1, "has no model yet", "run its command again")


@pytest.mark.parametrize("verb", ["pretrain", "tokenizer", "demo"])
@pytest.mark.parametrize("below", [".", "inside"])
def test_out_is_a_file(verb: str, below: str, seedbed: Callable, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    data = [] if verb == "demo" else [corpus]
    small = {"demo": ["--budget", "20s"], "tokenizer": ["--vocab-size", 300], "pretrain": []}[verb]
    one_line(
        seedbed(verb, *data, "--out", tmp_path / "file" / below, *small), 1, "file is a file, not a folder"
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_another_process_trains(
    seedbed: Callable, pretrain_command: Callable, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        said = seedbed(*pretrain_command(tmp_path / "run"))
    one_line(said, 1, f"in use by process {os.getpid()}", "choose another folder")


@contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """Limit the size of every file, as a full disk does during a write, pytest's own log included."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_space_left_keeps_the_old_page(seedbed: Callable, tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_bytes()
    with full_disk(8000):
        said = seedbed("report", tiny_run)
    one_line(said, 1, "no space left to write", "report.html", "is intact", "raise the limit")
    assert (tiny_run / "report.html").read_bytes() == page
    assert not list(tiny_run.glob("*.partial"))


def test_no_space_left_keeps_the_old_tokenizer(seedbed: Callable, corpus: Path, tmp_path: Path) -> None:
    command = ["tokenizer", corpus, "--out", tmp_path / "made", "--vocab-size"]
    assert seedbed(*command, 300).code == 0
    with full_disk(4000):
        said = seedbed(*command, 290, "--force")
    one_line(said, 1, "no space left to write", "tokenizer.json")
    assert Tokenizer.load(tmp_path / "made").vocab_size == 300
