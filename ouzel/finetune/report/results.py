"""What a report holds, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from ouzel.finetune.report.comparison import Comparison
from ouzel.finetune.report.maps import View
from ouzel.finetune.tuned import Tuned


@dataclass(frozen=True, eq=False)
class Section:
    """What somebody else adds to a report.

    Attributes:
        anchor: Of its heading, for the table of contents.
        title: There.
        html: Of the page: escaped, with a heading that has the anchor as its id.
        figures: For report.json and the summary, of JSON's types.
        files: That belong to it: by name, the media type and the content.
    """

    anchor: str
    title: str
    html: str = field(repr=False)
    figures: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, tuple[str, bytes]] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Shown:
    """One test image.

    Attributes:
        name: Of the image.
        label: Of its class.
        scores: The likeliest labels with their probabilities, best first.
        picture: (H, W, 3) uint8, what the network sees.
        maps: Pictures with a map drawn over them, each with its title.
        served: What the served model says.
    """

    name: str
    label: str
    scores: tuple[tuple[str, float], ...]
    picture: np.ndarray
    maps: tuple[tuple[str, np.ndarray], ...] = ()
    served: str = ""

    @property
    def predicted(self) -> str:
        """The likeliest label."""
        return self.scores[0][0]


@dataclass(frozen=True, eq=False)
class Report:
    """What is told of a tuning.

    Attributes:
        tuned: The tuning.
        created: When, in UTC.
        base: NAME@VERSION.
        view: What the maps are of.
        mistakes: The worst, that is those with the least probability for the right class, first.
        compared: Test images of each class in turn, with maps of the base and of the tuned network.
        inside: Share of the map's mass that lies on the object, "before" and "after", over the test images with masks;
            empty if there are none.
        served: The tuned network beside the version that was served until now; None if there was none.
        fixed: Some of the images that only the tuned network gets right.
        broken: Some of the images that only the served model gets right.
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
