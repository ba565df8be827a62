"""The chat template of ours, for a model that has none: plain texts and the model's own end token."""

from __future__ import annotations

import copy

from seedbed.base.errors import ConfigError
from seedbed.text.chat_template import ChatTemplate
from seedbed.text.tokenizer import Tokenizer

# A system message is text before the turns. The space before an answer belongs to it, as in running text.
TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{ 'User: ' + message['content'] + '\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ 'Assistant: ' + message['content'] + eos_token + '\\n' }}
{%- else -%}
{{ message['content'] + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ 'Assistant:' }}
{%- endif -%}"""
BEGIN = "{{- bos_token -}}\n"


def with_default_template(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, with our template where it has none. Errors: ConfigError without an end token."""
    if ChatTemplate.of(tokenizer) is not None:
        return tokenizer
    if tokenizer.special_name("eos_token") is None:
        raise ConfigError(
            "the tokenizer names no end token, which the turns of a conversation end with; name one as "
            "eos_token in tokenizer_config.json, or put a chat_template.jinja beside it"
        )
    begins = tokenizer.bos_id is not None and tokenizer.around_ids[0][:1] == (tokenizer.bos_id,)
    made = copy.copy(tokenizer)
    made.config = tokenizer.config | {"chat_template": (BEGIN if begins else "") + TEMPLATE}
    return made
