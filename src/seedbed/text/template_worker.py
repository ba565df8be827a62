"""Starts, uses and replaces the process that renders chat templates.

Starting Python takes 20 ms and rendering a prompt 0.3 ms, so one process renders for the whole program. A
request is a line of JSON, an answer another; each side reads a whole line before it writes one, so neither
waits for the other however long the lines are.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from seedbed.text import template_process

LIBRARIES = ("jinja2", "markupsafe")
WALL_SECONDS = 10.0  # the limit of CPU seconds ends it long before, except on a machine that is overloaded
TOO_LONG = -signal.SIGPROF
# Exit codes that no template causes: the process ended after an answer (KEPT_BYTES), or from outside.
NOT_THE_TEMPLATES = (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class TemplateWorker:
    """A process with limits, started by the first render and replaced when a template exceeds a limit.

    Threads share it; a forked child starts its own. Its own session keeps Ctrl-C from it; it ends with its
    input, so it does not outlive a killed program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._is_idle = True  # False from a request until its whole answer has arrived

    def render(
        self, source: str, variables: dict[str, Any], *, around: tuple[str, str] = ("", "")
    ) -> dict[str, Any]:
        """Render a template -> the answer of the process, or `error` where the template ends it."""
        line = json.dumps({"source": source, "variables": variables, "around": around}).encode() + b"\n"
        with self._lock:
            answer = self._exchange(line)
            if answer in NOT_THE_TEMPLATES:
                answer = self._exchange(line)
        if isinstance(answer, bytes):
            return dict(json.loads(answer))
        if answer == TOO_LONG:
            return {"endless": f"it takes more than {template_process.CPU_SECONDS} s"}
        if answer in (-signal.SIGABRT, template_process.OUT_OF_MEMORY):
            return {"error": f"it takes more than {template_process.MEMORY_BYTES >> 20} MiB"}
        if answer == template_process.FORBIDDEN:
            return {"error": "it opens a file, imports a module or does another thing that no template needs"}
        return {"error": f"it ends the template engine (code {answer})"}

    def close(self) -> None:
        """End the process, if one runs; the next render starts another."""
        with self._lock:
            self._end()

    def detach(self) -> None:
        """Leave the process to the parent of this forked child."""
        if self._running is not None:
            process, channel = self._running
            process.returncode = 0  # not a child of this process, so there is nothing to wait for
            channel.close()
        self._lock, self._running = threading.Lock(), None

    def _exchange(self, line: bytes) -> bytes | int:
        """Send a request -> the answer, or the exit code of a process that ended without one."""
        if not self._is_idle:  # Ctrl-C interrupted an exchange, whose answer may still arrive
            self._end()
        if self._running is None:
            # Ctrl-C between the start and the assignment would leave a process that nobody waits for.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                self._running = _start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        channel = self._running[1]
        self._is_idle = False
        try:
            channel.settimeout(WALL_SECONDS)
            channel.sendall(line)
            answer = _line(channel)
        except ConnectionError:
            answer = b""
        except TimeoutError:
            self._end()
            return TOO_LONG
        self._is_idle = answer.endswith(b"\n")
        return answer if self._is_idle else self._end()

    def _end(self) -> int:
        """End the process if it has not ended by itself -> its exit code."""
        if self._running is None:
            return 0
        process, channel = self._running
        process.kill()  # one that has closed its end of the channel keeps its own exit code
        code = process.wait()
        channel.close()
        self._running = None
        return code


def _line(channel: socket.socket) -> bytes:
    """Receive up to the end of a line, or what arrives before the other side ends.

    `socket.makefile` counts its files, and an interrupt inside their closing leaves the socket open for ever.
    """
    received = bytearray()
    while not received.endswith(b"\n") and (chunk := channel.recv(1 << 20)):
        received += chunk
    return bytes(received)


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    origins = [spec.origin for name in LIBRARIES if (spec := importlib.util.find_spec(name)) and spec.origin]
    folders = [Path(template_process.__file__).parent, *(Path(origin).parents[1] for origin in origins)]
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", template_process.__file__, *dict.fromkeys(map(str, folders))],
            stdin=its.fileno(), stdout=its.fileno(), stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    return process, ours


WORKER = TemplateWorker()  # one for the program, as its standard streams are
atexit.register(WORKER.close)
os.register_at_fork(after_in_child=WORKER.detach)
