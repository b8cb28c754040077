"""Small segmentation models whose predictions have several classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ouzel import models
from ouzel.models import Model, Preprocessing, archive
from ouzel.models.card import Card

ARCH = "unet:timm:test_resnet"
LABELS = ("background", "sheep", "goat", "rock")
SIZE = 64
PREPROCESSING = Preprocessing(input_size=(SIZE, SIZE), resize=SIZE)


def picture(seed: int, width: int = 2 * SIZE, height: int = 2 * SIZE) -> np.ndarray:
    """(height, width, 3) uint8 of coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def network() -> nn.Module:
    """Random weights, but for a head after which no class has all pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = models.build(ARCH, len(LABELS))
    head = made.get_submodule("head")
    x = torch.stack([PREPROCESSING(Image.fromarray(picture(seed))) for seed in range(8)])
    with torch.no_grad():
        spread = made(x).std(dim=(0, 2, 3))
        head.weight.div_(spread[:, None, None, None])
        head.bias.sub_(made(x).mean(dim=(0, 2, 3)))
    return made


def archived(folder: Path, name: str = "segments", version: str = "1") -> Path:
    """The network in an archive of a store."""
    card = Card(name, version, ARCH, LABELS, PREPROCESSING, task="segmentation")
    return archive.write(card, network().state_dict(), folder / f"{name}.mar")


def model() -> Model:
    """The same without an archive."""
    return Model("segments", "1", network(), LABELS, PREPROCESSING, ARCH, "sha256:segments", {}, task="segmentation")
