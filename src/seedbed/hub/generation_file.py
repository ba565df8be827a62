"""`generation_config.json`: the tokens that begin and end answers, and the settings of sampling or search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seedbed.base.errors import BundleError

WHOLE = 2**31 - 1
Id = Annotated[int, Field(ge=0, le=WHOLE)]
Ids = Id | list[Id]
Count = Annotated[int, Field(ge=0, le=WHOLE)]
Length = Annotated[int, Field(ge=1, le=WHOLE)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]


class GenerationFile(BaseModel):
    """The keys that are read, each with its type and range; None is as if it were missing."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    bos_token_id: Ids | None = None
    eos_token_id: Ids | None = None
    decoder_start_token_id: Ids | None = None
    forced_bos_token_id: Ids | None = None
    forced_eos_token_id: Ids | None = None
    pad_token_id: int | list[int] | None = None  # written again, and not used
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1e6)] | None = None
    top_k: Count | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Factor | None = None
    no_repeat_ngram_size: Count | None = None
    num_beams: Annotated[int, Field(ge=1, le=1024)] | None = None
    length_penalty: Annotated[float, Field(ge=-20, le=20)] | None = None
    early_stopping: bool | Literal["never"] | None = None
    max_new_tokens: Length | None = None
    max_length: Length | None = None
    min_length: Count | None = None
    min_new_tokens: Count | None = None
    encoder_repetition_penalty: Number | None = None
    encoder_no_repeat_ngram_size: Count | None = None
    num_beam_groups: Length | None = None
    diversity_penalty: Number | None = None
    bad_words_ids: list[list[Id]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    sequence_bias: dict[str, Any] | list[Any] | None = None


TOKENS = tuple(name for name in GenerationFile.model_fields if name.endswith("_token_id"))


def valid_settings(values: Mapping[str, Any], file: Path, *, vocab_size: int) -> dict[str, Any]:
    """The values; a BundleError for one of another type, or out of its range. Other keys are not read.

    The end and begin tokens of a small network may be those of its class, which it does not have (other tools
    write them so): they are left out. Tokens that are put into an answer have to exist.
    """
    values = dict(values)
    try:
        read = GenerationFile.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        said = first["msg"][0].lower() + first["msg"][1:]
        raise BundleError(
            f"{file} has {key}={str(values[key])[:60]!r}: {said}; correct it, or remove the key"
        ) from None
    except RecursionError:
        raise BundleError(f"{file} is nested too deeply; write or download it again") from None
    for key in TOKENS:
        named = getattr(read, key)
        ids = named if isinstance(named, list) else [] if named is None else [named]
        if key == "pad_token_id" or (wrong := next((i for i in ids if i >= vocab_size), None)) is None:
            continue
        if key not in ("bos_token_id", "eos_token_id"):
            raise BundleError(
                f"{file} has {key}={wrong}, but token ids go from 0 to {vocab_size - 1}; correct it, or "
                "remove the key"
            )
        del values[key]
    return values
