"""What models are for, by name. No torch: commands and services use the names too."""

from __future__ import annotations

from typing import Literal, get_args

from ouzel.checks import one_of
from ouzel.errors import FailedPrecondition

Task = Literal["classification", "segmentation", "detection"]
TASKS: tuple[Task, ...] = get_args(Task)
CLASSIFICATION: Task = "classification"
SEGMENTATION: Task = "segmentation"
DETECTION: Task = "detection"
_KINDS: dict[Task, str] = {
    CLASSIFICATION: "a classifier",
    SEGMENTATION: "a segmentation model",
    DETECTION: "a detector",
}


def check_task(field: str, value: object) -> Task:
    """The value, if it is one of TASKS.

    Args:
        field: The argument, as the caller knows it.
        value: What was given.

    Raises:
        InvalidArgument: It is another value; the message lists the names.
    """
    one_of(field, value, TASKS)
    return value  # type: ignore[return-value]  # one of them, as was just seen


def kind_of(task: Task) -> str:
    """A model of this task in words, with its article."""
    return _KINDS[task]


def need_task(task: Task, needed: Task, what: str, name: str, field: str = "model") -> None:
    """Refuse a model of another task.

    Args:
        task: Of the model.
        needed: Of the models that will do.
        what: That cannot be done with it, as the subject of a sentence in the plural.
        name: Of the model.
        field: Of the request, for the error.

    Raises:
        FailedPrecondition: The tasks differ.
    """
    if task != needed:
        raise FailedPrecondition(f"{field}: {name!r} is {kind_of(task)}; {what} need {kind_of(needed)}", field=field)
