"""The models of the worker's store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ouzel_client._types.grounding import GateVerdict, gate_of


@dataclass(frozen=True)
class StoredModel:
    """One version of a model.

    Attributes:
        name: The name of the model.
        version: The version.
        is_default: Whether callers who name no version get this one.
        arch: The architecture, "timm:tf_efficientnet_lite0" for example.
        digest: "sha256:..." of the weights.
        size: Bytes of the archive.
        classes: Number of classes.
        served: Whether the model server has loaded it.
        lineage: Where a tuned model comes from: base, data set, recipe, seed, metrics, versions of libraries, job.
            Empty for a model of the operator.
        task: What the model is for: "classification", "segmentation" or "detection"; empty if the service does not say.
    """

    name: str
    version: str
    is_default: bool
    arch: str
    digest: str
    size: int
    classes: int
    served: bool
    lineage: Mapping[str, Any] = field(repr=False, hash=False)
    task: str = ""

    @property
    def gate(self) -> GateVerdict | None:
        """What the gate said of it before production; None if it was not asked."""
        return gate_of(self.lineage)

    @property
    def held_back(self) -> bool:
        """Whether the gate has refused it as the default, and nobody has overruled that."""
        return self.gate is not None and not self.gate.passed and not self.is_default


@dataclass(frozen=True)
class ModelDetails:
    """What a model consists of.

    Attributes:
        model: Its entry in the store.
        labels: The labels, in the order of the outputs.
        layers: The shape of the output of each layer for one image, by name.
        preprocessing: How images become tensors.
    """

    model: StoredModel
    labels: tuple[str, ...] = field(repr=False)
    layers: Mapping[str, tuple[int, ...]] = field(repr=False, hash=False)
    preprocessing: Mapping[str, Any] = field(hash=False)
