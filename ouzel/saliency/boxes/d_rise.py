"""D-RISE (Petsiuk et al. 2021, arXiv 2006.03204): random masks, weighted by how much of a detection remains.

Under each mask the detector is asked anew, and what it considers is compared with the detection, box and class alike:

    similarity = max over candidates of  IoU of the boxes * cosine of the class probabilities * objectness

Candidates are those before any threshold or suppression. The objectness is what the background leaves of the
probability; of a detector without a background (RetinaNet) it is the largest probability of a class. The paper leaves
it out where a network has none, but the cosine of two vectors does not tell whether the probabilities are large. Of a
detector with boxes per class, the candidate's box is that of the class in question.

A box that is given has probability 1 for its class: so what is asked is why it was found so weakly, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ouzel.models.detection import Candidates
from ouzel.saliency.method import Attribution, Rows
from ouzel.saliency.random_masks import MaskMethod, random_masks


@dataclass(frozen=True)
class DRise(MaskMethod):
    """D-RISE: the mean of random masks, weighted by how similar what is detected under them is to the box.

    References:
        Petsiuk et al. 2021, "Black-box explanation of object detectors via saliency maps", arXiv 2006.03204.
    """

    name: ClassVar[str] = "d_rise"

    def attribute(self, rows: Rows) -> Attribution:
        """Not of one network's scores."""
        raise NotImplementedError("of detectors alone, see `maps`")


@dataclass(frozen=True)
class Sought:
    """What is looked for in each of B images, T targets each, some of them padding.

    Attributes:
        boxes: (B, T, 4), in pixels of the input.
        labels: (B, T) int64.
        probabilities: (B, T, K).
    """

    boxes: Tensor
    labels: Tensor
    probabilities: Tensor


def similarity(sought: Sought, found: Candidates) -> Tensor:
    """(m, B, T) how much of each target is found.

    Args:
        sought: Of B images.
        found: Of m * B images: m blocks of B.
    """
    blocks = len(found.probabilities) // len(sought.boxes)

    def of_images(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (blocks, -1))[:, :, None]  # (m, B, 1, N, ...)

    theirs = of_images(found.boxes)
    if theirs.ndim == 6:  # (m, B, 1, N, K, 4): of the target's class
        index = sought.labels[None, :, :, None, None, None].expand(blocks, -1, -1, theirs.shape[3], 1, 4)
        theirs = theirs.expand(-1, -1, sought.labels.shape[1], -1, -1, -1).gather(4, index)[..., 0, :]
    overlap = _iou(sought.boxes[None, :, :, None], theirs)
    alike = torch.einsum("mbnk,btk->mbtn", _unit(of_images(found.probabilities)[:, :, 0]), _unit(sought.probabilities))
    return (overlap * alike * of_images(found.objectness)).amax(dim=3)


def maps(
    how: DRise,
    x: Tensor,
    black: Tensor,
    sought: Sought,
    *,
    detect: Callable[[Tensor], Candidates],
    blocks: int,
) -> Tensor:
    """(B, T, H, W) maps of each target.

    Args:
        how: Masks are drawn.
        x: (B, C, H, W), the images.
        black: (C, 1, 1), what is seen where a mask hides the image.
        sought: The targets.
        detect: Candidates of (n, C, H, W) images; may raise.
        blocks: How many masks of all images one pass may have, at most.
    """
    total = x.new_zeros(*sought.labels.shape, *x.shape[-2:])
    for masks in random_masks(how, x, blocks):
        masked = torch.addcmul(black, masks[:, None, None], x - black).flatten(0, 1)
        alike = similarity(sought, detect(masked))
        total += torch.einsum("mbt,mhw->bthw", alike, masks)
    return total / (how.masks * how.keep)


def _unit(vectors: Tensor) -> Tensor:
    """Of length 1; one of length 0 stays."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def _iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4); 0 of two without area."""
    corner, far = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (far - corner).clamp_min(0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp_min(0).prod(dim=-1) for box in (one, other)]
    return shared / (areas[0] + areas[1] - shared).clamp_min(torch.finfo(shared.dtype).tiny)
