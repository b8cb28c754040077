"""Arguments that several methods of jobs share, stated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from ouzel_client._types.jobs import Promotion
from ouzel_protos.search import Searched


class JobOptions(TypedDict, total=False):
    """Options of every job.

    Attributes:
        priority: Jobs of a higher priority run first; -100 to 100, 0 by default.
        labels: Texts by name, to find the job by.
        max_duration: The job fails after it has run for this many seconds, 1 to 2,592,000. None, the default, sets no
            limit.
        max_cost: What the job may cost, in seconds of running (GPU seconds, where it has a GPU), 1 to 2,592,000. It is
            refused if jobs like it took more, and fails once it has cost so much. None, the default, sets no limit.
        request_id: At most 128 characters. A repeated call with the same one gives the same job. A new one is made up
            by default.
        notify: An address that is told of each change of the job's state, as a webhook (Standard Webhooks). The
            worker's operator must admit it. Nobody by default.
        timeout: Seconds that the call may take, retries included. None, the default, is the client's.
    """

    priority: int
    labels: Mapping[str, str]
    max_duration: float | None
    max_cost: float | None
    request_id: str | None
    notify: str
    timeout: float | None


class FinetuneOptions(JobOptions, total=False):
    """Options of a fine-tuning job, besides those of every job. None is as if an option was not given.

    Attributes:
        name: The name of the new model. If there is a model of this name, the new one becomes its next version.
        recipe: "feature_extractor", "fine_tune", "lp_ft" (the default) or "scratch"; "segment" for the class of each
            pixel, from what `client.datasets.upload_masked` returns; "detect" for boxes of objects, from what
            `client.datasets.upload_boxed` returns; `repair` uses "debias" and "debias_all".
        promote: Whether callers who name no version get the new one. "if_better" by default. "if_grounded" asks a gate:
            it must not be less right than the present default, nor rest more on backgrounds. That needs a data set with
            masks or boxes. The first version of a name that does not pass has no callers but those who name it.
        accuracy_margin: With "if_grounded", how much less right it may be, as a share of the held-out images, 0.001 to
            0.5; 0.02 by default.
        reliance_margin: With "if_grounded", the share of images that backgrounds may turn, 0.01 to 1; 0.2 by default.
        scenes: With "if_grounded", labels of classes that are places: they may rest on their background.
        early: With "lp_ft", "segment" and "detect": the head alone, learnt on frozen features, is published as a
            version before all layers learn. What they come to becomes the next version only if it is better on
            the held-out images. `promote` holds for each of the two. False by default.
        parameters: Parameters of the recipe by name.
        search: Parameters of "lp_ft", "fine_tune" or "scratch" that are searched, by name: (low, high), (low, high,
            "log") or a list of values. Trials learn from a part of the training images and are compared on the rest of
            these; then the best values are used. Nothing by default.
        trials: How many values are tried, 1 to 256; 16 by default. Bad ones are stopped early.
        workers: Processes that compute the training together, each in a slot of the worker or the cluster, 1 to 64. The
            result is that of one but for rounding. With `search`, so many trials run at a time. 1 by default. Each
            counts for quotas and cost.
        seed: Of the split and of everything random; 0 by default.
        max_training_seconds: Training ends after this many seconds with the best that it has. 0, the default, sets no
            limit.
        image_size: Pixels along each edge of the input. 0, the default, is that of the base.
        like: A tuned model, "NAME" or "NAME@VERSION", whose run is repeated: with the same base, data set, recipe,
            parameters, seed and so on, except for what is given besides. Each of `parameters` counts by itself; with
            another recipe, those of the repeated run are not used.
    """

    name: str | None
    recipe: str | None
    promote: Promotion | None
    accuracy_margin: float | None
    reliance_margin: float | None
    scenes: Sequence[str] | None
    early: bool | None
    parameters: Mapping[str, float | bool] | None
    search: Mapping[str, Searched | tuple[float, float] | tuple[float, float, str] | Sequence[float | bool]] | None
    trials: int | None
    workers: int | None
    seed: int | None
    max_training_seconds: float | None
    image_size: int | None
    like: str | None


class RepairOptions(JobOptions, total=False):
    """Options of a repair, besides those of every job. None is as if an option was not given.

    Attributes:
        name: The name of the new version; that of the repaired model by default.
        layers: Which layers learn: the "last" (the default), which takes a minute, or "all".
        promote: As of `FinetuneOptions`; "if_grounded" by default.
        accuracy_margin: As of `FinetuneOptions`.
        reliance_margin: As of `FinetuneOptions`, also of the audits before and after.
        scenes: As `reliance_margin`.
        parameters: Of the recipe by name: per_class, heads, sparse, ...; docs/finetune.md lists them.
        seed: Of the split and of everything random. That of the run that made the model by default, so that what was
            held out then is held out now; 0 if nobody knows.
        max_training_seconds: As of `FinetuneOptions`.
    """

    name: str | None
    layers: Literal["last", "all"] | None
    promote: Promotion | None
    accuracy_margin: float | None
    reliance_margin: float | None
    scenes: Sequence[str] | None
    parameters: Mapping[str, float | bool] | None
    seed: int | None
    max_training_seconds: float | None


# Those that describe the run itself.
FINETUNE = tuple(name for name in FinetuneOptions.__annotations__ if name not in (*JobOptions.__annotations__, "like"))
REPAIR = tuple(name for name in RepairOptions.__annotations__ if name not in JobOptions.__annotations__)


def check_names(method: str, options: JobOptions, known: type) -> None:
    """Raises TypeError for an unknown option, as a signature would; options that are passed on have no signature."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
