"""Audits of predictions: what is asked, and what was found out. Arrays are read-only."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import has_pillow
from ouzel_client._pictures.figure import figure_html, source
from ouzel_client._types.audit_evidence import (
    Agreement,
    AuditEffect,
    AuditMap,
    AuditSource,
    Counterfactual,
    ReportedMapComparison,
    opened,
)
from ouzel_client._types.explanation import View
from ouzel_client._types.ledger import LedgerEntry

if TYPE_CHECKING:
    from PIL import Image as PILImage

Verdict = Literal["rests_on_object", "rests_on_background", "disagrees", "inconclusive"]
Box = tuple[float, float, float, float]
MaskInput: TypeAlias = "str | os.PathLike[str] | bytes | npt.NDArray[Any] | PILImage.Image"
# (N, H, W, 3) uint8 to (N, K) probabilities.
Predict = Callable[[npt.NDArray[np.uint8]], Any]
_IN_A_PAGE = 6  # counterfactuals


@dataclass(frozen=True, eq=False)
class Reported:
    """What another service said of an image. The audit records it, and compares its map; it believes nothing of it.

    Attributes:
        scores: Probabilities in [0, 1] by label.
        model: The name of its model.
        version: The version of its model.
        saliency: (h, w) of floats, its map over the whole image, in the image's proportions.
        time: When it decided.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    version: str = ""
    saliency: npt.NDArray[Any] | None = field(default=None, repr=False)
    time: datetime | None = None


class AuditOptions(TypedDict, total=False):
    """How an audit is done: fixed beforehand, and part of its record. What is left out has the worker's default.

    Attributes:
        scene: Whether the claimed class is a place, which may rest on its background.
        method: Saliency method of the maps: "grad_cam" if it is left out.
        fills: What takes the place of pixels: kinds of "blur", "mean", "texture".
        scenes: Images of the data set of each sort, 0 to 32.
        steps: Of the curves of deletion and insertion, 2 to 256, or 0 for none.
        random_orders: Random orders that a map is compared with, 1 to 32.
        effect_margin: Share of the probability that a change must take away beyond its control, 0.01 to 1.
        control_margin: Probability that the controls must leave, 0 to 1.
        seed: Of all that is drawn.
    """

    scene: bool
    method: str
    fills: Sequence[str]
    scenes: int
    steps: int
    random_orders: int
    effect_margin: float
    control_margin: float
    seed: int


class AuditArguments(AuditOptions, total=False):
    """What an audit is about, besides the image and the claim.

    Attributes:
        model: A model of the worker's store: "NAME" or "NAME@VERSION".
        endpoint: Another service, by the name that the worker's operator gave it.
        predict: Or a function of yours: arrays uint8 (N, H, W, 3) to probabilities (N, K). It is called with at most
            16 pictures at a time, in another thread where the client is asynchronous.
        labels: The K labels of its classes.
        size: (height, width) of the pictures that it takes. None keeps the proportions of each image.
        resize: Pixels of the shorter edge before the centre is cropped to `size`. None squeezes the image into it.
        name: What you call the function, for the record.
        version: Its version, for the record.
        surrogate: A model of the store whose maps stand in for a source that cannot be looked into.
        mask: Where the object is: a bool or uint8 array (height, width) of the image's size, or such an image: a path,
            bytes or a PIL image, above mid-grey on the object. With a list of images, a list.
        boxes: Or boxes (left, top, right, bottom) in pixels. With a list of images, a list of lists.
        reported: What another service said of it. With a list of images, a list.
        dataset: Id of a data set with masks or boxes, which backgrounds and objects are taken from.
        organisation: Named on the page for the person concerned.
        contact: Whom this person may ask.
        pictures: Whether the result holds the changed pictures. Yes if it is left out.
        timeout: Seconds for each image, retries included: 120 if it is left out. The first audit loads the model.
        request_id: At most 128 characters; the result has it as well.
    """

    model: str
    endpoint: str
    predict: Predict
    labels: Sequence[str]
    size: tuple[int, int] | None
    resize: int | None
    name: str
    version: str
    surrogate: str
    mask: MaskInput | Sequence[MaskInput | None] | None
    boxes: Sequence[Box] | Sequence[Sequence[Box]]
    reported: Reported | Sequence[Reported | None] | None
    dataset: str
    organisation: str
    contact: str
    pictures: bool
    timeout: float
    request_id: str


@dataclass(frozen=True)
class AuditEndpoint:
    """Another service that audits may name.

    Attributes:
        name: Its name.
        kind: How the worker asks it; empty if that is not told.
        classes: How many classes it has; 0 if that is not known before it is asked.
        size: (height, width) of the pictures that it takes; None for the proportions of each image.
    """

    name: str
    kind: str
    classes: int
    size: tuple[int, int] | None


