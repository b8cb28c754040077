"""Models as jobs that tune leave them: small, random, with a lineage."""

from __future__ import annotations

import torch

from ouzel import models
from ouzel.models.card import Card
from ouzel.models.store import ModelStore

ARCH = "timm:test_resnet"
LABELS = ("cat", "dog", "bird")


def publish(store: ModelStore, job: str, seed: int, name: str = "tuned", owner: str = "ann") -> str:
    """The version that a job with random weights gets."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = models.build(ARCH, num_classes=len(LABELS)).state_dict()
    preprocessing = models.default_preprocessing(ARCH)

    def make(version: str) -> tuple[Card, dict[str, torch.Tensor]]:
        card = Card(name, version, ARCH, LABELS, preprocessing, lineage={"owner": owner, "base": "tuned"})
        return card, state

    return store.publish(name, make, job).version
