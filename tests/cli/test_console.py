"""Results are within the width of a narrow terminal; in a pipe each message is one line."""

import pytest

from seedbed.cli.console import print_facts, print_table, say


def test_a_message_in_a_pipe_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    say("step 143/154  loss 4.758  10,708 tok/s  11% of peak  about 1.6 s left, and a word more")
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.endswith("a word more\n")


def test_results_fit_60_columns_and_lose_no_letter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    path = "runs/" + "a-long-name-" * 8
    print_facts("Made", {"model": path, "left out": None})
    print_table("Tokens", ["id", "token"], [["12", path]], numbers=[0])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    letters = "".join("".join(lines).split())
    assert letters.count(path) == 2 and "leftout" not in letters  # folded, never cut
