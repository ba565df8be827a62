"""Renders chat templates in a process of its own, which ends when one takes too long or too much memory.

A template is a program that comes with a model from anywhere. Jinja2's sandbox keeps it from Python's inner
attributes; if it ever failed, a hook that Python cannot remove ends the process before a file is opened, a
module imported, or a program or connection begun. It runs as a script, with the folders of what it imports
as its arguments. `template_worker` is its other side.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

CPU_SECONDS = 1.0  # 10,000 messages of 600 characters take 0.02 s
MEMORY_BYTES = 256 << 20
# What a render may leave behind (freed memory that is not returned), as it counts against the next render.
KEPT_BYTES = 32 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
OUT_OF_MEMORY, FORBIDDEN = 99, 98  # exit codes
# What Python reports while a template is compiled and rendered; a process that does anything else ends.
ALLOWED_EVENTS = frozenset({"compile", "exec", "builtins.id", "object.__getattr__"})


def size_bytes(statm: int) -> int:
    """Return the memory that counts against the limit; 0 without /proc, where no such limit is enforced."""
    return 0 if statm < 0 else int(os.pread(statm, 100, 0).split()[0]) * PAGE


def forbid(event: str, arguments: Any) -> None:
    """End the process if it does what no template needs: an audit hook (PEP 578)."""
    if event not in ALLOWED_EVENTS:
        os._exit(FORBIDDEN)


def main() -> None:
    """Answer each line of stdin, the arguments of `render`, with a line on stdout, within the limits.

    It returns where stdin ends, or after an answer that left too much memory behind.
    """
    sys.path += sys.argv[1:]
    renderer = import_module("template_renderer").Renderer()
    render: Callable[..., dict[str, Any]] = renderer.render
    render("{% for m in messages %}{{ m | tojson }}{{ strftime_now('%c') }}{% endfor %}", {"messages": [1]})
    sys.path.clear()
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        statm = -1
    limits = dict.fromkeys((resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE), 0)
    for kind, limit in (limits | {resource.RLIMIT_AS: MEMORY_BYTES}).items():
        resource.setrlimit(kind, (limit, limit))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    most_bytes = size_bytes(statm) + KEPT_BYTES
    sys.addaudithook(forbid)
    try:
        for line in sys.stdin.buffer:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process
            answer = json.dumps(render(**json.loads(line))).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
            del line, answer
            if size_bytes(statm) > most_bytes:
                return
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
