"""`ouzel finetune` and `ouzel repair`: from images to a served model, in a job of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ouzel_client._cli.datasets import LINKS, Kind, dataset_of
from ouzel_client._cli.follow import client, cost_option, follow, notify_option
from ouzel_client._types.jobs import Promotion
from ouzel_client.arguments import setting
from ouzel_client.terminal import json_option, print_json
from ouzel_protos.recipes import DETECT, EARLY, FINETUNE, FINETUNE_DEFAULT, REPAIRS, SEGMENT
from ouzel_protos.search import TRIALS_DEFAULT, BadSearch, Searched, read

if TYPE_CHECKING:
    from ouzel_client._sync._job import Job
    from ouzel_client._types.grounding import Repair

F = TypeVar("F", bound=Callable[..., Any])
_KINDS: Mapping[str, Kind] = {SEGMENT: "masks", DETECT: "boxes"}
_RECIPES = ", ".join(name for name in FINETUNE if name not in REPAIRS.values())


def gate_options(promote: str) -> Callable[[F], F]:
    """The options of the promotion, and of its gate. promote: what is meant if none is given."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--promote",
                    type=click.Choice(get_args(Promotion)),
                    help=f"Whether callers who name no version get the new one.  [default: {promote}]",
                ),
                click.option(
                    "--accuracy-margin",
                    type=float,
                    help="With if_grounded: how much less right it may be, as a share.  [default: 0.02]",
                ),
                click.option(
                    "--reliance-margin",
                    type=float,
                    help="With if_grounded: share of images that backgrounds may turn.  [default: 0.2]",
                ),
                click.option(
                    "--scene",
                    "scenes",
                    multiple=True,
                    metavar="LABEL",
                    help="With if_grounded: a class that is a place.",
                ),
            )
        ):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("source", required=False)
@click.option("--base", help="The model to start from: NAME or NAME@VERSION.")
@click.option("--name", help="Name of the new model. An existing tuned model gets its next version.")
@click.option(
    "--like", metavar="NAME[@VERSION]", help="Repeat the run that made this model, except for what is given besides."
)
@click.option(
    "--recipe",
    help=f"One of {_RECIPES}.  [default: {FINETUNE_DEFAULT}]",
)
@gate_options("if_better")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the recipe: --set epochs=10."
)
@click.option(
    "--search",
    "searched",
    multiple=True,
    metavar="NAME=LOW:HIGH[:log]",
    help="A parameter that is searched, also NAME=VALUE,VALUE: --search learning_rate=1e-5:1e-2:log.",
)
@click.option("--trials", type=int, help=f"With --search: how many values are tried.  [default: {TRIALS_DEFAULT}]")
@click.option(
    "--workers",
    type=int,
    help="Processes that train together, each in a slot of its own; with --search, trials at a time.  [default: 1]",
)
@click.option(
    "--early/--no-early",
    default=None,
    help=f"Publish the head alone before all layers learn ({', '.join(EARLY)}); the rest only if it is better.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the split and of everything random.  [default: 0]")
