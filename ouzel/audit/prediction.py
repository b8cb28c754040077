"""An audit of one prediction: is the claim right, where does the model look, and what happens if that is changed?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ouzel.audit import reported
from ouzel.audit.agreement import agreement_of
from ouzel.audit.counterfactuals import Counterfactual, Others, counterfactuals
from ouzel.audit.evidence import Agreement, MapEvidence, MaskSource, Outcome, PredictionEvidence
from ouzel.audit.faithfulness import faithfulness
from ouzel.audit.fills import fills
from ouzel.audit.maps import Drawn, Maps, nominate
from ouzel.audit.options import Claim, PredictionOptions
from ouzel.audit.pool import Pool, Scene
from ouzel.audit.predictor import Predictor
from ouzel.audit.region import region_of
from ouzel.audit.verdict import effects, judge
from ouzel.errors import InvalidArgument
from ouzel.images import original_size
from ouzel.metrics import regions
from ouzel.names import label_index

_DEFAULTS, _EMPTY = PredictionOptions(), Pool()
_STRONG = 3  # kinds of fills
_NOMINATED = 0.2  # share of the picture that a map nominates where nobody gives a mask


def audit_prediction(
    predictor: Predictor,
    maps: Maps,
    image: Image.Image,
    claim: Claim,
    options: PredictionOptions = _DEFAULTS,
    *,
    pool: Pool = _EMPTY,
) -> PredictionEvidence:
    """Audits one prediction.

    Args:
        predictor: Whose predictions are audited.
        maps: Where saliency maps come from.
        image: As `ouzel.images.decode` returns it.
        claim: What was decided about it.
        options: How it is audited.
        pool: Other images with known objects; without them there are fewer changes to try.

    Returns:
        The evidence, with a verdict.

    Raises:
        InvalidArgument: The claim does not fit the image or the model.
        OuzelError: The source does not answer.
    """
    index = label_index(predictor.labels, claim.label)
    width, height = original_size(image)
    known = region_of(claim, predictor.view, width, height)
    if claim.reported_map is not None:
        reported.check(claim.reported_map, width, height)
    picture = predictor.view.picture(image)
    agreement = agreement_of(predictor(picture[None])[0], predictor.labels, index)
    drawn = maps(picture, index, agreement.rival.index)
    source: MaskSource = "nominated" if known is None else "boxes" if claim.mask is None else "mask"
    mask = _nominated(drawn) if known is None else known
    others = _others(pool, predictor.labels[index], claim.name, options)
    changed = counterfactuals(picture, mask, fills(options.fills), others)
    made = _outcomes(predictor, agreement, changed)
    measured = effects(made)
    share = float(mask.mean())
    judgement = judge(agreement, measured, options.margins, mask_source=source, object_share=share)
    compared = None
    if claim.reported_map is not None and drawn:
        compared = reported.compare(claim.reported_map, drawn[0].values, predictor.view, width, height)
    rests_behind = judgement.verdict == "rests_on_background"
    return PredictionEvidence(
        source=predictor.source,
        maps_from=maps.told,
        agreement=agreement,
        mask_source=source,
        object_share=share,
        maps=_described(predictor, picture, index, drawn=drawn, mask=known, options=options),
        outcomes=made,
        effects=measured,
        margins=options.margins,
        verdict=judgement.verdict,
        reason=judgement.reason,
        concern=judgement.verdict == "disagrees" or (rests_behind and not claim.scene),
        scene=claim.scene,
        limits=_limits(source, options, changed),
        picture=picture,
        mask=mask,
        reported_map=compared,
        seed=options.seed,
    )


def _nominated(drawn: Sequence[Drawn]) -> np.ndarray:
    if not drawn:
        raise InvalidArgument(
            "mask: give a mask or boxes: the surrogate does not know the claimed class, so no map can mark a region",
            field="mask",
        )
    return nominate(drawn[0].values, _NOMINATED)


def _others(pool: Pool, label: str, name: str, options: PredictionOptions) -> Others:
    def draw(number: int, same: bool) -> Sequence[Scene]:
        return pool.draw(label, same, options.scenes, (options.seed, number), besides=name)

    return Others(draw(0, False), draw(1, True), draw(2, False), draw(3, True))


def _outcomes(predictor: Predictor, agreement: Agreement, changed: Sequence[Counterfactual]) -> tuple[Outcome, ...]:
    answers = predictor(np.stack([each.picture for each in changed]))
    best = answers.argmax(1)
    return tuple(
        Outcome(
            each.name,
            each.change,
            each.kind,
            each.changed,
            float(row[agreement.claimed.index]),
            predictor.labels[top],
            bool(top != agreement.predicted.index),
            each.picture,
        )
        for each, row, top in zip(changed, answers, best, strict=True)
    )


def _described(
    predictor: Predictor,
    picture: np.ndarray,
    claimed: int,
    *,
    drawn: Sequence[Drawn],
    mask: np.ndarray | None,
    options: PredictionOptions,
) -> tuple[MapEvidence, ...]:
    """The maps with their figures. Faithfulness costs many answers, so it is measured of the claim's map alone."""

    def score(pictures: np.ndarray) -> np.ndarray:
        return predictor(pictures)[:, claimed]

    made = []
    for each in drawn:
        share = pointing = measured = None
        values = torch.from_numpy(each.values)
        if mask is not None:
            inside = torch.from_numpy(mask)
            share, pointing = regions.energy_inside(values, inside), regions.pointing_game(values, inside)
        if each.of == "claim" and options.steps:
            measured = faithfulness(
                score, picture, each.values, steps=options.steps, random_orders=options.random_orders, seed=options.seed
            )
        made.append(MapEvidence(each.of, each.method, each.values, each.caveats, share, pointing, measured))
    return tuple(made)


def _limits(source: MaskSource, options: PredictionOptions, changed: Sequence[Counterfactual]) -> tuple[str, ...]:
    limits = ["A verdict holds for this image and these changes. It is no statement about other images."]
    if source == "nominated":
        limits.append("The region comes from the map, not from somebody who knows the object: this evidence is weaker.")
    if source == "boxes":
        limits.append("Boxes hold background beside the object: what is called the object is both.")
    if len(options.fills) < _STRONG:
        limits.append(f"Fewer than {_STRONG} kinds of fills: an effect may come from the traces of a fill.")
    if not any(each.change == "other_object" for each in changed):
        limits.append(
            "No object of another class was tried: where a class is the answer to an empty scene, too, removing the "
            "object shows nothing."
        )
    return tuple(limits)
