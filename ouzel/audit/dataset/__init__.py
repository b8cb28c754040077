"""Auditing a data set, or a table of predictions: which classes rest on what is behind their objects?"""

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
from ouzel.audit.dataset.figures import Comparison, PairedTest, Rate
from ouzel.audit.dataset.rows import Flips, ImageRow, Swap

__all__ = [
    "Cell",
    "Cluster",
    "Comparison",
    "DatasetEvidence",
    "Flips",
    "Group",
    "ImageRow",
    "LabelError",
    "LabelErrors",
    "Link",
    "PairedTest",
    "Rate",
    "Suspect",
    "Swap",
]
