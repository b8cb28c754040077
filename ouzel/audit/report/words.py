"""The words of an audit for people: verdicts, changes and their controls."""

from __future__ import annotations

from dataclasses import dataclass

from ouzel.audit.counterfactuals import Change
from ouzel.audit.evidence import MaskSource, Outcome, PredictionEvidence, Verdict
from ouzel.audit.source import Kind, Source
from ouzel.pages.texts import visible


@dataclass(frozen=True)
class Meaning:
    """A verdict in words.

    Attributes:
        title: In a few words.
        line: What it means, in a sentence.
        look: "good", "bad" or "open", for its colour; words say the same.
    """

    title: str
    line: str
    look: str


VERDICTS: dict[Verdict, Meaning] = {
    "rests_on_object": Meaning(
        "Rests on the object",
        "The prediction changes with the object, and much less with what is behind it.",
        "good",
    ),
    "rests_on_background": Meaning(
        "Rests on the background",
        "The prediction changes with what is behind the object, and much less with the object itself.",
        "bad",
    ),
    "disagrees": Meaning(
        "Disagrees with the claim", "The model does not predict for this image what was claimed.", "bad"
    ),
    "inconclusive": Meaning(
        "Inconclusive", "It was not shown whether the prediction rests on the object or on the background.", "open"
    ),
}
# The same of a data set, or of a class.
GROUPS: dict[Verdict, Meaning] = {
    "rests_on_object": Meaning(
        "The predictions rest on the objects",
        "Another object turns the predictions. What is behind the object does not, beyond its control.",
        "good",
    ),
    "rests_on_background": Meaning(
        "The predictions rest on the backgrounds",
        "What is behind the object turns the predictions, beyond its control and more than another object does.",
        "bad",
    ),
    "disagrees": Meaning(
        "The model disagrees with the claims", "It predicts other classes than those that were claimed.", "bad"
    ),
    "inconclusive": Meaning(
        "Inconclusive", "It was not shown whether the predictions rest on the objects or on the backgrounds.", "open"
    ),
}
# The same of recorded predictions, whose model was not asked.
RECORDED: dict[Verdict, Meaning] = GROUPS | {
    "disagrees": Meaning(
        "The records are contradicted", "What was recorded is not what the images are, or what a surrogate says.", "bad"
    ),
    "inconclusive": Meaning("Inconclusive", "What the predictions rest on cannot be told from records alone.", "open"),
}
SHORT: dict[str, str] = {
    "rests_on_object": "rests on the object",
    "rests_on_background": "rests on the background",
    "disagrees": "disagrees",
    "inconclusive": "inconclusive",
    "refused": "not audited",
}
SCENE = "The class was declared to be a scene, so it may rest on the background."
SOURCES: dict[Kind, str] = {
    "model": "a model of the store",
    "endpoint": "an endpoint of another service",
    "callable": "a function of the caller, who reported its answers",
    "table": "a table of recorded predictions",
}
REGIONS: dict[MaskSource, str] = {
    "mask": "a mask of the object",
    "boxes": "boxes round the object",
    "nominated": "the region that the map marks; nobody said where the object is",
}
# Of each change that is tested: what is changed, and its control.
CHANGES: dict[Change, tuple[str, str]] = {
    "background": ("Background replaced", "The same background rearranged, or one of the same class"),
    "object": ("Object removed", "As many pixels of the background covered, in the object's shape"),
    "other_object": ("Object replaced by another class", "Object replaced by another one of the same class"),
}
FILLS = {
    "blur": "blurred background",
    "mean": "plain colour",
    "texture": "textures",
    "scene": "other images",
    "": "",
}


def meaning(evidence: PredictionEvidence) -> Meaning:
    """The verdict on one prediction in words."""
    known = VERDICTS[evidence.verdict]
    if evidence.verdict == "rests_on_background" and evidence.scene:
        return Meaning(known.title, f"{known.line} {SCENE}", "open")
    return known


def of_group(verdict: Verdict, mode: str) -> Meaning:
    """The verdict on a data set in words. mode: of `DatasetEvidence`."""
    return (RECORDED if mode == "table" else GROUPS)[verdict]


def source_of(source: Source) -> str:
    """Whose prediction: "goats 3, a model of the store"."""
    name = " ".join(visible(each) for each in (source.name, source.version) if each)
    return f"{name}, {SOURCES[source.kind]}"


def fill_of(outcome: Outcome) -> str:
    """What took the place of the pixels: the name of the fill or of the other image."""
    name = outcome.name.partition("/")[2]
    if outcome.change == "rearranged":
        return f"rearranged, order {int(name) + 1}"
    if outcome.kind == "scene":
        return f"from {visible(name, 48)}"
    return {"blur": "blurred", "mean": "plain colour"}.get(name, visible(name, 48))
