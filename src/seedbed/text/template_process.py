"""Renders chat templates in a process of its own, which ends when one takes too long or too much memory.

A template comes with a model from anywhere. The engine's fuel stops loops, but a list that contains itself
twice, forty times over, takes few steps to build and all memory to print. It runs as a script, with the
folder of minijinja as its argument, and imports nothing of ours. `template_worker` is its other side.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from datetime import datetime
from typing import Any

CPU_SECONDS = 0.5  # 10,000 messages of 600 characters take 0.02 s (2026-11-24)
MEMORY_BYTES = 256 << 20
# What a render may leave behind (freed memory that is not returned), as it counts against the next render.
KEPT_BYTES = 32 << 20
FUEL = 10_000_000  # steps of the engine: 0.2 s
MAX_CHARACTERS = 16 << 20
OUT_OF_MEMORY = 99  # the exit code
# The engine's words for what ran out of fuel, or would.
ENDLESS = ("ran out of fuel", "too many elements", "recursion limit exceeded")


class Refusal(Exception):
    """Raised by a template that refuses its messages."""


def refuse(message: Any) -> None:
    """Do what a template's `raise_exception` does."""
    raise Refusal(str(message))


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """Write a value as transformers' filter `tojson` does, without HTML escapes."""
    if indent is not None and indent > 16:
        raise ValueError(f"tojson(indent={indent}) is too deep")
    pair = None if separators is None else (str(separators[0]), str(separators[1]))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys)


def render(source: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Render a template: `{"text": ..}`, else one of `refused`, `endless`, `error` with the reason."""
    import minijinja

    environment = minijinja.Environment(
        fuel=FUEL, pycompat=True, trim_blocks=True, lstrip_blocks=True, debug=False
    )
    environment.add_filter("tojson", to_json)
    environment.add_global("raise_exception", refuse)
    environment.add_global("strftime_now", lambda pattern: datetime.now().strftime(pattern[:100]))
    try:
        text = environment.render_str(source, "chat_template", **variables)
    except Refusal as error:
        return {"refused": str(error)}
    except MemoryError:
        raise
    except Exception as error:  # a method of a list or a dict fails in its own way
        reason = str(getattr(error, "message", error)).replace(" (in chat_template:", " (line ")
        return {"endless" if any(words in reason for words in ENDLESS) else "error": reason}
    if len(text) > MAX_CHARACTERS:
        return {"error": f"it writes {len(text)} characters"}
    return {"text": text}


def size_bytes() -> int:
    """Return the memory that counts against the limit; 0 without /proc, where no such limit is enforced."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    """Answer each line of stdin, `{"source": .., "variables": ..}`, with a line on stdout, within the limits.

    It returns where stdin ends, or after an answer that left too much memory behind.
    """
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    sys.path.append(sys.argv[1])
    most_bytes = size_bytes() + KEPT_BYTES
    try:
        for line in sys.stdin.buffer:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal ends the process
            answer = json.dumps(render(**json.loads(line))).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
            del line, answer
            if size_bytes() > most_bytes:
                return
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
