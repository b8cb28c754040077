"""What several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.buckets import is_bucket, is_url
from ouzel.registry.opening import mirrored
from ouzel.telemetry import logs
from ouzel_client.terminal import print_json
from ouzel_protos.local import state_dir

if TYPE_CHECKING:
    from ouzel.registry.mirror import Mirror
    from ouzel.telemetry.metrics import MetricsOptions

__all__ = ["log_format", "metrics_of", "metrics_options", "opened", "print_json", "state", "store", "store_place"]

Option = Callable[..., Any]  # of a command: flag, help, and more


class StorePlace(click.Path):
    """A folder, or the URL of a bucket."""

    def __init__(self, *, buckets: bool) -> None:
        super().__init__(path_type=Path, file_okay=False)
        self._buckets = buckets

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not is_url(value):
            return super().convert(value, param, ctx)
        if not self._buckets:
            self.fail(f"{str(value)[:80]!r} is not a folder; `ouzel serving-agent` fills one from a bucket", param, ctx)
        if not is_bucket(value):
            self.fail(f"{str(value)[:80]!r} is not a folder or s3://BUCKET/PREFIX", param, ctx)
        return str(value)


def _store(help_: str, *, buckets: bool) -> Callable[..., Any]:
    return click.option(
        "--store",
        type=StorePlace(buckets=buckets),
        envvar="OUZEL_MODEL_STORE",
        default=Path("model_store"),
        show_default="./model_store",
        show_envvar=True,
        help=help_,
    )


store = _store("Folder with the model archives.", buckets=False)
store_place = _store("Folder with the model archives, or s3://BUCKET/PREFIX.", buckets=True)


def state(help_: str, **more: Any) -> Callable[..., Any]:
    """The option `--state`; None is the usual folder. help_: which folder it is, in a sentence."""
    return click.option(
        "--state",
        envvar="OUZEL_STATE",
        show_envvar=True,
        type=click.Path(file_okay=False, path_type=Path),
        help=f"{help_} [default: ~/.local/state/ouzel on Linux]",
        **more,
    )


def opened(place: str | Path, state: Path | None = None) -> tuple[Path, Mirror | None]:
    """What `ModelFiles` and `ModelStore` take, for a place that `store_place` gave."""
    return mirrored(place, (state or state_dir()).expanduser().absolute() / "fetched")


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
