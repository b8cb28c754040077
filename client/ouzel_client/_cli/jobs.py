"""`ouzel maximize` and `ouzel search`: long work on the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ouzel_client._cli import plugins
from ouzel_client._cli.follow import client, cost_option, follow, notify_option
from ouzel_client._types import jobs as kinds
from ouzel_client._types.jobs import Node
from ouzel_client.arguments import label, node_options, nodes, setting
from ouzel_client.terminal import json_option
from ouzel_protos.recipes import MAXIMIZE, MAXIMIZE_DEFAULT

F = TypeVar("F", bound=Callable[..., Any])


def _common(command: F) -> F:
    """What `maximize` and `search` share."""
    for option in reversed(
        (
            click.argument("model", metavar="NAME[@VERSION]"),
            node_options,
            click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher runs first."),
            click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="To find the job by."),
            click.option(
                "--max-seconds", type=click.FloatRange(min=1), help="The job fails after it has run for so long."
            ),
            cost_option,
            notify_option,
            click.option("--request-id", help="The same one again gives the same job."),
            click.option(
                "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files of the job."
            ),
            click.option("--detach", is_flag=True, help="Do not wait: print the job's id."),
            json_option,
        )
    ):
        command = option(command)
    return command


class _Maximize(click.Command):
    """Hands over to the verb that needs no worker, if it is asked to."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if "--local" not in args:
            return super().make_context(info_name, args, parent, **extra)
        local = plugins.command("maximize-local")
        if local is None:
            raise click.ClickException("--local needs the distribution ouzel: pip install ouzel")
        rest = [arg for arg in args if arg != "--local"]
        return local.make_context(f"{info_name} --local", rest, parent, **extra)


@click.command(cls=_Maximize)
@click.option(
    "--local",
    is_flag=True,
    expose_value=False,
    help="Compute here instead, without a worker; `ouzel maximize --local --help` shows the options of that.",
)
@_common
@click.option("--recipe", default=MAXIMIZE_DEFAULT, show_default=True, help=f"One of {', '.join(MAXIMIZE)}.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the recipe: --set steps=512."
)
@click.option("--images", type=click.IntRange(min=1), default=1, show_default=True, help="Per node.")
@click.option("--size", type=int, nargs=2, metavar="H W", help="Pixels of the images. Default: the model's input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--judge", default="", metavar="NAME[@VERSION]", help="A second model, to say what it takes them for.")
@click.option(
    "--dataset",
    default="",
    help="Photographs to compare with: a name of the operator's, or the id of an upload. Default: the worker's own.",
)
@click.option("--path", is_flag=True, help="Tell if images of classes take the path of the data set's photographs.")
def maximize(
    model: str,
    *,
    recipe: str,
    settings: tuple[str, ...],
    images: int,
    size: tuple[int, int] | None,
    seed: int,
    judge: str,
    dataset: str,
    path: bool,
    **common: Any,
) -> None:
    """Seek the images that excite nodes of the model NAME most, in a job of the worker.

    Waits and shows the progress, unless --detach. Ctrl-C leaves the job running.
    """
    parameters = dict(setting(text) for text in settings)
    targets, options = _targets(common), _options(common)
    with client() as ouzel:
        job = ouzel.jobs.maximize(
            model,
            targets,
            recipe=recipe,
            parameters=parameters,
            images_per_target=images,
            size=size or None,
            seed=seed,
            judge=judge,
            dataset=dataset,
            path=path,
            **options,
        )
        follow(job, **common)


@click.command()
@_common
@click.option("--dataset", default="", help="Name of a data set. Default: the photographs that come with the worker.")
@click.option("--top-k", type=click.IntRange(min=1), default=9, show_default=True, help="Images per node.")
def search(model: str, dataset: str, top_k: int, **common: Any) -> None:
    """Find the images of a data set that excite nodes of the model NAME most, in a job of the worker."""
    targets, options = _targets(common), _options(common)
    with client() as ouzel:
        follow(ouzel.jobs.search_activations(model, targets, dataset=dataset, top_k=top_k, **options), **common)


def _targets(common: dict[str, Any]) -> list[Node]:
    return nodes(kinds, **{name: common.pop(name) for name in ("logits", "channels", "units", "directions")})


def _options(common: dict[str, Any]) -> dict[str, Any]:
    return {
        "priority": common.pop("priority"),
        "labels": dict(map(label, common.pop("labels"))),
        "max_duration": common.pop("max_seconds"),
        "max_cost": common.pop("max_cost"),
        "request_id": common.pop("request_id"),
        "notify": common.pop("notify"),
    }
