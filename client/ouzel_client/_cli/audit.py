"""`ouzel audit`: one prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ouzel_client._cli.follow import client
from ouzel_client._cli.plugins import Verb
from ouzel_client.terminal import Column, json_option, print_facts, print_json, print_table

if TYPE_CHECKING:
    from ouzel_client._types.audit import PredictionAudit

_EFFECTS = (
    Column("replaced"),
    Column("by"),
    Column("control", right=True),
    Column("after", right=True),
    Column("effect", right=True),
    Column("other class", right=True),
    Column("pictures", right=True),
)
_REGIONS = {"mask": "by the mask", "boxes": "by the boxes", "nominated": "nominated by the map"}
_file = click.Path(dir_okay=False, path_type=Path)


def _box(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> list[tuple[float, ...]]:
    boxes: list[tuple[float, ...]] = []
    for text in texts:
        try:
            left, top, right, bottom = (float(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not LEFT,TOP,RIGHT,BOTTOM in pixels") from None
        boxes.append((left, top, right, bottom))
    return boxes


@click.command(cls=Verb)
@click.argument("image", type=_file)
@click.option("--claimed", required=True, metavar="CLASS", help="What was decided: a label, or an index (index:N).")
@click.option("--model", metavar="NAME[@VERSION]", envvar="OUZEL_MODEL", show_envvar=True, help="A model of the store.")
@click.option("--endpoint", metavar="NAME", help="Another service that the worker's operator has registered.")
@click.option("--surrogate", metavar="NAME[@VERSION]", default="", help="Model of the store for the maps of others.")
@click.option("--mask", type=_file, help="An image of the same size, white on the object.")
@click.option(
    "--box", "boxes", multiple=True, metavar="L,T,R,B", callback=_box, help="Or where it is. May be repeated."
)
@click.option("--scene", is_flag=True, help="The class is a place, which may rest on its background.")
@click.option("--method", default="", help="Saliency method of the maps. Default: grad_cam.")
@click.option("--dataset", default="", metavar="ID", help="Data set with masks, for other backgrounds and objects.")
@click.option("--fill", "fills", multiple=True, metavar="KIND", help="blur, mean, texture. Default: all three.")
@click.option("--effect-margin", type=float, help="Share of the probability that counts as an effect. Default: 0.25.")
@click.option("--control-margin", type=float, help="Probability that controls must leave. Default: 0.1.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--organisation", default="", help="Named on the page for the person concerned.")
@click.option("--contact", default="", help="Whom this person may ask.")
@click.option(
    "--save", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for record and pictures."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Seconds."
)
@json_option
def audit(
    image: Path,
    *,
    model: str | None,
    endpoint: str | None,
    boxes: list[Any],
    fills: tuple[str, ...],
    effect_margin: float | None,
    control_margin: float | None,
    folder: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Tell whether a prediction rests on the object, or on what is behind it.

    Changed pictures decide: the background is replaced, and the object, each against a control. Without --mask or --box
    the map marks a region, which is weaker evidence.

    The exit status is 0 whatever the verdict is. A file that is named as a verb below this one (`ouzel --help` lists
    them) is given as ./sink.
    """
    if endpoint and click.get_current_context().get_parameter_source("model") is not ParameterSource.COMMANDLINE:
        model = None  # OUZEL_MODEL says nothing about endpoints
    if bool(endpoint) == bool(model):
        raise click.UsageError("whose prediction? Give --model or --endpoint, one of them")
    asked |= {"endpoint": endpoint} if endpoint else {"model": model}
    if boxes and asked["mask"] is not None:
        raise click.UsageError("where is the object? Give --mask or --box, one of them")
    chosen = {"fills": fills or None, "effect_margin": effect_margin, "control_margin": control_margin}
    asked |= {name: value for name, value in chosen.items() if value is not None}
    with client() as ouzel:
        result = ouzel.audit(image, boxes=boxes, pictures=folder is not None, **asked)
        files = [str(path) for path in result.save(folder)] if folder is not None else []
    if as_json:
        print_json(_document(result) | ({"files": files} if files else {}))
        return
    _print(result)
    if files:
        click.echo(f"wrote {len(files)} files into {folder}")


def _print(result: PredictionAudit) -> None:
    agreement = result.agreement
    facts = {
        "verdict": result.verdict + (" (of concern)" if result.concern else ""),
        "reason": result.reason,
        "source": result.source,
        "claimed": f"{agreement.claimed.label} {agreement.claimed.probability:.3f}, rank {agreement.rank + 1}",
        "rival": f"{agreement.rival.label} {agreement.rival.probability:.3f}",
        "object": f"{result.object_share:.1%} of the picture, {_REGIONS[result.mask_source]}",
        "maps": result.maps_from,
    }
    if result.ledger is not None:
        facts["ledger"] = f"entry {result.ledger.index}"
    figures = result.maps[0].faithfulness if result.maps else None
    if figures is not None:
        better = "better" if figures.better_than_random else "not better"
        facts["faithfulness"] = (
            f"deletion {figures.deletion:.3f} (random {figures.random_deletion:.3f}), insertion "
            f"{figures.insertion:.3f} (random {figures.random_insertion:.3f}): {better} than random"
        )
    if (compared := result.reported_map) is not None:
        facts["reported map"] = (
            f"rank correlation {compared.rank_correlation:.2f}, top overlap {compared.top_overlap:.2f}"
        )
    print_facts(facts)
    click.echo()
    print_table(
        _EFFECTS,
        [
            (
                each.change,
                each.kind,
                f"{each.control:.3f}",
                f"{each.probability:.3f}",
                f"{each.effect:+.3f}",
                f"{each.flips:.0%}",
                each.pictures,
            )
            for each in result.effects
        ],
        empty="No change has a control.",
    )
    for limit in result.limits:
        click.echo(limit)


def _document(result: PredictionAudit) -> dict[str, Any]:
    import json

    return {
        "record": json.loads(result.record),
        "record_sha256": result.record_sha256,
        "ledger": result.ledger.document() if result.ledger else None,
        "verdict": result.verdict,
        "reason": result.reason,
        "concern": result.concern,
    }