@click.option("--max-training-seconds", type=click.FloatRange(min=0), help="Longest training, in seconds.")
@click.option("--image-size", type=click.IntRange(min=0), help="Pixels along each edge of the new input.")
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of PNG masks.")
@click.option("--follow-links", is_flag=True, help=LINKS)
@click.option("--check", "only_check", is_flag=True, help="Check the images, and train nothing.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--detach", is_flag=True, help="Do not wait: print the job's id.")
@cost_option
@notify_option
@json_option
def finetune(
    source: str | None,
    *,
    base: str | None,
    name: str | None,
    like: str | None,
    settings: tuple[str, ...],
    searched: tuple[str, ...],
    masks: Path | None,
    follow_links: bool,
    only_check: bool,
    out: Path | None,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier of the images of SOURCE from BASE. SOURCE is a folder, a zip file, or the id of a data set.

    With --recipe segment, the class of each pixel is learnt: SOURCE has images/ and masks/. With --recipe detect, boxes
    of objects are learnt: SOURCE has images/, and boxes.csv or annotations.json.

    Waits and shows the progress, unless --detach. Ctrl-C leaves the job running.

    With --like, everything that is not given is as in the run that made that model: base, data set, recipe,
    parameters, seed, size and name.
    """
    from ouzel_client._codec.datasets import report_of

    for option, value in (("SOURCE", source), ("--base", base), ("--name", name)):
        if like is None and value is None:
            raise click.UsageError(f"Missing {option}; or repeat a run with --like.")
    if masks is not None and source is None:
        raise click.UsageError("--masks: need SOURCE, the images that they belong to")
    options |= {"parameters": dict(setting(text) for text in settings) or None, "name": name, "like": like}
    options |= {"scenes": options["scenes"] or None, "search": _space(searched)}
    with client() as ouzel:
        dataset = source
        if source is not None:
            kind = _KINDS.get(options.get("recipe") or "", "labels")
            dataset = dataset_of(ouzel, source, masks=masks, kind=kind, follow_links=follow_links, as_json=as_json)
        if only_check:
            report = ouzel.jobs.check_finetune(base, dataset, **options)
            print_json(report) if as_json else click.echo(report_of(report))
            if not report["usable"]:
                raise click.exceptions.Exit(1)
            return
        job = ouzel.jobs.finetune(base, dataset, **options)
        follow(job, detach=detach, out=out, as_json=as_json)
        if not detach and not as_json:
            click.echo(outcome(job))


@click.command()
@click.argument("model", metavar="NAME[@VERSION]")
@click.argument("source", required=False)
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of PNG masks.")
@click.option("--name", help="Name of the new version.  [default: that of the model]")
@click.option("--layers", type=click.Choice(list(REPAIRS)), help="Which layers learn.  [default: last]")
@gate_options("if_grounded")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the recipe: --set per_class=480."
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the split and of everything random.")
@click.option("--max-training-seconds", type=click.FloatRange(min=0), help="Longest training, in seconds.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--detach", is_flag=True, help="Do not wait: print the job's id.")
@cost_option
@notify_option
@json_option
def repair(
    model: str,
    source: str | None,
    *,
    masks: Path | None,
    settings: tuple[str, ...],
    scenes: tuple[str, ...],
    out: Path | None,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the model NAME on its objects before other backgrounds, and audit it before and after.

    SOURCE is a folder or a zip file of images, or the id of a data set; its images, or some of each class, have masks
    or boxes. Without SOURCE the model learns from the images that it has learnt from before; the same ones are held
    out.

    The new version becomes the default only if the gate passes it, unless --promote says something else. Waits and
    shows the progress, unless --detach. Ctrl-C leaves the job running. The exit status is 0 whatever the gate says.
    """
    if masks is not None and source is None:
        raise click.UsageError("--masks: need SOURCE, the images that they belong to")
    options |= {"parameters": dict(setting(text) for text in settings) or None, "scenes": scenes or None}
    with client() as ouzel:
        dataset = None if source is None else dataset_of(ouzel, source, masks=masks, as_json=as_json)
        job = ouzel.jobs.repair(model, dataset, **options)
        follow(job, detach=detach, out=out, as_json=as_json)
        if not detach and not as_json:
            click.echo(outcome(job))


def _space(texts: tuple[str, ...]) -> dict[str, Searched] | None:
    """What is searched; None for nothing. Raises click.BadParameter."""
    space: dict[str, Searched] = {}
    for text in texts:
        try:
            name, each = read(text)
        except BadSearch as error:
            raise click.BadParameter(str(error), param_hint="--search") from None
        if name in space:
            raise click.BadParameter(f"{name:.80} comes twice", param_hint="--search")
        space[name] = each
    return space or None


def outcome(job: Job) -> str:
    """What came of a job that tunes, in a few lines."""
    from ouzel_client._types.jobs import FinetuneResult

    result = job.result(pictures=False)
    if not isinstance(result, FinetuneResult):
        raise TypeError(f"{job.id} is of kind {job.kind}")
    if result.promoted:
        promoted = "it is the default"
    else:
        model = f"{result.model}@{result.version}"
        promoted = f"it is not the default, `ouzel models --worker promote {model}` makes it that"
    served = "" if result.served else "; not served yet"
    lines = [f"{result}; {promoted}{served}"]
    if result.early is not None:
        lines.append(
            f"Published first: {result.model}@{result.early.first.version}. The training is {result.early.reason}"
        )
    if result.search is not None:
        best = result.search["best"]
        values = ", ".join(f"{name} {value:g}" for name, value in sorted(best["parameters"].items()))
        lines.append(f"Search: trial {best['number']:g} of {result.search['trials']:g} was the best, with {values}")
    if result.gate is not None:
        lines.append(f"Gate {'passed' if result.gate.passed else 'not passed'}: {result.gate.reason}")
    if result.repair is not None:
        lines.append(f"Repair: {_change(result.repair)}")
    return "\n".join((*lines, *result.notes))


def _change(repair: Repair) -> str:
    figures = (
        ("accuracy", repair.before.accuracy, repair.after.accuracy),
        ("worst group", repair.before.worst_group, repair.after.worst_group),
        ("background gap", repair.before.background_gap, repair.after.background_gap),
        ("reliance on backgrounds", repair.before.reliance, repair.after.reliance),
    )
    told = [
        f"{name} {100 * before:.0f} % before, {100 * after:.0f} % after"
        for name, before, after in figures
        if before is not None and after is not None
    ]
    return "; ".join(told) or "nothing could be tried before other backgrounds"
