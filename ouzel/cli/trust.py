"""`ouzel models trust`: how far each method's maps of one model can be trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import opened
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Command
from ouzel_client.terminal import Column, plain, print_json, print_table, shown, stages
from ouzel_protos import local

if TYPE_CHECKING:
    from ouzel.models import Model
    from ouzel.trust import Photograph, TrustOptions, TrustReport

_ARROWS = {1: "↑", -1: "↓"}
_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@VERSION]")
@store_option
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Saliency method; may be repeated. Default: all."
)
@click.option("--images", type=_folder, help="Folder of photographs. Default: four of scikit-image.")
@click.option(
    "--masks",
    type=_folder,
    help="Folder of masks: same file stems and sizes as the images, bright where the object is.",
)
@click.option(
    "--quick", is_flag=True, help="Measure three methods with fewer steps: seconds instead of minutes, less precise."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the report as an HTML page with pictures.",
)
@click.option("--fresh", is_flag=True, help="Measure again instead of using a stored result.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trust(
    *,
    name: str,
    store: str | Path,
    methods: tuple[str, ...],
    images: Path | None,
    masks: Path | None,
    quick: bool,
    html: Path | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Measure how far a model's saliency maps can be trusted.

    The report has deletion, insertion, pointing game, energy inside the object, randomisation of the model, infidelity
    and max-sensitivity of each method. It compares them with an edge filter and a random map. docs/trust.md explains
    the measures. Results are stored: the same weights, photographs and options are measured only once.
    """
    if masks is not None and images is None:
        raise click.UsageError("--masks goes with --images")
    from dataclasses import replace

    from ouzel import models
    from ouzel.errors import FailedPrecondition
    from ouzel.metrics.robustness import need_packages
    from ouzel.models.store import ModelStore
    from ouzel.trust import QUICK, TrustOptions, from_folder, shipped

    options = QUICK if quick else TrustOptions()
    if methods:
        options = replace(options, methods=tuple(dict.fromkeys(methods)))
    model = models.load(ModelStore(*opened(store)).find(name))
    photographs = from_folder(images, model.preprocessing, masks) if images else shipped(model.preprocessing)
    need_packages()
    folder = local.state_dir() / "trust" / _key(model, photographs, options)
    if fresh or not (folder / "report.json").exists():
        _measure(model, photographs, options, folder, shown(as_json))
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise FailedPrecondition(f"{folder / 'report.json'} is damaged; measure again with --fresh") from error
    if html:
        html.write_bytes((folder / "report.html").read_bytes())
    if as_json:
        print_json(report)
    else:
        _print(report)
        if html:
            click.echo(f"wrote {html}")


def _key(model: Model, photographs: Sequence[Photograph], options: TrustOptions) -> str:
    """Names everything that the figures depend on."""
    tools = [f"{package} {version(package)}" for package in ("ouzel", "torch", "captum")]
    labels = hashlib.sha256("\n".join(model.labels).encode()).hexdigest()
    parts = [model.name, model.digest, labels, asdict(options), tools]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for one in photographs:
        digest.update(repr((one.name, one.x.shape, one.mask is None)).encode())
        digest.update(one.x.numpy().tobytes())
        if one.mask is not None:
            digest.update(one.mask.numpy().tobytes())
    return digest.hexdigest()[:32]


def _measure(model: Model, photographs: Sequence[Photograph], options: TrustOptions, folder: Path, show: bool) -> None:
    from ouzel import pages
    from ouzel.cli.trust_page import page
    from ouzel.trust import trust as measure

    with stages(show) as tell:

        def advance(method: str, done: int, total: int) -> None:
            tell(f"measuring {method}" if method else "measured", done, total)

        report = measure(model, photographs, options, on_progress=advance)
    for each in (local.state_dir(), folder):  # parents of what mkdir makes do not get its mode
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "report.html").write_text(page(report, photographs), encoding="utf-8")
    partial = folder / "report.json.partial"  # last, and in one piece: it says that the measurement is whole
    partial.write_text(pages.plain(json.dumps(_plain(report), ensure_ascii=False)), encoding="utf-8")
    partial.replace(folder / "report.json")


def _plain(report: TrustReport) -> dict[str, Any]:
    from dataclasses import replace

    return asdict(replace(report, scores=tuple(replace(score, maps=()) for score in report.scores)))


def _print(report: dict[str, Any]) -> None:
    from ouzel.trust.report import FIGURES

    columns = [Column("method"), *(Column(f"{name} {_ARROWS[way]}", right=True) for name, way in FIGURES.items())]
    print_table(columns, ([score["method"], *_figures(score, FIGURES)] for score in report["scores"]))
    for score in report["scores"]:
        for finding in [*score["fails"], *([score["problem"]] if score["problem"] else [])]:
            click.echo(plain(f"{score['method']}: {finding}"))
    seen = ", ".join(f"{photo} ({label})" for photo, label in report["photographs"])
    click.echo(plain(f"Measured on {seen}."))


def _figures(score: dict[str, Any], names: Iterable[str]) -> list[str]:
    return [f"{score['figures'][each]:.2f}" if each in score["figures"] else "-" for each in names]
