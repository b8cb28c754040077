"""Arguments that several methods of jobs share, stated once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from ouzel_client._types.jobs import Promotion


class JobOptions(TypedDict, total=False):
    """Options of every job.

    Attributes:
        priority: Jobs of a higher priority run first; -100 to 100, 0 by default.
        labels: Texts by name, to find the job by.
        max_duration: The job fails after it has run for this many seconds, 1 to 2,592,000. None, the default, sets no
            limit.
        request_id: At most 128 characters. A repeated call with the same one gives the same job. A new one is made up
            by default.
        timeout: Seconds that the call may take, retries included. None, the default, is the client's.
    """

    priority: int
    labels: Mapping[str, str]
    max_duration: float | None
    request_id: str | None
    timeout: float | None


class FinetuneOptions(JobOptions, total=False):
    """Options of a fine-tuning job, besides those of every job. None is as if an option was not given.

    Attributes:
        name: The name of the new model. If there is a model of this name, the new one becomes its next version.
        recipe: "feature_extractor", "fine_tune", "lp_ft" (the default) or "scratch".
        promote: Whether callers who name no version get the new one. "if_better" by default.
        parameters: Parameters of the recipe by name.
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
    parameters: Mapping[str, float | bool] | None
    seed: int | None
    max_training_seconds: float | None
    image_size: int | None
    like: str | None


# Those that describe the run itself.
FINETUNE = tuple(name for name in FinetuneOptions.__annotations__ if name not in (*JobOptions.__annotations__, "like"))


def check_names(method: str, options: JobOptions, known: type) -> None:
    """Raises TypeError for an unknown option, as a signature would; options that are passed on have no signature."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
