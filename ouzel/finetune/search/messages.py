"""What the process that searches and those that compute trials tell each other; beside these, events of trainings."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ouzel.errors import FailedPrecondition
from ouzel.finetune.data import Example
from ouzel.finetune.distributed.group import device_of_rank
from ouzel.finetune.recipes import Recipe
from ouzel.models import Model
from ouzel.precision_names import Precision


@dataclass(frozen=True)
class Setup:
    """What all trials share; the first message to a worker.

    Attributes:
        base: What is tuned, without its network.
        network: Its network, of `torch.save`.
        examples: The images, which are asked for when they are wanted.
        seed: Of each training.
        image_size: As of `finetune`.
        batch_scale: As of `finetune`.
        precision: As of `finetune`.
        shares_head: Whether the logistic regression is the same in all trials.
        threads: Of torch. The rounding of sums may depend on it.
        gpu: Whether the base is on one. What trials come to depends on that, too.
    """

    base: Model
    network: bytes
    examples: Sequence[Example]
    seed: int
    image_size: int
    batch_scale: float
    precision: Precision
    shares_head: bool
    threads: int
    gpu: bool

    def model(self) -> Model:
        """The base where a worker computes: on the GPU that it was given, or on the CPU as the base itself."""
        device = device_of_rank() if self.gpu else torch.device("cpu")
        network = torch.load(io.BytesIO(self.network), map_location="cpu", weights_only=False)
        return dataclasses.replace(self.base, network=network.to(device))


@dataclass(frozen=True)
class Start:
    """A trial is to begin.

    Attributes:
        recipe: With its values.
    """

    recipe: Recipe


@dataclass(frozen=True)
class Verdict:
    """The answer to an Epoch.

    Attributes:
        stop: Whether the trial is to end.
    """

    stop: bool


@dataclass(frozen=True)
class Wanted:
    """A worker asks for an image.

    Attributes:
        sha256: Of the file.
    """

    sha256: str


@dataclass(frozen=True)
class Content:
    """The answer to Wanted.

    Attributes:
        sha256: Of the file.
        content: Of the file; or why the image cannot be used.
    """

    sha256: str
    content: bytes | Exception


@dataclass(frozen=True)
class Alive:
    """A sign of life of a worker."""


@dataclass(frozen=True)
class Epoch:
    """An epoch has ended, and the trial waits for a Verdict.

    Attributes:
        row: Its figures.
    """

    row: Mapping[str, float]


@dataclass(frozen=True)
class Ended:
    """A trial is over.

    Attributes:
        outcome: As of `Trial`.
        reason: That the loss was not finite; "" else.
    """

    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Failed:
    """A trial could not be computed.

    Attributes:
        error: Why.
    """

    error: Exception


def unread() -> bytes:
    """In place of an example's `read`, which no other process can have."""
    raise AssertionError("an image was read before a worker said how")


def parcel(base: Model) -> tuple[Model, bytes]:
    """A model without its network, and its network as bytes. Raises FailedPrecondition."""
    file = io.BytesIO()
    try:
        torch.save(base.network, file)
    except (AttributeError, TypeError, RuntimeError) as error:  # pickle's ways to refuse
        reason = f"workers: this network cannot be given to other processes ({error})"
        raise FailedPrecondition(reason, field="workers") from error
    return dataclasses.replace(base, network=nn.Identity(), card={}), file.getvalue()


def without_files(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Examples that other processes can have. A trial looks at no masks."""
    return tuple(dataclasses.replace(each, read=unread, read_mask=None, read_label_map=None) for each in examples)
