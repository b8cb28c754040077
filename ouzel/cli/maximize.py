"""`ouzel maximize --local`: images that excite nodes of a model of the store, sought in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._common import opened
from ouzel.cli._common import store_place as store_option
from ouzel.cli._errors import Command
from ouzel_client.arguments import node_options, setting
from ouzel_client.arguments import nodes as nodes_of
from ouzel_client.terminal import print_json, shown, stages
from ouzel_protos.recipes import MAXIMIZE, MAXIMIZE_DEFAULT

if TYPE_CHECKING:
    from torch import Tensor

    from ouzel.maximize import Ranking, Result, Step
    from ouzel.maximize.report.gallery import Tile
    from ouzel.models import Model


@click.command("maximize-local", cls=Command, hidden=True)  # the older name of `ouzel maximize --local`
@click.argument("model")
@node_options
@click.option("--recipe", default=MAXIMIZE_DEFAULT, show_default=True, help=f"One of {', '.join(MAXIMIZE)}, dataset.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Of the recipe: --set steps=512.")
@click.option("--images", type=click.IntRange(min=1), default=1, show_default=True, help="Per node.")
@click.option("--size", type=int, nargs=2, metavar="H W", help="Pixels of the images. Default: the model's input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of photographs, or of folders named by their class: compared with; for maco also the source of the "
    "spectrum; searched by dataset.",
)
@click.option("--judge", metavar="NAME", help="A second model of the store, which says what it takes the images for.")
@click.option("--path", is_flag=True, help="Tell if images of classes take the path of the photographs of --data.")
@store_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("maximized"),
    show_default=True,
    help="Folder for what is found.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def maximize(
    *,
    model: str,
    logits: tuple[str, ...],
    channels: tuple[str, ...],
    units: tuple[str, ...],
    directions: tuple[str, ...],
    recipe: str,
    settings: tuple[str, ...],
    images: int,
    size: tuple[int, int] | None,
    seed: int,
    data: Path | None,
    judge: str | None,
    path: bool,
    store: str | Path,
    out: Path,
    as_json: bool,
) -> None:
    """Seek the images that excite nodes of MODEL most, all in one run.

    The recipe dataset makes no images: it finds those of --data, and the part of each that the node sees.

    Layers are those that `ouzel models show MODEL` lists. Writes OUT/<number>.png, tensors.npz (images and
    transparency), result.json (activations, history, parameters), sheet.png and sheet.html.
    """
    from ouzel import maximize as library
    from ouzel import models
    from ouzel.models.photographs import labels_of
    from ouzel.models.store import ModelStore

    nodes = nodes_of(library, logits=logits, channels=channels, units=units, directions=directions)
    loaded = models.load(ModelStore(*opened(store)).find(model))
    photographs = list(_photographs(data, loaded)) if data else None
    parameters = dict(setting(text, flags=False) for text in settings)
    if recipe == "dataset":
        if photographs is None or parameters or size or judge or path:
            raise click.UsageError("the recipe dataset needs --data, and takes no --set, --size, --judge or --path")
        assert data is not None
        rankings = library.search(loaded, nodes, photographs, top_k=images)
        _show(_write_crops(rankings, dict(photographs), out, loaded, data), out, as_json)
        return
    second = models.load(ModelStore(*opened(store)).find(judge)) if judge else None
    if recipe == "maco" and photographs:
        parameters["spectrum"] = library.spectrum_of(image for _, image in photographs)
    chosen = library.make_recipe(recipe, parameters)
    with _bar(chosen.steps, shown(as_json)) as on_step:
        result = library.maximize(
            loaded,
            nodes,
            recipe=chosen,
            images_per_target=images,
            size=size,
            seed=seed,
            on_step=on_step,
            data=photographs,
            data_labels=labels_of(data) if data else None,
            judge=second,
            path=path,
        )
    _show(_write(result, out, loaded), out, as_json)


def _show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    for line in report["warnings"]:
        click.echo(f"Warning: {line}", err=True)
    if as_json:
        print_json(report)
        return
    for one in report["found"]:
        best = one.get("best_of_data")
        beside = f" (best photograph: {best['activation']:.2f}, {best['name']})" if best else ""
        score = one.get("independent")
        said = f" ({score['model']}: rank {score['rank']}, {100 * score['probability']:.0f} %)" if score else ""
        click.echo(f"{out / one['file']}: {one['title']} {one['activation']:.2f}{beside}{said}")
    click.echo(f"{out / 'sheet.html'}: all of them")


def _photographs(folder: Path, model: Model) -> Iterator[tuple[str, Tensor]]:
    """The images of a folder as the model sees them, (C, H, W) in [0, 1]."""
    import torch

    from ouzel.models.photographs import from_folder

    mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
    for one in from_folder(folder, model.preprocessing):
        yield one.name, (one.x * std + mean).clamp(0, 1)


@contextmanager
def _bar(steps: int, show: bool) -> Iterator[Any]:
    with stages(show) as tell:
        tell("maximizing", 0, steps)

        def on_step(step: Step) -> None:
            mean = sum(step.activations) / len(step.activations)
            tell("maximizing", step.step, steps, f"mean activation {mean:.2f}")

        yield on_step


def _write(result: Result, out: Path, model: Model) -> dict[str, Any]:
    import numpy as np

    from ouzel.maximize import judge
    from ouzel.maximize.report import gallery, of_result

    verdicts = judge(model, result.visualizations)
    files = _write_pictures([one.image for one in result.visualizations], out)
    np.savez_compressed(
        out / "tensors.npz",
        images=np.stack([one.image.numpy() for one in result.visualizations]),
        transparency=np.stack([one.transparency.numpy() for one in result.visualizations]),
    )
    report = {"model": model.name, **of_result(result, files, verdicts)}
    facts = {"seed": result.seed, "precision": result.precision, "model": model.name, "digest": model.digest}
    _write_sheet(gallery.tiles_of(result.visualizations, verdicts), report, out, facts, report["recipe"])
    return report


def _write_crops(
    rankings: tuple[Ranking, ...], images: dict[str, Tensor], out: Path, model: Model, folder: Path
) -> dict[str, Any]:
    from ouzel.maximize.report import gallery, of_rankings
    from ouzel.models.photographs import whole

    tiles = gallery.crops_of(rankings, images, lambda name: whole(name, folder), model.preprocessing)
    files = _write_pictures([tile.image for tile in tiles], out)
    report = {"model": model.name, "images": len(images), **of_rankings(rankings, files)}
    facts = {"data": str(folder), "images looked at": len(images), "precision": report["precision"]}
    facts |= {"model": model.name, "digest": model.digest}
    _write_sheet(tiles, report, out, facts)
    return report


def _write_pictures(images: list[Tensor], out: Path) -> list[str]:
    from ouzel.maximize.report import gallery

    out.mkdir(parents=True, exist_ok=True)
    files = [f"{number:03}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        (out / file).write_bytes(gallery.png(gallery.picture(image)))
    return files


def _write_sheet(
    tiles: list[Tile], report: dict[str, Any], out: Path, facts: dict[str, Any], recipe: dict[str, Any] | None = None
) -> None:
    from ouzel import pages
    from ouzel.maximize.report import gallery

    title, warnings = f"What excites {report['model']}", report["warnings"]
    (out / "sheet.png").write_bytes(gallery.png(gallery.sheet(tiles)))
    page = gallery.page(tiles, title, recipe=recipe, facts=facts, warnings=warnings)
    (out / "sheet.html").write_text(page, encoding="utf-8")
    (out / "result.json").write_text(pages.plain(json.dumps(report, ensure_ascii=False)), encoding="utf-8")
