"""`ouzel serving-agent` and `ouzel agents`: many TorchServes that serve one model store."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import click

from ouzel.cli._common import log_format as log_format_option
from ouzel.cli._common import metrics_of, metrics_options, store_place
from ouzel.cli._common import state as state_option
from ouzel.cli._common import store as store_option
from ouzel.cli._errors import Command
from ouzel.registry.opening import open_registry
from ouzel.registry.reports import AgentReport, Serves, parse_reports
from ouzel.telemetry import logs
from ouzel_client.terminal import Column, json_option, print_json, print_table
from ouzel_protos.local import state_dir

_COLUMNS = (
    Column("node", shrinks=2),
    Column("last seen"),
    Column("TorchServe"),
    Column("served", right=True),
    Column("failed", right=True),
    Column("problem", shrinks=1),
)
_SILENT = 60.0  # s without a report, after which an agent is shown as silent


def _option(flag: str, help_: str, **more: Any) -> Any:
    variable = "OUZEL_AGENT_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, help=help_, envvar=variable, show_envvar=True, show_default=True, **more)


@click.command(cls=Command, name="serving-agent")
@_option(
    "--from",
    "The model store that all machines share: a folder, or s3://BUCKET/PREFIX.",
    metavar="FOLDER|s3://BUCKET/PREFIX",
    required=True,
)
@store_option
@state_option("State folder of the services on this machine.")
@_option("--node", "Name of this machine, unique among the agents of the store. [default: its host name]")
@_option("--serving-rest", "REST inference URL of a TorchServe that `ouzel up` did not start.", default="")
@_option("--serving-management", "REST management URL of that TorchServe.", default="")
@_option("--serving-key-file", "Token file of that TorchServe.", type=click.Path(dir_okay=False, path_type=Path))
@_option("--interval", "Seconds between two looks at the store.", type=click.FloatRange(0.1, 60), default=2.0)
@click.option("--once", is_flag=True, help="Bring the folder up to the store, and end: before `ouzel up` starts.")
@metrics_options(_option)
@log_format_option
def serving_agent(
    *,
    store: Path,
    state: Path | None,
    node: str | None,
    serving_rest: str,
    serving_management: str,
    serving_key_file: Path | None,
    interval: float,
    once: bool,
    metrics_port: int | None,
    metrics_host: str,
    metrics_token_file: Path | None,
    log_format: str,
    **more: Any,
) -> None:
    """Have the TorchServe on this machine serve what a shared model store says, until Ctrl-C.

    The agent fills the folder --store, which `ouzel up` on this machine serves, and has TorchServe load, try and unload
    versions. It tells in the shared store what is served; `ouzel agents` shows it.
    """
    from ouzel.agent import agent
    from ouzel.agent.options import AgentOptions, host_name

    logs.configure(log_format=log_format)
    options = AgentOptions(
        more["from"],
        store,
        state or state_dir(),
        node or host_name(),
        serving_rest,
        serving_management,
        serving_key_file,
        interval,
        metrics_of(metrics_port, metrics_host, metrics_token_file),
    )
    if once:
        found = agent.run_once(options)
        click.echo(logs.event(f"{found} models of {options.source} are in {options.store}.", name="ouzel.agent"))
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    words = f"{options.node} follows {options.source}. Ctrl-C stops the agent; what is served stays."
    click.echo(logs.event(words, name="ouzel.agent"))
    agent.run(options, stop)


@click.command(cls=Command)
@store_place
@json_option
def agents(store: str | Path, as_json: bool) -> None:
    """Show the serving agents of a model store: when they were last heard of, what they serve, what is wrong.

    Exit status: 0 all are well, 4 one is silent, has no TorchServe, or cannot serve something.
    """
    reports, now = parse_reports(open_registry(store).reports()), time.time()
    if as_json:
        print_json([_plain(each) for each in reports])
    else:
        print_table(_COLUMNS, (_row(each, now) for each in reports), empty=f"No agent has told anything in {store}.")
        for each in reports:
            for version, error in sorted(each.errors.items()):
                click.echo(f"{each.node}: {version}: {error}", err=True)
    if any(now - each.seen > _SILENT or not each.serving or each.note or each.errors for each in reports):
        raise SystemExit(4)


def _row(report: AgentReport, now: float) -> tuple[object, ...]:
    age = max(now - report.seen, 0.0)
    seen = f"{age:.0f} s ago" if age < 120 else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.seen))
    counts = [each.state for versions in report.versions.values() for each in versions.values()]
    serving = "silent" if age > _SILENT else "up" if report.serving else "down"
    return report.node, seen, serving, counts.count(Serves.SERVED), counts.count(Serves.FAILED) or "", report.note


def _plain(report: AgentReport) -> dict[str, Any]:
    return {
        "node": report.node,
        "seen": report.seen,
        "serving": report.serving,
        "note": report.note,
        "models": {
            name: {
                "default": report.defaults.get(name),
                "versions": {
                    version: {"state": str(each.state), "sha256": each.sha256, "error": each.error}
                    for version, each in versions.items()
                },
            }
            for name, versions in report.versions.items()
        },
    }


if __name__ == "__main__":
    serving_agent(prog_name="ouzel serving-agent")
