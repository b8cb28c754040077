"""What a report holds, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ouzel.finetune.finetune import Tuned
from ouzel.finetune.report.comparison import Comparison
from ouzel.finetune.report.maps import View


@dataclass(frozen=True, eq=False)
class Shown:
    """One test image. scores: the likeliest labels with their probabilities, best first. picture: (H, W, 3) uint8,
    what the network sees. maps: pictures with a map drawn over them, each with its title. served: what the served model
    says.
    """

    name: str
    label: str
    scores: tuple[tuple[str, float], ...]
    picture: np.ndarray
    maps: tuple[tuple[str, np.ndarray], ...] = ()
    served: str = ""

    @property
    def predicted(self) -> str:
        return self.scores[0][0]


@dataclass(frozen=True, eq=False)
class Report:
    """created: when, in UTC. base: NAME@VERSION. view: what the maps are of. mistakes: the worst, that is those with
    the least probability for the right class, first. compared: test images of each class in turn, with maps of the base
    and of the tuned network. inside: share of the map's mass that lies on the object, "before" and "after", over the
    test images with masks; empty if there are none.

    served: the tuned network beside the version that was served until now; None if there was none. fixed, broken:
    images that only the one, only the other gets right, some of them.
    """

    tuned: Tuned
    created: datetime
    base: str
    view: View
    mistakes: tuple[Shown, ...]
    compared: tuple[Shown, ...]
    inside: Mapping[str, float]
    served: Comparison | None
    fixed: tuple[Shown, ...]
    broken: tuple[Shown, ...]