@dataclass(frozen=True, eq=False, repr=False)
class PredictionAudit:
    """What an audit of one prediction shows. A notebook shows it as a page.

    Attributes:
        verdict: "rests_on_object", "rests_on_background", "disagrees" or "inconclusive".
        reason: The verdict in a sentence, with its figures.
        concern: Whether somebody should act.
        scene: Whether the class was declared to be a place.
        source: Whose prediction.
        agreement: Between the claim and the prediction.
        maps: Saliency maps of the claim, its rival and the contrast.
        maps_from: Where they come from.
        effects: What each kind of change does beyond its control.
        counterfactuals: The changed pictures, and what the source says of them.
        mask_source: What stands for the object: "mask", "boxes" or "nominated".
        object_share: Share of the picture that it covers.
        limits: What was not shown.
        options: In force, by name.
        reported_map: Comparison with the map that was reported, or None.
        image_sha256: Digest of the bytes of the image that were sent.
        view: The part of the image that the source saw.
        record: JSON of all of this but the pixels, with the digests of pictures and maps.
        record_sha256: Digest of `record`.
        time: When it was done.
        request_id: The id of the request.
        files: Further files, by name.
        ledger: The entry of the worker's log; None if the worker keeps no log.
    """

    verdict: Verdict
    reason: str
    concern: bool
    scene: bool
    source: AuditSource
    agreement: Agreement
    maps: tuple[AuditMap, ...]
    maps_from: str
    effects: tuple[AuditEffect, ...]
    counterfactuals: tuple[Counterfactual, ...]
    mask_source: Literal["mask", "boxes", "nominated"]
    object_share: float
    limits: tuple[str, ...]
    options: Mapping[str, Any]
    reported_map: ReportedMapComparison | None
    image_sha256: str
    view: View
    record: bytes
    record_sha256: str
    time: datetime
    request_id: str
    files: Mapping[str, bytes]
    ledger: LedgerEntry | None
    _picture: bytes
    _mask: bytes

    @property
    def picture(self) -> PILImage.Image:
        """What the source saw of the image. Needs Pillow. Raises InvalidArgument if no pictures were asked for."""
        return opened(self._picture, "picture")

    @property
    def mask(self) -> PILImage.Image:
        """The region that stands for the object, white. Needs Pillow. Raises as `picture`."""
        return opened(self._mask, "mask")

    def map(self, of: str = "claim") -> AuditMap:
        """The map of the claim, the rival or the contrast. Raises KeyError if there is none."""
        for each in self.maps:
            if each.of == of:
                return each
        raise KeyError(of)

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write record.json, the maps as maps.npz, the pictures, and what proves the entry of the log.

        Counterfactuals are numbered as in the record.

        Args:
            folder: Is made if it is missing.

        Returns:
            The paths of the files.

        Raises:
            OSError: A file cannot be written.
        """
        base = Path(folder)
        contents = {"record.json": self.record, "picture.png": self._picture, "mask.png": self._mask}
        for number, each in enumerate(self.counterfactuals):
            contents[f"counterfactuals/{number:03d}-{_file_name(each.name)}.png"] = each.png
        contents |= {_file_name(name): data for name, data in self.files.items()}
        contents |= {f"ledger/{name}": data for name, data in (self.ledger.files() if self.ledger else {}).items()}
        contents |= {f"maps/{_file_name(each.of)}.png": each.saliency._repr_png_() for each in self._drawable()}
        written = []
        for name, data in contents.items():
            if data:
                path = base / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                written.append(path)
        base.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {each.of: each.array for each in self.maps}
        np.savez_compressed(base / "maps.npz", allow_pickle=False, **arrays)
        return (*written, base / "maps.npz")

    def __repr__(self) -> str:
        claimed = self.agreement.claimed
        return (
            f"PredictionAudit({self.verdict}, {claimed.label!r} {claimed.probability:.2f} of {self.source}, "
            f"{len(self.counterfactuals)} counterfactuals)"
        )

    def _drawable(self) -> tuple[AuditMap, ...]:
        return self.maps if has_pillow() else ()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(each.change)}</td><td>{html.escape(each.kind)}</td><td>{each.control:.2f}</td>"
            f"<td>{each.probability:.2f}</td><td>{each.effect:+.2f}</td></tr>"
            for each in self.effects
        )
        shown = [each for each in self.counterfactuals if each.png][:_IN_A_PAGE]
        pictures = "".join(figure_html(each.png, "image/png", str(each)) for each in shown)
        region = f'<img src="{source(self._mask, "image/png")}" alt="object">' if self._mask else ""
        limits = "".join(f"<li>{html.escape(each)}</li>" for each in self.limits)
        return (
            f"<h3>{html.escape(self.verdict)}</h3><p>{html.escape(self.reason)}</p>"
            "<table><tr><th>replaced</th><th>by</th><th>control</th><th>after</th><th>effect</th></tr>"
            f"{rows}</table>{''.join(each.saliency._repr_html_() for each in self._drawable())}{region}{pictures}"
            f"<ul>{limits}</ul>"
        )


def _file_name(name: str) -> str:
    """A name of a file without folders, whatever a service calls it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".")[:80] or "file"
