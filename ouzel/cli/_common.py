"""What several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.telemetry import logs
from ouzel_client.terminal import print_json

if TYPE_CHECKING:
    from ouzel.telemetry.metrics import MetricsOptions

__all__ = ["log_format", "metrics_of", "metrics_options", "print_json", "store"]

Option = Callable[..., Any]  # of a command: flag, help, and more

store = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="OUZEL_MODEL_STORE",
    default=Path("model_store"),
    show_default="./model_store",
    show_envvar=True,
    help="Folder with the model archives.",
)

log_format = click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    envvar=logs.VARIABLE,
    default=logs.TEXT,
    show_default=True,
    show_envvar=True,
    help="Lines of the log: text, or one JSON object each.",
)


def metrics_options(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say where the numbers of a process are read. option: makes options of the command."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        file = click.Path(dir_okay=False, path_type=Path)
        for made in (
            option("--metrics-token-file", "File with the token that readers of the metrics must show.", type=file),
            option(
                "--metrics-host", "Address of the metrics. Another than loopback needs a token.", default="127.0.0.1"
            ),
            option(
                "--metrics-port",
                "Port for GET /metrics; 0 selects a free one. [default: metrics are not served]",
                type=click.IntRange(0, 65535),
            ),
        ):
            command = made(command)
        return command

    return decorate


def metrics_of(port: int | None, host: str, token_file: Path | None) -> MetricsOptions | None:
    """What the options say. Raises InvalidArgument."""
    if port is None:
        return None
    from ouzel.telemetry.metrics import MetricsOptions

    return MetricsOptions(port, host, token_file)
