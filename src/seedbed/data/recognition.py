"""What the files of a source have: the form of their records, or text, by their first records."""

from __future__ import annotations

import shlex
import zlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import DataError
from seedbed.data.fields import fields_text
from seedbed.data.files import NotUsable, head_text, source_files, suffix, unreadable
from seedbed.data.forms import FORMS, LearnsFrom, Match, expected, match
from seedbed.data.readers import TABLES, is_conll, reader
from seedbed.data.settings import DataSettings

FIRST_RECORDS = 20  # of a file, that show its form
LABEL_CHARACTERS = 40  # of a label, at most
NOTES_SHARE = 0.1  # of the bytes of a folder; less text than this beside records is notes on them
MESSAGES, TAGS, _, PAIRS, _, TEXT = FORMS


class _Found(NamedTuple):
    """A file with the form of its content."""

    file: Path
    match: Match
    num_bytes: int


def recognised(
    settings: DataSettings, learns_from: LearnsFrom | None = None
) -> tuple[DataSettings, LearnsFrom]:
    """The settings with the form of the records and their fields, and what is learned from them.

    What the settings name stays. `learns_from` restricts the forms to those that it is learned from; None:
    the form says it. Errors: DataError for records of no known form, and for files of several.
    """
    if settings.form is not None and (settings.text_field or settings.input or settings.form == "text"):
        form = next(form for form in FORMS if form.name == settings.form)
        return settings, learns_from or form.teaches[0]
    if settings.train.startswith("builtin:") or (settings.text_field and learns_from in (None, "text")):
        return _with(settings, Match(TEXT, (settings.text_field or "text",))), "text"
    if settings.input is not None and settings.target is not None and learns_from != "text":
        return _named(settings, settings.input, settings.target, learns_from)
    if settings.text_field and learns_from == "conversations":
        return _with(settings, Match(MESSAGES, (settings.text_field,))), "conversations"
    found = _chosen(settings, learns_from)
    return _with(settings, found), learns_from or found.form.teaches[0]


def _with(settings: DataSettings, found: Match) -> DataSettings:
    if len(found.fields) == 1:
        return replace(settings, form=found.form.name, text_field=found.fields[0])
    return replace(settings, form=found.form.name, input=found.fields[0], target=found.fields[1])


def _named(
    settings: DataSettings, name: str, answer: str, learns_from: LearnsFrom | None
) -> tuple[DataSettings, LearnsFrom]:
    """The form of records whose two fields are named: by what is learned, or by their contents."""
    if learns_from is None:
        records = (r for file in _files(settings) for r in _first(file, settings) or ())
        some = list(
            islice((r for r in records if isinstance(r, dict) and {name, answer} <= {*r}), FIRST_RECORDS)
        )
        first = some[0] if some else {}
        usual = match({key: first[key] for key in (name, answer) if key in first})
        form = usual.form if usual else TAGS if isinstance(first.get(answer), list) else None
        is_label = isinstance(first.get(answer), int | float) or _are_labels([r[answer] for r in some])
        learns_from = form.teaches[0] if form else "labels" if is_label else "pairs"
    form = next(form for form in FORMS if learns_from in form.teaches and form.targets)
    form = next((form for form in FORMS if form.name == learns_from), form)
    return replace(settings, form=form.name), learns_from


def _are_labels(answers: list[Any]) -> bool:
    """Whether the first answers are short texts that repeat, as labels do."""
    short = [answer for answer in answers if isinstance(answer, str) and len(answer) <= LABEL_CHARACTERS]
    return len(short) == len(answers) >= 4 and 2 * len({*short}) <= len(short)


def _files(settings: DataSettings) -> list[Path]:
    return source_files(settings.train, include=settings.include, exclude=settings.exclude)


def _chosen(settings: DataSettings, learns_from: LearnsFrom | None) -> Match:
    """The form of the files of a source."""
    found: list[_Found] = []
    others: list[tuple[Path, dict[str, Any]]] = []  # files with records of no known form
    for file in _files(settings):
        try:
            records = _first(file, settings)
        except NotUsable:
            if not Path(settings.train).is_dir():
                raise
            continue
        if records is None:
            form = Match(TEXT, ("text",)) if learns_from in (None, "text") else None
            if learns_from in (None, "tags") and is_conll(file, head_text(file)):
                form = Match(TAGS, ("tokens", "tags"))
        else:
            all_fields = {k: v for r in reversed(records) if isinstance(r, dict) for k, v in r.items()}
            form = match(all_fields, learns_from)
            if form is None and all_fields and not {*TEXT.inputs} & {*all_fields}:
                others.append((file, all_fields))
        if form is not None:
            found.append(_Found(file, form, file.stat().st_size))
    num_bytes, num_others = sum(f.num_bytes for f in found), sum(f.stat().st_size for f, _ in others)
    is_notes = {f.match.form.name for f in found} <= {TEXT.name} and num_bytes < NOTES_SHARE * num_others
    if others and is_notes and (found or learns_from != "text"):
        raise DataError(_unknown(*others[0], learns_from))
    if found:
        return _one_of(found, settings.train)
    return Match(TEXT, ("text",)) if learns_from in (None, "text") else Match(PAIRS, ("input", "target"))


def _first(file: Path, settings: DataSettings) -> list[Any] | None:
    """The first records of a file; None for a text. Errors: NotUsable for what is not text."""
    read = reader(file, settings.columns)
    try:
        if read is not None:
            return [record for _, record in islice(read(), FIRST_RECORDS)]
        head_text(file)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(file, error) from error
    return None


def _one_of(found: list[_Found], source: str) -> Match:
    """The one form of some files: a few texts beside records are notes; errors: DataError for any others."""
    forms: dict[str, _Found] = {}
    for each in found:
        forms.setdefault(each.match.form.name, each)
    sizes = {name: sum(f.num_bytes for f in found if f.match.form.name == name) for name in forms}
    if len(forms) == 2 and TEXT.name in forms and sizes[TEXT.name] < NOTES_SHARE * sum(sizes.values()):
        del forms[TEXT.name]
    if len(forms) == 1:
        (first,) = forms.values()
        own = (f.match for f in found if f.match.form is first.match.form and reader(f.file) is not None)
        return next(own, first.match)
    files = " and ".join(f"{each.match} ({each.file.name})" for each in forms.values())
    raise DataError(
        f"{source} has files of several forms: {files}; choose some with data.include or data.exclude, or "
        "say what to learn with --objective"
    )


def _unknown(file: Path, record: dict[str, Any], learns_from: LearnsFrom | None) -> str:
    """What to do about records of no known form: the longest text is perhaps the input."""
    hint = 'name the columns of a table without a header with data.columns="text,label", or '
    names = list(record)
    at = max(range(len(names)), key=lambda number: len(str(record[names[number]])))
    found = {"text_field": names[at]}
    if len(names) > 1 and learns_from != "text":
        found = {"input": names[at], "target": names[(at + 1) % len(names)]}
    yours = " ".join(f"--set {shlex.quote(f'data.{key}={name[:40]}')}" for key, name in found.items())
    return (
        f"{file} has records with the fields {fields_text(record)}; expected are {expected(learns_from)}: "
        f"{hint if suffix(file) in TABLES else ''}name yours with data.text_field, or data.input and "
        f"data.target, such as {yours}, or leave the file out (data.exclude)"
    )
