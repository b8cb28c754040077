"""Which images of a data set excite a node most? Streaming, deterministic, and results of parts can be merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.nodes import Node, Readout

BATCH = 16


@dataclass(frozen=True)
class Hit:
    """An image of the data set that excites a node.

    Attributes:
        name: Of the image.
        activation: Of the node.
        box: (left, top, right, bottom), the part of the image, in pixels, that the most excited place of the layer
            sees; the whole image for a logit.
    """

    name: str
    activation: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Ranking:
    """The images that excite `node` most, best first; equal ones by name. title: the node in words."""

    node: Node
    title: str
    hits: tuple[Hit, ...]

    def merge(self, other: Ranking, top_k: int) -> Ranking:
        """The best of two parts of a data set. An image that is in both counts once."""
        hits = {hit.name: hit for hit in (*other.hits, *self.hits)}
        return Ranking(self.node, self.title, _best(hits.values(), top_k))


def search(
    model: models.Model | nn.Module,
    targets: Sequence[Node],
    images: Iterable[tuple[str, Tensor]],
    *,
    top_k: int = 9,
) -> tuple[Ranking, ...]:
    """Search the images of a data set that excite each node most.

    Args:
        model: A Model, or a module that takes values in [0, 1] as they are.
        targets: The nodes.
        images: Names, each once, and (C, H, W) in [0, 1], all of one size; read once, a few at a time.
        top_k: Hits per node, 1 to 10000.

    Returns:
        A ranking per target.

    Raises:
        InvalidArgument: An argument is wrong.
        NotFound: There is no such layer.
    """
    within("top_k", top_k, 1, 10_000)
    if not targets:
        raise InvalidArgument("targets: name at least one node", field="targets")
    network: Truncated | None = None
    readouts: tuple[Readout, ...] = ()
    best: list[tuple[Hit, ...]] = [() for _ in targets]
    for names, batch in _batches(images):
        with models.computing():  # not while the images are read, which is the caller's
            if network is None:
                inputs = Inputs(model, (batch.shape[2], batch.shape[3]), batch.shape[1])
                network, readouts = inputs.open(targets)
            x = inputs.normalised(batch)
            with torch.no_grad():
                outputs = network(x)
            for number, read in enumerate(readouts):
                activations = read(outputs[read.layer]).tolist()
                hits = [Hit(name, value, (0, 0, 0, 0)) for name, value in zip(names, activations, strict=True)]
                kept = _best((*best[number], *hits), top_k)
                new = [hit for hit in kept if hit.name in names]
                boxes = {hit.name: _box(network, read, x[names.index(hit.name)]) for hit in new}
                best[number] = tuple(Hit(h.name, h.activation, boxes.get(h.name, h.box)) for h in kept)
    if network is None:
        raise InvalidArgument("images: give at least one image", field="images")
    return tuple(Ranking(node, read.title, hits) for node, read, hits in zip(targets, readouts, best, strict=True))


@models.computing()
def _box(network: Truncated, read: Readout, x: Tensor) -> tuple[int, int, int, int]:
    """The place of the layer that excites the node most, and the pixels with an influence on it."""
    leaf = x[None].detach().requires_grad_()
    output = network(leaf)[read.layer]
    height, width = x.shape[-2:]
    if output.ndim != 4:
        return (0, 0, width, height)
    weights = read.weights.to(output)
    places = (output * (weights if weights.ndim == 3 else weights[:, None, None])).sum(dim=1)[0]
    y, x_place = divmod(int(places.detach().flatten().argmax()), places.shape[1])
    if read.weights.ndim == 3:
        y, x_place = (int(i) for i in read.weights.sum(dim=0).nonzero()[0])
    (gradient,) = torch.autograd.grad(output[0, :, y, x_place].sum(), leaf)
    touched = gradient[0].abs().amax(dim=0) > 0
    if not touched.any():
        return (0, 0, width, height)
    rows, columns = touched.any(dim=1).nonzero().flatten(), touched.any(dim=0).nonzero().flatten()
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _best(hits: Iterable[Hit], top_k: int) -> tuple[Hit, ...]:
    return tuple(sorted(hits, key=lambda hit: (-hit.activation, hit.name))[:top_k])


def _batches(images: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[list[str], Tensor]]:
    source = iter(images)
    shape: torch.Size | None = None
    while rows := list(islice(source, BATCH)):
        for name, image in rows:
            shape = shape or image.shape
            if image.ndim != 3 or image.shape != shape or not image.is_floating_point():
                raise InvalidArgument(
                    f"images: {name} is {image.dtype} {tuple(image.shape)}, not floats {tuple(shape)}", field="images"
                )
        yield [name for name, _ in rows], torch.stack([image for _, image in rows])
