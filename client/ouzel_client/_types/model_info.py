"""Which model answered, and how exactly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """The relative L2 deviation from exact arithmetic, measured by the service on its device; 0 is none.

    Attributes:
        logits: Of the logits; None if the exact ones are 0.
        gradient: Of the maps of the method `gradient`; None if the exact ones are 0, or there are none.
        inputs: How many inputs it was measured on.
    """

    logits: float | None
    gradient: float | None
    inputs: int


@dataclass(frozen=True)
class ModelInfo:
    """The model that answered.

    Attributes:
        name: Its name.
        version: Its version.
        digest: "sha256:..." of its weights.
        precision: What it computes in: "exact" (float32 as IEEE 754 has it), "tf32" or "bf16"; empty if the service
            does not say.
        deviation: How far that moves its answers; None for "exact".
        task: What it is for: "classification", "segmentation" or "detection"; empty if the service does not say.
    """

    name: str
    version: str
    digest: str
    precision: str = ""
    deviation: Deviation | None = None
    task: str = ""
