"""The rendering of records, which training and evaluation share."""

import pytest
from tests.evaluation.test_tasks import records_of
from tests.task_models import decoder

from seedbed.evaluation.prompts import Prompts
from seedbed.evaluation.records import record_of
from seedbed.evaluation.rendering import Rendering
from seedbed.evaluation.task import TASKS, TaskSettings


@pytest.mark.parametrize("name", TASKS.names())
def test_a_pair_and_a_conversation_are_an_example_of_a_prompt(name: str) -> None:
    settings, (first, second) = records_of(name)
    prompt, answer = Rendering(settings, chat=False).pair(first)
    shown = Prompts(decoder(), settings, chat=False).whole(second, [first])
    assert isinstance(shown, str) and shown.startswith(f"{prompt}{answer}{settings.separator}")
    assert Prompts(decoder(), settings, chat=False).whole(first, []) == prompt
    messages = Rendering(settings, chat=True).conversation(first)
    chats = Prompts(decoder(chat=True), settings, chat=True)
    assert chats.whole(second, [first])[: len(messages)] == messages
    assert chats.whole(first, []) == messages[:-1]
    assert [message["role"] for message in messages] == ["user", "assistant"]


def test_a_description_is_before_the_prompt() -> None:
    settings = TaskSettings(use_case="summarize", description="Be brief.", separator="\n--\n")
    record = record_of({"text": "a b", "summary": ["a", "b"]}, settings, "r", needs_target=True)
    assert Rendering(settings, chat=False).pair(record) == ("Be brief.\n--\nText: a b\nSummary:", " a")
    messages = Rendering(settings, chat=True).conversation(record)
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert messages[0]["content"] == "Be brief." and messages[2]["content"] == "a"


@pytest.mark.parametrize("empty", [None, ""])
def test_a_solution_that_is_null_or_empty_is_no_text(empty: str | None) -> None:
    settings = TaskSettings(use_case="code")
    fields = {"prompt": "def one():\n", "test": "assert one() == 1", "solution": empty}
    record = record_of(fields, settings, "r", needs_target=True)
    assert Rendering(settings, chat=True).answer(record) == ""
