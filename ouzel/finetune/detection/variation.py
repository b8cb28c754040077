"""Variation of an image and its boxes together: the same crop, mirrored or not, then stretched to the input.

An object stays if its centre lies in the crop, and its box is cut at the crop's edges (as Liu et al. 2016 have it). A
crop in which no object of the image would stay is not taken; then the image is seen whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ouzel.finetune.data import Example
from ouzel.finetune.variation import Pixels, Variation, Views
from ouzel.saliency.transfer import sent


@dataclass(frozen=True)
class BoxedViews(Views):
    """Views of a batch with the boxes in them.

    Attributes:
        boxes: (n, 4) float32, of all images one after the other, in pixels of the input.
        labels: (n,) int64.
        counts: Boxes of each image.
    """

    boxes: Tensor
    labels: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device) -> BoxedViews:
        """On a device; the host does not wait for it."""
        moved = (sent(each, device) for each in (self.table, self.boxes, self.labels))
        table, boxes, labels = moved
        return BoxedViews(table, self.reach, boxes, labels, self.counts)

    def part(self, rows: slice) -> BoxedViews:
        """Of some of the images."""
        start, stop, _ = rows.indices(len(self.counts))
        first, last = sum(self.counts[:start]), sum(self.counts[:stop])
        boxes, labels = self.boxes[first:last], self.labels[first:last]
        return BoxedViews(self.table[rows], self.reach, boxes, labels, self.counts[rows])

    def targets(self) -> list[Mapping[str, Tensor]]:
        """Boxes and labels of each image."""
        pairs = zip(self.boxes.split(self.counts), self.labels.split(self.counts), strict=True)
        return [{"boxes": boxes, "labels": labels} for boxes, labels in pairs]


@dataclass(frozen=True)
class BoxedVariation:
    """Draws and makes views of images with boxes.

    Attributes:
        images: What is done to the images.
        examples: That are learnt from.
    """

    images: Variation
    examples: Sequence[Example]

    def draw(self, draw: Sequence[int], sizes: np.ndarray, rows: Sequence[int] = ()) -> BoxedViews:
        """See `Variation.draw`. rows: the places of the images among the examples."""
        views = self.images.draw(draw, sizes)
        table = views.table.numpy().copy()
        if self.images.crop >= 1:
            table[:, :4] = _whole(sizes)
        boxes, labels = [], []
        for number, row in enumerate(rows):
            example, size = self.examples[row], sizes[number]
            mine = _scaled(example, size)
            inside = _inside(mine, table[number])
            if len(mine) and not inside.any():
                table[number, :4] = _whole(size[None])[0]
                inside = _inside(mine, table[number])
            boxes.append(self._seen(mine[inside], table[number]))
            labels.append(np.array(example.box_labels, np.int64)[inside])
        return BoxedViews(
            torch.from_numpy(table),
            (int(table[:, 2].max()), int(table[:, 3].max())),
            torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
            torch.from_numpy(np.concatenate(labels)),
            tuple(map(len, boxes)),
        )

    def __call__(self, pixels: Pixels, views: Views) -> Tensor:
        """(B, C, H, W) float32, normalised."""
        return self.images(pixels, views)

    def _seen(self, boxes: np.ndarray, row: np.ndarray) -> np.ndarray:
        """(n, 4) in pixels of the input, of boxes in pixels of the whole image."""
        top, left, high, wide, mirrored = row[:5]
        height, width = self.images.preprocessing.input_size
        edges = np.clip(boxes - [left, top, left, top], 0, [wide, high, wide, high])
        edges = edges * [width / wide, height / high, width / wide, height / high]
        return np.stack([width - edges[:, 2], edges[:, 1], width - edges[:, 0], edges[:, 3]], 1) if mirrored else edges


def served_views(examples: Sequence[Example], size: tuple[int, int]) -> BoxedViews:
    """What the model sees of images: all of each. size: (height, width) of the input."""
    boxes = [_scaled(each, np.array(size)) for each in examples]
    labels = [np.array(each.box_labels, np.int64) for each in examples]
    return BoxedViews(
        torch.zeros(len(examples), 11),
        size,
        torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        torch.from_numpy(np.concatenate(labels)),
        tuple(map(len, boxes)),
    )


def _whole(sizes: np.ndarray) -> np.ndarray:
    """(B, 4) top, left, height, width of images (B, 2)."""
    return np.concatenate([np.zeros_like(sizes), sizes], 1)


def _scaled(example: Example, size: np.ndarray) -> np.ndarray:
    """(n, 4) boxes of an example whose image has (height, width) pixels now."""
    boxes = np.array(example.boxes, np.float64).reshape(-1, 4)
    across, down = size[1] / example.size[0], size[0] / example.size[1]
    return boxes * [across, down, across, down]


def _inside(boxes: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(n,) whether the centre of each lies in the crop."""
    top, left, high, wide = row[:4]
    x, y = boxes[:, [0, 2]].mean(1), boxes[:, [1, 3]].mean(1)
    return (left <= x) & (x <= left + wide) & (top <= y) & (y <= top + high)
