"""The `ouzel` command: `explain`, jobs, and the verbs that other distributions plug into it.

A distribution adds a verb as an entry point of group "ouzel.commands". It is loaded when it is run, and for the list of
verbs of `ouzel --help`: a module of verbs imports what is heavy in the functions that need it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel_client._cli import datasets as data
from ouzel_client._cli import jobs as work
from ouzel_client._cli.manage import jobs
from ouzel_client._cli.tuned import tuned
from ouzel_client.errors import OuzelError

if TYPE_CHECKING:
    from ouzel_client._cli.explain import Row

GROUP = "ouzel.commands"


class _Verbs(click.Group):
    """Our own commands, and those of the entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugged()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        entry = _plugged().get(cmd_name)
        if own or entry is None:
            return own
        try:
            command = entry.load()
        except Exception as error:  # a broken plug-in must not take the other verbs with it
            raise click.ClickException(f"{cmd_name}: {entry.value} cannot be loaded ({error})") from error
        if not isinstance(command, click.Command):
            raise click.ClickException(f"{cmd_name}: {entry.value} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its first sentence; a plug-in that is broken says so."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException as error:
                rows.append((name, error.message))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=200)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _plugged() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 failed or answered with no, 2 wrong usage, 130 Ctrl-C.",
)
@click.version_option(package_name="ouzel-client", prog_name="ouzel")
def main() -> None:
    """Serve image classifiers that can explain themselves."""


@main.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option(
    "--model", envvar="OUZEL_MODEL", help="NAME or NAME@VERSION. Default: OUZEL_MODEL, or the only one served."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="Saliency method, with parameters of its own: smoothgrad:samples=32,of=guided. An image is @ and its path: "
    "integrated_gradients:baseline=@grey.png. May be repeated. Default: guided and grad_cam.",
)
@click.option("--target", help="Class to explain: its label, or its index. Default: the predicted one.")
@click.option("--contrast", nargs=2, metavar="A B", help="Explain why class A and not class B.")
@click.option("--target-top", type=click.IntRange(min=1), help="Explain each of so many best classes, a map for each.")
@click.option(
    "--reduction",
    type=click.Choice(["max_abs", "sum_abs", "signed_sum", "none"]),
    help="How channels become one value per pixel; none keeps them. Default: max_abs.",
)
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="How many classes to show.")
@click.option(
    "--size",
    type=click.Choice(["model", "original"]),
    default="model",
    show_default=True,
    help="Resolution of the maps: that of the model's input, or of the image.",
)
@click.option("--when-score-below", type=click.FloatRange(0, 1), help="Explain only predictions less sure than this.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for <stem>.<method>.png, the overlays, and <stem>.npz, the tensors.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="Seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document per image and line.")
def explain(
    *,
    images: tuple[Path, ...],
    model: str | None,
    methods: tuple[str, ...],
    target: str | None,
    contrast: tuple[str, str] | None,
    target_top: int | None,
    reduction: Any,
    top_k: int,
    size: Any,
    when_score_below: float | None,
    out: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Predict what IMAGE... show, and why: one row per image, and pictures with --out."""
    from ouzel_client._cli import explain as shown
    from ouzel_client._cli import options as wishes
    from ouzel_client._types.saliency import When

    common = {"target": wishes.target(target, contrast, target_top), "reduction": reduction, "size": size}
    options: dict[str, Any] = {
        "saliency": wishes.saliency(methods or ("guided", "grad_cam"), common),
        "top_k": top_k,
        "when": When(score_below=when_score_below) if when_score_below is not None else None,
        "timeout": timeout,
    }
    show = shown.print_documents if as_json else shown.print_rows
    try:
        failed = show(_rows(images, model or shown.only_model(), out, options))
    except (OuzelError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    if failed:
        sys.exit(1)


for command in (work.maximize, work.search, jobs, data.datasets, data.finetune, tuned):
    main.add_command(command)


def _rows(images: Sequence[Path], model: str, out: Path | None, options: dict[str, Any]) -> Iterator[Row]:
    from ouzel_client._cli import explain as shown
    from ouzel_client._sync._client import Client

    stems = shown.stems(images)
    with Client() as ouzel:
        results = ouzel.models[model].explain_many(images, on_error="return", **options)
        for path, stem, result in zip(images, stems, results, strict=True):
            files = [] if out is None or isinstance(result, OuzelError) else shown.write(result, out, stem)
            yield path, result, files
