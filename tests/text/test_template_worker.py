"""One process renders all templates: it keeps its limits, its answers in order, and ends with the program."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jinja2
import pytest

from seedbed.text import template_process, template_worker
from seedbed.text.template_worker import TemplateWorker

LETTERS = "{{ messages[0].content }}"
WAIT_SECONDS = 60


@pytest.fixture
def worker() -> Iterator[TemplateWorker]:
    made = TemplateWorker()
    yield made
    made.close()


def echo(worker: TemplateWorker, text: str) -> str:
    said = worker.render(LETTERS, {"messages": [{"role": "user", "content": text}]})
    assert said.keys() == {"text"}, said
    return str(said["text"])


def process_id(worker: TemplateWorker) -> int:
    assert worker._running is not None
    return worker._running[0].pid


def wait_for_end(process: int, handle: int) -> None:
    """Wait until a process that is perhaps no child of ours has ended."""
    assert select.select([handle], [], [], WAIT_SECONDS)[0], f"process {process} still runs"
    os.close(handle)


@contextmanager
def program(source: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process group of its own; every warning is an error."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", source],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


BEGIN = f"""
import os, sys
from seedbed.text.template_worker import WORKER
def echo(text):
    return WORKER.render({LETTERS!r}, {{"messages": [{{"content": text}}]}})["text"]
def worker_id():
    return WORKER._running[0].pid
