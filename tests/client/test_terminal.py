"""What the verbs of the command look like: tables, questions, times; on a terminal and where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from ouzel_client import terminal
from ouzel_client._display import progress
from ouzel_client.terminal import Column, fitted

COLUMNS = (Column("name"), Column("kind", shrinks=2), Column("count", right=True), Column("error", shrinks=1, cut=True))


def printed(rows, columns=COLUMNS, **options):
    @click.command()
    def command():
        terminal.print_table(columns, rows, **options)

    result = CliRunner().invoke(command)
    assert result.exit_code == 0, result.output
    return result.stdout


def on_a_terminal(code, width):
    """What a program writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    done = subprocess.Popen([sys.executable, "-c", code], stdin=follower, stdout=follower, env=environment)
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 4096):
            written += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(leader)
    assert done.wait(30) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).splitlines()


def test_a_row_is_a_line_where_there_is_no_terminal():
    rows = [("n" * 150, "k" * 90, 7, "e" * 300), ("写真の猫", "", 12, "")]
    lines = printed(rows).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["n" * 150, "k" * 90, "7", "e" * 300]
    assert lines[2].split() == ["写真の猫", "12"]
    ends = [
        cell_len(line[: line.index(number) + len(number)]) for line, number in zip(lines[1:], ("7", "12"), strict=True)
    ]
    assert ends[0] == ends[1]  # numbers stand under each other, also beside wide characters


def test_columns_without_content_are_left_out():
    assert printed([("a", "", 1, "")]).splitlines()[0].split() == ["name", "count"]
    assert printed([], empty="Nothing.") == "Nothing.\n"


def test_names_cannot_write_to_the_terminal():
    assert printed([("\x1b[31mred[bold]", "", 1, "")]).splitlines()[1].split()[0] == "?[31mred[bold]"


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        (200, [30, 20, 5, 60]),  # room for all
        (101, [30, 20, 5, 40]),  # errors are cut first
        (60, [30, 11, 5, 8]),  # then kinds
        (40, [13, 8, 5, 8]),  # and names last
        (10, [8, 8, 5, 8]),
    ],
)
def test_what_shrinks_in_a_narrow_terminal(width, widths):
    assert fitted([30, 20, 5, 60], COLUMNS, width) == widths


@pytest.mark.parametrize("width", [80, 160])
def test_nothing_is_cut_where_the_terminal_is_wide_enough(width):
    rows = [["n" * 30, "maximize", 3, "the error " * 6], ["m", "finetune", 12, ""]]
    code = f"from ouzel_client.terminal import *\nprint_table({COLUMNS!r}, {rows!r})"
    lines = on_a_terminal(f"from ouzel_client.terminal import Column\n{code}", width)
    assert len(lines) == 3
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    assert "n" * 30 in lines[1]
    assert ("the error " * 6).strip() in lines[1] or (width == 80 and lines[1].rstrip().endswith("…"))


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_question_before_something_is_removed(monkeypatch, answer, status):
    @click.command()
    @terminal.yes_option
    def command(yes):
        terminal.confirm("Delete it", yes)
        click.echo("deleted")

    monkeypatch.setattr(terminal, "can_ask", lambda: True)
    result = CliRunner().invoke(command, input=answer)
    assert (result.exit_code, result.stdout) == (status, "deleted\n" if status == 0 else "")
    assert "Delete it? This cannot be undone. [y/N]" in result.stderr
    monkeypatch.setattr(terminal, "can_ask", lambda: False)
    result = CliRunner().invoke(command, input=answer)
    assert (result.exit_code, result.stdout, "--yes" in result.stderr) == (2, "", True)
    for flag in ("--yes", "-y"):
        result = CliRunner().invoke(command, [flag])
        assert (result.exit_code, result.stdout, result.stderr) == (0, "deleted\n", "")


@pytest.mark.parametrize(
    ("text", "version", "parts"),
    [
        ("pets", None, ("pets", "")),
        ("pets", "2", ("pets", "2")),
        ("pets@2", "", ("pets", "2")),
        ("pets@2", "2", ("pets", "2")),
        ("pets@2", "3", None),
        ("pets@", None, None),
        ("@2", None, None),
    ],
)
def test_name_and_version(text, version, parts):
    if parts is None:
        with pytest.raises(click.UsageError):
            terminal.name_and_version(text, version)
    else:
        assert terminal.name_and_version(text, version) == parts


def test_spans_and_sizes():
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    ages = {0: "0 s", 59: "59 s", 60: "1 min", 3599: "59 min", 3600: "1 h", 86_399: "23 h", 86_400: "1 d", -5: "0 s"}
    assert {seconds: terminal.age(now - timedelta(seconds=seconds), now) for seconds in ages} == ages
    spans = {0.04: "0.0 s", 59.94: "59.9 s", 60: "1:00", 3725.2: "1:02:05"}
    assert {seconds: terminal.duration(seconds) for seconds in spans} == spans
    sizes = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 17_300_000: "17.3 MB", 2 * 10**12: "2000.0 GB"}
    assert {size: terminal.file_size(size) for size in sizes} == sizes
    assert (terminal.age(None), terminal.duration(None), terminal.local_time(None)) == ("", "", "")


def test_a_complete_list_has_no_ellipsis():
    assert terminal.in_a_line(("cat", "dog")) == "2: cat, dog"
    assert terminal.in_a_line([str(n) for n in range(10)], most=3) == "10: 0, 1, 2 and 7 more (--json has all)"


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [
        (0.001, [0, 100]),  # as quick as that nobody wants to see more
        (0.15, [0, *range(10, 101, 10)]),
        (0.05, [0, *range(20, 101, 20)]),
        (4.0, [0, 3, 6, 9, 10, 13]),
    ],
)
def test_stages_in_lines(monkeypatch, seconds, lines):
    clock = iter(number * seconds for number in range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with terminal.stages(file=out) as tell:
        for done in range(101):
            tell("measuring", done, 100)
        tell("reporting", 0, 0, "a note")
    told = out.getvalue().splitlines()
    assert told[: len(lines)] == [f"measuring: {done} of 100 ({done} %)" for done in lines]
    assert told[-2:] == ["measuring: 100 of 100 (100 %)", "reporting: a note"]
