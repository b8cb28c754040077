"""Models that share a backbone, as jobs that tune the last layer alone leave them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ouzel import models
from ouzel.model_file import ModelFile
from ouzel.models.card import Card
from ouzel.models.heads import linear_head
from ouzel.models.preprocessing import Preprocessing
from ouzel.models.store import ModelStore

ARCH = "timm:test_resnet"
PREPROCESSING = Preprocessing(input_size=(64, 64), resize=64)


def backbone(seed: int = 0, arch: str = ARCH) -> dict[str, Tensor]:
    """A network's weights, random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.build(arch, num_classes=3).state_dict()


def publish_head(
    store: ModelStore,
    state: Mapping[str, Tensor],
    classes: int,
    seed: int,
    name: str = "tuned",
    *,
    arch: str = ARCH,
    preprocessing: Preprocessing = PREPROCESSING,
    **fields: object,
) -> ModelFile:
    """The next version of a model: this backbone with a random head."""
    layer, features = linear_head(arch, preprocessing.channels)
    generator = torch.Generator().manual_seed(seed)
    head = {
        f"{layer}.weight": torch.randn(classes, features, generator=generator),
        f"{layer}.bias": torch.randn(classes, generator=generator),
    }
    labels = tuple(f"class {seed} {number}" for number in range(classes))

    def make(version: str) -> tuple[Card, dict[str, Tensor]]:
        lineage = {"owner": "local", "base": "base", "base_digest": "sha256:" + "0" * 64}
        return Card(name, version, arch, labels, preprocessing, lineage=lineage, **fields), {**state, **head}  # type: ignore[arg-type]

    entry = store.publish(name, make, f"{name}-{classes}-{seed}")
    return store.file(f"{name}@{entry.version}")