print(echo("one"), worker_id(), flush=True)
"""


def test_a_hundred_prompts_are_rendered_by_one_process(worker: TemplateWorker) -> None:
    assert echo(worker, "first") == "first"
    first, files = process_id(worker), len(os.listdir("/proc/self/fd"))
    for n in range(100):
        assert echo(worker, f"{n} " * 1000) == f"{n} " * 1000
    assert process_id(worker) == first and len(os.listdir("/proc/self/fd")) == files


def test_a_template_that_takes_too_long_ends(worker: TemplateWorker) -> None:
    """By the limit of CPU time."""
    source = "{% for i in range(90000) %}{% set s = messages|tojson %}{% endfor %}"
    assert set(worker.render(source, {"messages": "x" * 4_000_000})) == {"endless"}
    assert echo(worker, "after") == "after"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("[n.s, n.s]", "it takes more than"),
        ("n.s ~ n.s", "it takes more than"),  # memory, or the time to fill it
    ],
)
def test_a_template_that_breaks_a_limit_costs_the_process(
    action: str, said: str, worker: TemplateWorker
) -> None:
    assert echo(worker, "before") == "before"
    first, files = process_id(worker), len(os.listdir("/proc/self/fd"))
    source = "{% for i in range(60) %}{% set n.s = ACTION %}{% endfor %}{{ n.s }}".replace("ACTION", action)
    source = "{% set n = namespace(s='aa') %}" + source
    answer = worker.render(source, {})
    assert said in str(answer) and "text" not in answer
    with pytest.raises(ProcessLookupError):  # it has ended and was waited for
        os.kill(first, 0)
    assert echo(worker, "after") == "after"
    assert process_id(worker) != first and len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize(
    "action",
    [
        "open('/etc/hostname')",
        "__import__('unused_module')",
        "__import__('os').system('true')",
        "__import__('os').listdir('/')",
        "__import__('socket').socket()",
    ],
)
def test_a_process_that_leaves_the_sandbox_ends(action: str) -> None:
    """What a template could do if Jinja2's sandbox failed: the renderer is replaced by such a template."""
    source = (
        "import os, socket, sys, types, template_process as p\n"
        "class Renderer:\n  def render(self, source, variables):\n"
        f"    return {{'text': str(eval({action!r}) if source == 'attack' else '')}}\n"
        "sys.modules['template_renderer'] = types.SimpleNamespace(Renderer=Renderer)\n"
        "p.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=Path(template_process.__file__).parent,
        input='{"source": "attack", "variables": {}}\n',
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", template_process.FORBIDDEN)


def test_each_render_has_the_whole_of_its_seconds(worker: TemplateWorker) -> None:
    """Templates that together take more than the limit, and a tenth of it each."""
    source = (
        "{% for i in range(2100) %}{% for j in range(700) %}{% endfor %}{% endfor %}{{ messages[0].content }}"
    )
    echo(worker, "first")
    first = process_id(worker)
    for n in range(30):
        assert worker.render(source, {"messages": [{"content": str(n)}]}) == {"text": str(n)}
    assert process_id(worker) == first
    times = os.sysconf("SC_CLK_TCK")
    spent = sum(map(int, Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[11:13])) / times
    assert spent > template_process.CPU_SECONDS, spent


def test_a_process_that_kept_memory_ends_after_its_answer() -> None:
    source = "import template_process as p; p.KEPT_BYTES = -1 << 40; p.main()"
    library = str(Path(jinja2.__file__).parents[1])
    request = json.dumps({"source": LETTERS, "variables": {"messages": [{"content": "x"}]}}) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", source, library],
        cwd=Path(template_process.__file__).parent,
        input=2 * request,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == '{"text": "x"}\n'


@pytest.mark.parametrize("end", [None, signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ended_between_renders_is_replaced(
    end: signal.Signals | None, worker: TemplateWorker
) -> None:
    echo(worker, "first")
    assert worker._running is not None
    process, channel = worker._running
    handle = os.pidfd_open(process.pid)
    if end is None:  # as after an answer that left too much memory behind
        channel.shutdown(socket.SHUT_WR)
    else:
        os.kill(process.pid, end)
    wait_for_end(process.pid, handle)
    assert echo(worker, "again") == "again" and process_id(worker) != process.pid
    assert process.returncode == (0 if end is None else -end)


def test_a_render_whose_process_was_killed_is_done_again(worker: TemplateWorker) -> None:
    """The process is stopped first, so that the request is with it when it is killed."""
    echo(worker, "first")
    process = process_id(worker)
    os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(echo, worker, "x" * 3_000_000)
        while worker._is_idle and not answer.done():
            pass
        os.kill(process, signal.SIGKILL)
        assert answer.result(WAIT_SECONDS) == "x" * 3_000_000
    assert process_id(worker) != process


def test_a_process_that_does_not_answer_is_ended(
    worker: TemplateWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo(worker, "first")
    process = process_id(worker)
    monkeypatch.setattr(template_worker, "WALL_SECONDS", 0.1)
    for size in (1, 3_000_000):  # it reads nothing: what is short is sent, and what is long is not
        os.kill(process_id(worker), signal.SIGSTOP)
        assert "endless" in worker.render(LETTERS, {"messages": [{"content": "x" * size}]})
        with monkeypatch.context() as patch:
            patch.setattr(template_worker, "WALL_SECONDS", WAIT_SECONDS)
            assert echo(worker, "second") == "second" and process_id(worker) != process


def test_long_messages_go_both_ways(worker: TemplateWorker) -> None:
    for text in ("0123456789" * 1_000_000, "ü🌱\n" * 300_000, ""):
        assert echo(worker, text) == text
    assert (
        "writes 16777217 characters"
        in worker.render(LETTERS, {"messages": [{"content": "x" * ((16 << 20) + 1)}]})["error"]
    )


def test_threads_get_their_own_answers(worker: TemplateWorker) -> None:
    texts = [f"{n} " * (1 + n % 7 * 3000) for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: echo(worker, text), texts)) == texts


def test_an_interrupt_anywhere_leaves_no_answer_behind(worker: TemplateWorker) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    num_replaced = 0
    try:
        for n in range(25):
            echo(worker, "the process runs")
            process = process_id(worker)
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.001 + n * 37e-6)
                for k in range(10**6):
                    assert echo(worker, f"{n} {k} " * 9) == f"{n} {k} " * 9
            assert echo(worker, f"after {n}") == f"after {n}"
            num_replaced += process_id(worker) != process
    finally:
        signal.signal(signal.SIGALRM, before)
    assert num_replaced > 10


def test_ctrl_c_in_a_terminal_does_not_reach_the_process() -> None:
    source = f"""{BEGIN}
try:
    print("busy", flush=True)
    while True:
        echo("x" * 100_000)
except KeyboardInterrupt:
    print("interrupted", echo("two"), flush=True)
first = worker_id()
try:
    print("idle", first, flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print(echo("three"), worker_id() == first, flush=True)
"""
    with program(source) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("one ")
        assert process.stdout.readline() == "busy\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted two\n"
        assert process.stdout.readline().startswith("idle ")
        os.killpg(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=WAIT_SECONDS)
        assert (said, errors, process.returncode) == ("three True\n", "", 0)


def test_a_forked_child_has_a_process_of_its_own() -> None:
    source = f"""{BEGIN}
first = worker_id()
child = os.fork()
who = "parent" if child else "child"
for n in range(300):
    assert echo(f"{{who}} {{n}}") == f"{{who}} {{n}}"
assert (worker_id() == first) == bool(child)
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert echo("after") == "after" and worker_id() == first
    print("sound")
"""
    with program(source) as process:
        said, errors = process.communicate(timeout=WAIT_SECONDS)
    assert said.endswith("\nsound\n") and (errors, process.returncode) == ("", 0)


@pytest.mark.parametrize("end", ["exit", "error", "SIGKILL", "SIGKILL beside a child"])
def test_the_process_ends_with_the_program(end: str) -> None:
    """Also where a child that the program forked lives on."""
    fork = "if os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\n" if "child" in end else ""
    action = {"exit": "", "error": "raise ValueError('the end')"}.get(end, "")
    source = f"{BEGIN}{fork}\nprint('ready', flush=True)\nsys.stdin.readline()\n{action}"
    with program(source) as process:
        assert process.stdout is not None and process.stdin is not None
        worker = int(process.stdout.readline().split()[1])
        assert process.stdout.readline() == "ready\n"
        handle = os.pidfd_open(worker)
        if "SIGKILL" in end:
            process.kill()
            wait_for_end(worker, handle)
            assert process.wait(WAIT_SECONDS) == -signal.SIGKILL
            return
        process.stdin.write("end\n")
        errors = process.communicate(timeout=WAIT_SECONDS)[1]
        assert select.select([handle], [], [], 0)[0], "the process ended after the program"
        os.close(handle)
    assert errors.count("Error") == errors.count("the end") == (end == "error") and "Warning" not in errors
