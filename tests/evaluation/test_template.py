"""Templates: fields of a record in a text, and nothing else."""

import pytest

from seedbed.base.errors import UsageError
from seedbed.evaluation.task import TaskSettings
from seedbed.evaluation.template import Template


def test_names_are_replaced_once_and_other_braces_are_text() -> None:
    template = Template('{"a": {input}} {} {n} {0} {a b}: {input}')
    assert template.filled({"input": "{n} {x}", "n": 3}) == '{"a": {n} {x}} {} 3 {0} {a b}: {n} {x}'
    assert template.names == {"input", "n"} and template.ending == ""
    assert Template("{input}\nLabel: ").ending == "\nLabel: "


@pytest.mark.parametrize("fields", [{"input": "a"}, {"input": "a", "title": None}])
def test_a_field_that_is_missing_or_null_is_named(fields: dict[str, object]) -> None:
    with pytest.raises(KeyError, match="title"):
        Template("{title} {input}").filled(fields)


@pytest.mark.parametrize(
    ("text", "part"),
    [("Label:", "name the record's text, {input}"), ("{input} {target}", "has {target}; leave it out")],
)
def test_a_prompt_has_the_text_and_not_the_answer(text: str, part: str) -> None:
    with pytest.raises(UsageError) as error:
        Template(text).require("input", "review")
    assert part in str(error.value)


def test_the_text_may_have_its_own_name() -> None:
    Template("{review}:").require("input", "review")
    assert TaskSettings(use_case="classify", input="review", prompt="{review}:").prompt == "{review}:"
    with pytest.raises(UsageError, match=r"name the record's text, \{input\}"):
        TaskSettings(use_case="classify", prompt="{review}:")
