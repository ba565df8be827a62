"""Call public functions with odd arguments, and open models with odd files; count errors that are not ours.

    python -m benchmarks.odd_calls --calls 10000 --files 5000 --settings 2000 --seed 21

Each call replaces one or two arguments of a right call by values of another type, size or range; each file is
one of a bundle with a value replaced, a key lost, or bytes changed; each settings file of a run likewise, or
what TOML hardly allows. Each ends with a SeedbedError or works,
within two seconds.
"""

import json
import os
import random
import shutil
import signal
import tempfile
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from benchmarks.measuring import machine, parser_of, write_json

LIMIT_SECONDS = 2.0
TEXT = "The seeds in the garden are small. Who sows them? Grow, seed, grow."
QUESTION = [{"role": "user", "content": "hello"}]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 10**4, 2**31, 2**63, -(2**63), 10**30, 0.0, 0.5, 1.5, -0.5,
    1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 1j, "", "a", "0.7", "1", "none", "x" * 300,
    "x" * 5000, "\x00", "\ud800", "../..", "/", "/dev/null", "/etc/hostname", "org/name", "package:nothing",
    "gpt2", "gpt2:124m", "cuda:99", "a\nb", "\x1b]52;c;x\x07", b"", b"bytes", [], [[]], [[[]]], [0], [1, 2,
    3], [1.5], ["a"], ["a", 3], [None], [[1, 2], [3]], [-1], [10**30], ["a", "b"], (), (1,), ("a",), {},
    {"a": 1}, {1: "a"}, {"role": "user"}, set(), {1}, range(3), object(), int, print, Ellipsis,
    Path("nowhere"), Path("."), np.int64(3), np.float32(0.5), np.array([1, 2]), np.zeros((2, 2)),
    torch.tensor(3), torch.tensor([1, 2]), torch.zeros(2, 2), torch.zeros(0, dtype=torch.int64), iter([1]),
    "float32", "bfloat16", "cpu", "mean", [{"role": "user", "content": "hello"}], [{"role": 3, "content":
    "hello"}], [{}], [{"role": "user", "content": ["x"]}], [("a", "b")], [("a",)], [(1, 2, 3)],
    "training.num_steps=3", ["training.num_steps=3"], ["a=b"], ["training.batch_tokens=-1"],
    ["training.num_threads=1000000"], ["model.num_layers=10000000000"],
]  # fmt: skip
SETTINGS = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size",
    "stop", "eos_ids", "seed", "num_samples", "logprobs", "num_beams", "length_penalty", "early_stopping",
)  # fmt: skip


TOML = [
    "a = " + "[" * 5000, "a = " + "9" * 5000, "x." * 3000 + "y = 1", "[a]\n[a]", "a = 1979-05-27T07:32:00Z",
    "\ufeffa = 1", "[training]\nlearning_rate = inf", "[training]\nnum_steps = " + "1" * 400, "\x00",
    "[training]\nnum_steps = 0x" + "f" * 5000, '[data]\ntrain = "\\u0000"', f"[data]\ntrain = '{'x' * 300}'",
    "[[training]]\nnum_steps = 3", "training = 3", '[""]\n"" = 3', "[training]\nnum_steps = 07:32:00",
    f"a = '{'x' * 10**6}'", "a = " + "{a = " * 900 + "3", "[a" + ".b" * 2000 + "]", "'\x1b]52;c;x' = 3",
]  # fmt: skip
SMALL = [
    "training.batch_tokens=64", "training.context_tokens=32", "training.num_steps=2", "model.d_model=16",
    "model.num_layers=1", "tokenizer.vocab_size=300",
]  # fmt: skip


def models(folder: Path) -> dict[str, Any]:
    """Tiny models of each kind, also in folders: a decoder with a chat template, BERTs, a T5 and an LSTM."""
    from dataclasses import replace

    import seedbed
    from seedbed.models.network import family
    from seedbed.nn.config import HeadConfig
    from seedbed.text.training import train_tokenizer

    made: dict[str, Any] = {}
    for name, base, head in (
        ("decoder", "gpt2", HeadConfig()),
        ("lstm", "lstm", HeadConfig()),
        ("t5", "t5", HeadConfig()),
        ("masked", "bert", HeadConfig(kind="mlm")),
        ("classes", "bert", HeadConfig(kind="classification", labels=("good", "bad"))),
        ("tags", "bert", HeadConfig(kind="tagging", labels=("O", "B-X", "I-X"))),
    ):
        special = family(base).special
        kind = special.kind or "bpe"
        tokenizer = train_tokenizer([TEXT] * 3, kind, vocab_size=300, special=special)
        if name == "decoder":
            source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            tokenizer = type(tokenizer)(tokenizer._core, tokenizer.config | {"chat_template": source})
        sized = family(base).sized(32, 2)
        heads = {} if name == "lstm" else {"head": head}
        config = replace(sized, vocab_size=tokenizer.vocab_size, dropout=0.0, **heads)
        if config.max_positions is not None:
            config = replace(config, max_positions=64)
        lm = seedbed.new(config, tokenizer=tokenizer)
        lm.save(folder / name)
        made[name] = seedbed.load(folder / name)
    return made


