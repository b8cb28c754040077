"""The list of verbs, what it costs, and verbs that go to this machine or to the worker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from ouzel_client._cli import main, plugins
from ouzel_client.testing import FakeServer

HEAVY = ("torch", "torchvision", "timm", "numpy", "grpc", "google.protobuf", "PIL", "rich", "ouzel.serving")
LISTED = {
    "Serve": ["up", "down", "status", "logs", "token", "usage", "keys", "serving-agent", "agents"],
    "Explain": ["explain", "sample"],
    "Jobs": ["maximize", "search", "finetune", "repair", "datasets", "jobs"],
    "Models": ["models"],
    "Audit": ["audit", "audit-dataset", "ledger"],
}


def run(*words, status=0):
    result = CliRunner().invoke(main.main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def worker(monkeypatch, tmp_path):
    with FakeServer() as server:
        monkeypatch.setenv("OUZEL_WORKER", server.target)
        monkeypatch.setenv("OUZEL_GRPC", server.target)
        monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
        yield server


@pytest.fixture
def alone(monkeypatch):
    """Only the client is installed."""
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])


def test_every_verb_has_its_section_and_a_line_of_one_style():
    sections = {}
    for line in run("--help").output.splitlines():
        if title := re.fullmatch(r"(\w+):", line):
            rows = sections.setdefault(title[1], [])
        elif row := re.fullmatch(r"  (\S+)\s+([A-Z].*\.)", line):
            rows.append(row[1])
    del sections["Options"]
    assert sections == LISTED


def test_what_is_listed_is_there():
    context = click.Context(main.main)
    for name in {name for names in LISTED.values() for name in names} | {"tuned", "maximize-local"}:
        command = main.main.get_command(context, name)
        assert command is not None
        assert command.hidden == (name in ("tuned", "maximize-local"))
        assert command.get_short_help_str(), name


def test_the_list_loads_no_verb():
    code = (
        "import json, sys\nfrom ouzel_client._cli.main import main\nmain(['--help'], standalone_mode=False)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_without_the_server_side_models_are_those_of_the_worker(worker, alone):
    assert [each["name"] for each in json.loads(run("models", "list", "--json").stdout)] == ["m"]
    assert run("models", "show", "m").stdout == run("tuned", "show", "m").stdout
    assert set(main.main.get_command(click.Context(main.main), "models").commands) == {
        "list", "show", "promote", "delete",
    }  # fmt: skip
    assert "pip install ouzel" in run("maximize", "m", "--logit", "0", "--local", status=1).stderr
    assert [line for line in run("--help").output.splitlines() if line.startswith("  models ")]


def test_with_it_they_are_those_of_this_machine_unless_the_worker_is_named(worker, tmp_path, monkeypatch):
    monkeypatch.setenv("OUZEL_MODEL_STORE", str(tmp_path / "store"))
    assert json.loads(run("models", "list", "--json").stdout) == []
    assert [each["name"] for each in json.loads(run("models", "--worker", "list", "--json").stdout)] == ["m"]
    assert "Usage: main models show [OPTIONS]" in run("models", "show", "--help").stdout


def test_maximize_goes_to_the_worker_or_stays_here(worker, tmp_path):
    assert run("maximize", "m", "--logit", "0", "--detach").stdout == "job-1\n"
    shown = run("maximize", "--local", "--help").stdout
    assert "maximize --local [OPTIONS] MODEL" in shown
    assert "--data" in shown
    assert "--detach" not in shown
    for words in (("maximize", "--local"), ("maximize-local",)):
        result = run(*words, "m", "--logit", "0", "--store", tmp_path, status=1)
        assert result.stderr.startswith("Error: ")
        assert "'m'" in result.stderr


def test_a_broken_verb_says_so_when_it_is_run(monkeypatch):
    class Broken(EntryPoint):
        def load(self):
            raise ImportError("no torch here")

    entries = [Broken("up", "ouzel.cli.services:up", plugins.GROUP), Broken("wave", "ouzel.cli.wave:w", plugins.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    lines = [" ".join(line.split()) for line in run("--help").output.splitlines()]
    assert "up Start the services of this machine." in lines
    assert "wave wave: ouzel.cli.wave:w cannot be loaded (no torch here)" in lines
    assert "no torch here" in run("up", status=1).stderr
