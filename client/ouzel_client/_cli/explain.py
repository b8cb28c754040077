"""`ouzel explain`: the options of the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel_client.errors import OuzelError

if TYPE_CHECKING:
    from ouzel_client._cli.explanations import Row


@click.command()
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
    "--rank", type=click.IntRange(min=0), help="Explain what has this place in the prediction; 0 is the best."
)
@click.option(
    "--box",
    metavar="L,T,R,B",
    help="Of a segmentation model: explain over this box, in pixels of the image. Of a detector: --target in this box.",
)
@click.option("--pixel", metavar="X,Y", help="The same over one pixel.")
@click.option(
    "--mask", type=click.Path(path_type=Path), help="The same over a PNG mask of the image's size, 0 outside."
)
@click.option(
    "--reduction",
    type=click.Choice(["max_abs", "sum_abs", "signed_sum", "none"]),
    help="How channels become one value per pixel; none keeps them. Default: max_abs.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    help="How many classes to show. Default: 1, of segmentation models and detectors all that are there.",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Of a detector: leave out what is less probable.")
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
@click.option("--record", is_flag=True, help="Have the service record each answer in its log; --out saves the proofs.")
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
    rank: int | None,
    min_score: float | None,
    box: str | None,
    pixel: str | None,
    mask: Path | None,
    reduction: Any,
    top_k: int | None,
    size: Any,
    when_score_below: float | None,
    out: Path | None,
    record: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Predict what images show, and explain why: one row per image, and pictures with --out."""
    from ouzel_client._cli import explanations as shown
    from ouzel_client._cli import options as parse
    from ouzel_client._types.saliency import When

    if record and out is None and not as_json:
        raise click.UsageError("--record: give --out, which saves the proofs, or --json, which prints them")
    region = parse.region(box, pixel, mask)
    common = {"target": parse.target(target, contrast, target_top, rank, region), "reduction": reduction, "size": size}
    options: dict[str, Any] = {
        "saliency": parse.saliency(methods or ("guided", "grad_cam"), common),
        "top_k": top_k,
        "min_score": min_score,
        "when": When(score_below=when_score_below) if when_score_below is not None else None,
        "record": record,
        "timeout": timeout,
    }
    show = shown.print_documents if as_json else shown.print_rows
    try:
        failed = show(_rows(images, model or shown.only_model(), out, options))
    except (OuzelError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    if failed:
        sys.exit(1)


def _rows(images: Sequence[Path], model: str, out: Path | None, options: dict[str, Any]) -> Iterator[Row]:
    from ouzel_client._cli import explanations as shown
    from ouzel_client._sync._client import Client

    stems = shown.stems(images)
    with Client() as ouzel:
        results = ouzel.models[model].explain_many(images, on_error="return", **options)
        for path, stem, given in zip(images, stems, results, strict=True):
            result = shown.first(given) if options["top_k"] is None else given
            files = [] if out is None or isinstance(result, OuzelError) else shown.write(result, out, stem)
            yield path, result, files
