"""Write a function that passes its tests; they run in a process that is locked down."""

import re
from typing import Any

from seedbed.evaluation.task import Fields, Task, Words

FENCED = re.compile(r"```(?:[Pp]ython|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
SOLUTIONS = ("solution", "canonical_solution", "code", "completion", "output")
BEGUN = re.compile(r"^[ \t]*(?:async )?def (\w+)", re.MULTILINE)


def _tests(reference: Any, fields: Fields) -> str:
    """The tests behind what they import, with the call of HumanEval's `check` (2107.03374)."""
    tests, name = str(reference), fields.get("entry_point")
    if setup := fields.get("test_setup_code"):
        tests = f"{setup}\n\n{tests}"
    is_called = re.search(r"^check\(", tests, re.MULTILINE)
    return f"{tests}\n\ncheck({name})" if name and "def check(" in tests and not is_called else tests


def _written(reference: Any, fields: Fields, words: Words) -> str:
    """The solution of a record, for an example; empty where it has none."""
    return str(next((fields[name] for name in SOLUTIONS if fields.get(name) is not None), ""))


def _program(answer: str, fields: Fields, words: Words) -> str:
    """The code of an answer; behind the beginning of a function that the record has if it continues it."""
    fenced = FENCED.search(answer)
    code = fenced[1] if fenced else answer
    begun = str(fields["input"])
    begun = begun.rstrip(" ") if code.startswith(" ") else begun  # the answer has its own indentation
    names = BEGUN.findall(begun)
    is_whole = not names or re.search(rf"^(?:async )?def {names[-1]}\b", code, re.MULTILINE)
    return code if is_whole else f"{begun}{code}"


TASK = Task(
    meaning="Write a function that passes its tests.",
    form="code",
    metrics=("pass_at_1",),
    inputs=("prompt", "text", "instruction", "question", "input"),
    targets=("test", "tests", "test_list"),
    prompt="{input}",
    instruction="{input}\n\nAnswer with the Python code alone.",
    max_new_tokens=384,
    stop=("\nclass ", "\nif __name__", "\nprint(", "\nassert "),
    expected=_tests,
    written=_written,
    read=_program,
)