def right_calls(
    made: dict[str, Any], folder: Path
) -> list[tuple[str, Callable[..., Any], list[Any], dict[str, Any]]]:
    """Functions with right arguments: name, function, positional and keyword arguments."""
    import seedbed
    from seedbed.api.pretrain import resume
    from seedbed.runs.start import run_settings

    found: list[tuple[str, Callable[..., Any], list[Any], dict[str, Any]]] = []
    options: dict[str, Any] = dict.fromkeys(SETTINGS)
    options |= {"stop": (), "num_samples": 1, "logprobs": 0, "seed": 1}
    for name in ("decoder", "lstm", "t5"):
        lm = made[name]
        found += [
            (f"{name}.generate", lm.generate, ["the seeds", 5], options),
            (f"{name}.generate", lm.generate, [["a", "the seeds"], 5], options),
            (f"{name}.stream", lambda *a, lm=lm, **k: [*lm.stream(*a, **k)], ["the seeds", 5], options),
            (f"{name}.score", lm.score, ["the", " seeds"], {}),
            (f"{name}.score_batch", lm.score_batch, [[("the", " seeds")]], {}),
            (f"{name}.embed", lm.embed, [["a", "b"]], {"pooling": None, "normalize": None}),
        ]
    decoder, t5 = made["decoder"], made["t5"]
    found += [
        ("decoder.chat", decoder.chat, [QUESTION, 5], options),
        ("decoder.chat_ids", decoder.chat_ids, [QUESTION], {}),
        ("t5.fill", t5.fill, ["the ___ are small", 2], {"max_new_tokens": 3}),
        ("masked.fill", made["masked"].fill, ["the ___ are small", 2], {}),
        ("masked.blank_ids", made["masked"].blank_ids, ["the ___ are small"], {}),
        ("classes.classify", made["classes"].classify, [["a", "b"]], {}),
        ("tags.tag", made["tags"].tag, ["the seeds"], {}),
        ("tags.tag", made["tags"].tag, [["the", "seeds"]], {}),
        (
            "decoder.logits",
            decoder.logits,
            [torch.tensor([[1, 2, 3]])],
            {"attention_mask": None, "document_ids": None, "token_type_ids": None, "decoder_input_ids": None},
        ),
        ("t5.logits", t5.logits, [torch.tensor([[1, 2]])], {"decoder_input_ids": torch.tensor([[1]])}),
        ("decoder.save", decoder.save, [folder / "saved"], {"card": "", "force": True}),
        (
            "load",
            seedbed.load,
            [str(folder / "decoder")],
            {"dtype": "float32", "device": "cpu", "allow_pickle": False},
        ),
        ("new", seedbed.new, [decoder.config], {"tokenizer": None, "seed": 0}),
        (
            "run_settings",
            run_settings,
            [str(folder / "data.txt")],
            dict.fromkeys(("out", "family", "base", "recipe", "settings_file", "tokenizer", "objective"))
            | {"overrides": SMALL},
        ),
        ("resume", resume, [str(folder / "decoder")], {}),
    ]
    return found


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block after so many seconds."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Count:
    """Successes, our own errors and others, with an example of each kind of the others."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.foreign: dict[str, str] = {}
        self.slowest = 0.0

    def attempt(self, what: str, call: Callable[[], Any], said: str) -> None:
        """Make a call and count how it ends."""
        from seedbed.base.errors import SeedbedError

        started = time.perf_counter()
        try:
            with limited(4 * LIMIT_SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
            kind = "success"
        except SeedbedError as error:
            kind = "ours" if "\n" not in str(error) and len(str(error)) < 1000 else "ours, too long"
            if kind != "ours":
                self.foreign.setdefault(f"{what}: too long", f"{said}: {str(error)[:120]}")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = "foreign"
            key = f"{what}: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            self.foreign.setdefault(key, f"{said}: {str(error)[:120]}")
        spent = time.perf_counter() - started
        if spent > LIMIT_SECONDS:
            self.foreign.setdefault(f"{what}: slow", f"{said}: {spent:.1f} s")
            kind = "slow"
        self.slowest = max(self.slowest, spent)
        self.kinds[kind] += 1


def odd_calls(number: int, seed: int, made: dict[str, Any], folder: Path) -> Count:
    """Make so many calls with one or two odd arguments."""
    rng, count, calls = random.Random(seed), Count(), right_calls(made, folder)
    for _ in range(number):
        name, function, given, options = rng.choice(calls)
        given, options = [*given], {**options}
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.randrange(len(given) + len(options))
            value = rng.choice(VALUES)
            if place < len(given):
                given[place] = value
            else:
                options[[*options][place - len(given)]] = value
        said = f"{name}({', '.join(short(value) for value in given)}, {short(options)})"
        count.attempt(name, lambda f=function, a=given, k=options: f(*a, **k), said)
    return count


def short(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={short(one)}" for key, one in value.items() if one is not None)[:200]
    return repr(value)[:60]


def odd_files(number: int, seed: int, folder: Path) -> Count:
    """Open so many bundles with an odd file: a JSON value replaced or lost, or bytes changed."""
    import seedbed

    rng, count = random.Random(seed), Count()
    plain = [value for value in VALUES if is_json(value)]
    names = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ]
    sources = ["decoder", "lstm", "t5", "masked", "classes", "tags"]
    for _ in range(number):
        source, name = rng.choice(sources), rng.choice([*names[:2], *names])
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / source
            shutil.copytree(folder / source, place)
            file = place / name
            if not file.exists():
                continue
            content = file.read_bytes()
            if name.endswith(".json") and rng.random() < 0.8:
                file.write_text(json.dumps(with_odd_value(json.loads(content), rng, plain)))
            else:
                file.write_bytes(with_odd_bytes(content, rng))
            count.attempt(
                name,
                lambda place=place: used(seedbed.load(place)),
                f"{source} {short(file.read_bytes()[:200])}",
            )
    return count


def odd_settings(number: int, seed: int, folder: Path) -> Count:
    """Read so many settings files of a run, with odd values, odd bytes, or of odd TOML."""
    from seedbed.base.settings import to_toml
    from seedbed.runs.start import run_settings

    rng, count, data = random.Random(seed), Count(), str(folder / "data.txt")
    settings, _ = run_settings(data, out=folder / "run", overrides=SMALL)
    whole = to_toml(settings)
    plain = [value for value in VALUES if is_json(value) and is_toml(value)]
    for i in range(number):
        file = folder / f"settings{i}.toml"
        if (kind := rng.random()) < 0.15:
            file.write_text(rng.choice(TOML))
        elif kind < 0.3:
            file.write_bytes(with_odd_bytes(whole.encode(), rng))
        else:
            file.write_text(tomli_w.dumps(with_odd_value(tomllib.loads(whole), rng, plain)))
        said = short(file.read_bytes()[:200])
        count.attempt(
            "settings", lambda f=file: run_settings(data, out=folder / "run", settings_file=f), said
        )
        file.unlink()
    return count


def used(lm: Any) -> None:
    """Use a model that has been opened."""
    if lm.config.head.kind == "classification":
        lm.classify("a text")
    elif lm.config.head.kind == "tagging":
        lm.tag("a text")
    elif lm.config.shape == "encoder":
        lm.embed("a text")
    else:
        lm.generate("a text", 3, seed=1)


def is_json(value: Any) -> bool:
    """Whether JSON has the value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def is_toml(value: Any) -> bool:
    """Whether TOML has the value, in UTF-8."""
    try:
        tomli_w.dumps({"value": value}).encode()
    except (TypeError, ValueError):
        return False
    return True


