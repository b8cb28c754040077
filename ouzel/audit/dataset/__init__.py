"""Auditing a data set, or a table of predictions: which classes rest on what is behind their objects?

    predictor = ModelPredictor(model)
    examples = [Example("001.jpg", "goat", read=path.read_bytes, mask=load_mask), ...]
    evidence = audit_dataset(predictor, ModelMaps(model, model.labels, "grad_cam"), examples)
    evidence.overall.verdict, [(group.label, group.verdict) for group in evidence.classes]

The design is fixed, and its hash told, before the first answer. Each image is changed and compared with its controls;
exact tests on these pairs, corrected for the number of classes, decide by margins of the design.

References:
    Xiao et al. 2020, "Noise or signal: the role of image backgrounds in object recognition", arXiv 2006.09994.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ouzel.audit.dataset.audit import audit_dataset
    from ouzel.audit.dataset.design import DatasetDesign, GroupMargins
    from ouzel.audit.dataset.evidence import (
        Cell,
        Cluster,
        DatasetEvidence,
        Group,
        LabelError,
        LabelErrors,
        Link,
        Suspect,
    )
    from ouzel.audit.dataset.examples import Example
    from ouzel.audit.dataset.figures import Comparison, PairedTest, Rate
    from ouzel.audit.dataset.progress import Event, Stopped
    from ouzel.audit.dataset.rows import Flips, ImageRow, Swap
    from ouzel.audit.dataset.table import Record, audit_table

__all__ = [
    "Cell",
    "Cluster",
    "Comparison",
    "DatasetDesign",
    "DatasetEvidence",
    "Event",
    "Example",
    "Flips",
    "Group",
    "GroupMargins",
    "ImageRow",
    "LabelError",
    "LabelErrors",
    "Link",
    "PairedTest",
    "Rate",
    "Record",
    "Stopped",
    "Suspect",
    "Swap",
    "audit_dataset",
    "audit_table",
]
# Modules are loaded when a name is asked for: statistics and designs are used by services that have no torch.
_HOMES = {
    "audit": ("audit_dataset",),
    "design": ("DatasetDesign", "GroupMargins"),
    "evidence": ("Cell", "Cluster", "DatasetEvidence", "Group", "LabelError", "LabelErrors", "Link", "Suspect"),
    "examples": ("Example",),
    "figures": ("Comparison", "PairedTest", "Rate"),
    "progress": ("Event", "Stopped"),
    "rows": ("Flips", "ImageRow", "Swap"),
    "table": ("Record", "audit_table"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
