"""An audit of a table of recorded predictions, whose model cannot be asked. It is weaker evidence, and says so.

The records are compared with what the images are, where that is known, and with a surrogate: another model, which may
be right or wrong for reasons of its own. Nothing is changed in any image, so no verdict says what a decision rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ouzel.audit.agreement import agreement_of
from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.distinct import distinct
from ouzel.audit.dataset.evidence import DatasetEvidence, Group, LabelErrors, Suspect
from ouzel.audit.dataset.examples import UNREADABLE, Example, checked
from ouzel.audit.dataset.figures import Rate
from ouzel.audit.dataset.groups import groups
from ouzel.audit.dataset.image import Kept, asked, refused, small, start, written
from ouzel.audit.dataset.progress import OnEvent, Progress, Teller
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.dataset.statistics import rate
from ouzel.audit.evidence import MaskSource
from ouzel.audit.maps import Maps
from ouzel.audit.predictor import Predictor
from ouzel.audit.source import Source
from ouzel.checks import within
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.metrics import regions

_DEFAULTS = DatasetDesign()
_LIMITS = (
    "Weaker evidence: the model behind the records was not asked. No verdict says what a decision rests on.",
    "Maps and opinions are those of a surrogate, which may be right or wrong for reasons of its own.",
)


@dataclass(frozen=True)
class Record:
    """A recorded decision.

    Attributes:
        name: Of the image.
        claimed: The class that was decided.
        probability: Of that class, as recorded, 0 to 1; None if it was not.
        service: Who decided.
        time: When, as a text.
    """

    name: str
    claimed: str
    probability: float | None = None
    service: str = ""
    time: str = ""


def audit_table(
    records: Sequence[Record],
    surrogate: Predictor,
    maps: Maps,
    examples: Sequence[Example],
    design: DatasetDesign = _DEFAULTS,
    *,
    source: str = "",
    on_event: OnEvent | None = None,
    resume: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> DatasetEvidence:
    """Audits recorded predictions.

    Args:
        records: What was decided.
        surrogate: A model of ours that stands beside them.
        maps: Of the surrogate.
        examples: Images by name; a record without one is refused. Of an example the true label, the mask and the boxes
            count; the record says what was claimed.
        design: Fixed beforehand; margins of agreement, scenes and suspects count.
        source: What to call the model behind the records; by default the names of the services.
        on_event: Told before the first answer and after each record.
        resume: The state of an event.
        stop: Whether to stop; asked at every event.

    Returns:
        The evidence. Verdicts are "disagrees" or "inconclusive".

    Raises:
        InvalidArgument: There is no record, a name occurs twice, or a probability is not in 0..1.
        FailedPrecondition: The state is of another design or of other records.
        OuzelError: The surrogate does not answer.
        Stopped: That was wanted.
    """
    for number, record in enumerate(records):
        if record.probability is not None:
            within(f"records[{number}].probability", record.probability, 0, 1)
    surrogate = distinct(surrogate)
    images = {each.name: each for each in examples}
    joined = [_joined(record, images.get(record.name), surrogate) for record in records]
    progress = Progress.of(design.sha256(), checked(joined), resume)
    tell = Teller(progress, on_event, stop)
    tell("registered", len(progress.kept), len(records))
    for record, example in list(zip(records, joined, strict=True))[len(progress.kept) :]:
        progress.kept.append(_kept(record, example, surrogate, maps))
        tell("images", len(progress.kept), len(records))
    rows = progress.rows
    overall, classes = groups(rows, design)
    wanted = sorted((row for row in rows if row.concern), key=lambda row: -row.evidence)
    services = ", ".join(sorted({each.service for each in records if each.service}))
    return DatasetEvidence(
        mode="table",
        source=Source("table", source or services or "recorded predictions"),
        maps_from=maps.told,
        design=design.to_dict(),
        design_sha256=progress.design,
        examples_sha256=progress.examples,
        overall=_judged(overall, rows, design),
        classes=tuple(_judged(each, [r for r in rows if r.claimed == each.label], design) for each in classes),
        links=(),
        cells=(),
        worst=None,
        clusters=(),
        clusters_reason="Clusters of maps can be confirmed or cleared only if the model can be asked.",
        suspects=tuple(Suspect(row, None) for row in wanted[: design.suspects]),
        label_errors=LabelErrors(0, (), "No label was checked: that needs the probabilities of all classes."),
        rows=rows,
        limits=_LIMITS,
    )


def _joined(record: Record, example: Example | None, surrogate: Predictor) -> Example:
    """The image of a record, with labels as the surrogate writes them, if it has them."""
    if example is None:
        example = Example(record.name, record.claimed, _missing)
    true = None if example.true_label is None else written(surrogate, example.true_label)
    return replace(
        example,
        label=written(surrogate, record.claimed),
        true_label=true,
        service=record.service,
        time=record.time,
    )


def _missing() -> bytes:
    raise FileNotFoundError("there is no image of this name")


def _kept(record: Record, example: Example, surrogate: Predictor, maps: Maps) -> Kept:
    row = replace(start(example, example.label), predicted=example.label, probability=record.probability)
    map_, problem = None, ""
    try:
        image = example.image()
        picture, mask = example.seen(surrogate.view)
    except UNREADABLE as error:
        problem = str(error) or type(error).__name__
    if problem and example.true_label is None:
        return Kept(refused(example, problem))
    if not problem:
        try:
            region: MaskSource = "boxes" if example.mask is None else "mask"
            row = asked(row, surrogate, image)
            row, map_ = _compared(row, picture, mask, region=region, surrogate=surrogate, maps=maps)
        except (InvalidArgument, FailedPrecondition) as error:
            problem = str(error)
    return Kept(_row(row, problem), map_)


def _compared(
    row: ImageRow,
    picture: np.ndarray,
    mask: np.ndarray | None,
    *,
    region: MaskSource,
    surrogate: Predictor,
    maps: Maps,
) -> tuple[ImageRow, np.ndarray | None]:
    """The row with what the surrogate says and looks at; its small map."""
    if row.claimed not in surrogate.labels:
        return row, None
    index = surrogate.labels.index(row.claimed)
    agreement = agreement_of(surrogate(picture[None])[0], surrogate.labels, index)
    row = replace(
        row,
        agrees=agreement.agrees,
        surrogate_agrees=agreement.agrees,
        evidence=agreement.predicted.probability - agreement.claimed.probability,
    )
    drawn = next((each for each in maps(picture, index, agreement.rival.index) if each.of == "claim"), None)
    if drawn is None:
        return row, None
    if mask is not None:
        values, inside = torch.from_numpy(drawn.values), torch.from_numpy(mask)
        row = replace(
            row,
            mask_source=region,
            object_share=float(mask.mean()),
            share_on_object=regions.energy_inside(values, inside),
            pointing=regions.pointing_game(values, inside),
        )
    return row, small(drawn.values)


def _row(row: ImageRow, problem: str) -> ImageRow:
    """The row with its verdict."""
    tail = f" The surrogate was not asked: {problem}" if problem else ""
    opinion = "" if row.surrogate is None else f" The surrogate says {row.surrogate!r}."
    if row.true_label is not None and row.true_label != row.claimed:
        reason = f"{row.claimed!r} is recorded; the image is {row.true_label!r}."
        return replace(row, verdict="disagrees", concern=True, reason=f"{reason}{opinion}{tail}")
    if row.true_label is None and row.surrogate_agrees is False:
        reason = f"{row.claimed!r} is recorded; a surrogate says {row.surrogate!r}. Nobody says what the image is."
        return replace(row, verdict="disagrees", concern=True, reason=reason)
    known = "The record is right." if row.true_label is not None else "Nobody says what the image is."
    reason = f"{known}{opinion} What the decision rests on cannot be told without asking the model.{tail}"
    return replace(row, reason=reason)


def _judged(group: Group, rows: Sequence[ImageRow], design: DatasetDesign) -> Group:
    """The group with a verdict of what its images are, or else of what the surrogate says."""
    margins = design.margins
    compared = [each for each in rows if each.surrogate_agrees is not None]
    agreement = rate(sum(bool(each.surrogate_agrees) for each in compared), len(compared))
    figures: tuple[tuple[Rate, str], ...] = (
        (group.claim_accuracy, "are what is recorded"),
        (agreement, "are, for the surrogate, what is recorded"),
    )
    told = "; ".join(f"{each.count} of {each.of} images {what}" for each, what in figures if each.of)
    # What the images are outweighs what a surrogate says of them.
    decisive = next((each for each, _ in figures if each.of >= margins.fewest), None)
    disagrees = decisive is not None and decisive.high < margins.agreement
    reason = f"{told or 'Nothing could be compared'}; the margin is {margins.agreement:.0%}."
    if not disagrees:
        reason += " What the decisions rest on cannot be told without asking the model."
    return replace(
        group,
        agreement=agreement,
        verdict="disagrees" if disagrees else "inconclusive",
        reason=reason,
        concern=disagrees,
    )