def with_odd_value(tree: Any, rng: random.Random, values: list[Any]) -> Any:
    """The tree with the value at a random place replaced or lost."""
    at = tree
    while True:
        keys = [*at] if isinstance(at, dict) else [*range(len(at))] if isinstance(at, list) else []
        if not keys:
            return rng.choice(values)
        key = rng.choice(keys)
        if isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.7:
            at = at[key]
            continue
        if rng.random() < 0.2:
            del at[key]
        else:
            at[key] = rng.choice(values)
        return tree


def with_odd_bytes(content: bytes, rng: random.Random) -> bytes:
    """The content cut, or with some bytes changed."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        changed[rng.randrange(min(len(changed), 4000))] = rng.randrange(256)
    return bytes(changed)


def main() -> None:
    """Make the calls and open the files; print the counts and every kind of foreign error."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--settings", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=21)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = models(folder)
        (folder / "data.txt").write_text(TEXT * 200)
        os.chdir(tempfile.mkdtemp(dir=folder))  # a name among the odd values may become a folder
        counts = {
            "calls": odd_calls(arguments.calls, arguments.seed, made, folder),
            "files": odd_files(arguments.files, arguments.seed, folder),
            "settings": odd_settings(arguments.settings, arguments.seed, folder),
        }
    for name, count in counts.items():
        print(f"{name}: {dict(count.kinds)}, the slowest {count.slowest:.2f} s")
        for key, said in count.foreign.items():
            print(f"  {key}: {said}")
    found = {name: {"kinds": count.kinds, "foreign": count.foreign} for name, count in counts.items()}
    write_json(arguments.json, {"machine": machine(), "seed": arguments.seed} | found)


if __name__ == "__main__":
    main()
