"""Photographs that images are compared with: those of a data set, or those that come with the worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ouzel.errors import InvalidArgument, NotFound
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import training_data
from ouzel.worker.kinds.context import JobInterrupted

if TYPE_CHECKING:
    from torch import Tensor

    from ouzel.finetune import Example
    from ouzel.models import Model
    from ouzel.worker.kinds.context import JobContext


@dataclass(frozen=True)
class Source:
    """Photographs as a model sees them.

    Attributes:
        images: Names and (C, H, W) in [0, 1].
        labels: By name. Filled before the first image is read.
    """

    images: Iterator[tuple[str, Tensor]]
    labels: dict[str, str] = field(default_factory=dict)


def check(dataset: str, catalogue: Catalogue) -> None:
    """Checks a folder of the operator, an upload or a URI. Raises InvalidArgument or NotFound."""
    if dataset in catalogue.datasets:
        return
    try:
        training_data.check(dataset, catalogue)
    except NotFound:
        held = ", ".join(sorted(catalogue.datasets)) or "none"
        raise NotFound(
            f"dataset: no data set {dataset!r:.80}; the operator's folders are {held}", field="dataset"
        ) from None


def of(dataset: str, model: Model, context: JobContext) -> Source:
    """The photographs of a data set that was checked. Raises OuzelError, when the images are read at the latest."""
    from ouzel.models.photographs import labels_of

    folder = context.environment.datasets.get(dataset)
    if folder is not None:
        try:
            labels = labels_of(folder)
        except InvalidArgument as error:
            raise _without(error, str(folder), dataset) from None
        return Source(_of_folder(dataset, model, context), labels)
    examples = training_data.examples(dataset, context, training=False)
    return Source(_of_examples(examples, model, context), {one.name: one.label for one in examples})


def shipped(model: Model) -> Source | None:
    """Those that come with the worker; None if there are none."""
    from ouzel.models.photographs import shipped as photographs

    if find_spec("skimage") is None:
        return None
    return Source((one.name, _seen(one.x, model)) for one in photographs(model.preprocessing))


def _of_folder(dataset: str, model: Model, context: JobContext) -> Iterator[tuple[str, Tensor]]:
    from ouzel.models.photographs import each_of_folder

    folder = context.environment.datasets[dataset]
    try:
        for one in each_of_folder(folder, model.preprocessing):
            _go_on(context)
            yield one.name, _seen(one.x, model)
    except InvalidArgument as error:  # it names the operator's folder, which is not the caller's business
        raise _without(error, str(folder), dataset) from None


def _of_examples(examples: Sequence[Example], model: Model, context: JobContext) -> Iterator[tuple[str, Tensor]]:
    from ouzel.images import decode

    for one in examples:
        _go_on(context)
        try:
            image = decode(one.read(), smallest=model.preprocessing.resize)
        except InvalidArgument:
            continue  # the report of the data set has told of it
        yield one.name, _seen(model.preprocessing(image), model)


def _go_on(context: JobContext) -> None:
    if context.stop_wanted():
        raise JobInterrupted


def _seen(x: Tensor, model: Model) -> Tensor:
    """(C, H, W) in [0, 1] of what the network takes."""
    import torch

    mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
    return (x * std + mean).clamp(0, 1)


def _without(error: InvalidArgument, folder: str, dataset: str) -> InvalidArgument:
    return InvalidArgument(f"dataset: {str(error).replace(folder, dataset)}", field="dataset")
