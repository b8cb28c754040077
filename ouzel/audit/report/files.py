"""The files of an audited prediction: the record, the pictures, the pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ouzel
from ouzel.audit.evidence import PredictionEvidence
from ouzel.audit.report import drawing
from ouzel.audit.report.article86 import article86_page
from ouzel.audit.report.case import Case, told
from ouzel.audit.report.prediction import digest_of, prediction_page
from ouzel.audit.report.words import meaning
from ouzel.canonical import canonical

# By name, the media type and the content.
Files = dict[str, tuple[str, bytes]]

FORMAT = "ouzel-audit-prediction-1"  # of record.json
_PNG, _NPY, _HTML = "image/png", "application/octet-stream", "text/html; charset=utf-8"
_NO_CASE = Case()
_LONGEST = 32  # characters of a name within a file's name


def prediction_files(evidence: PredictionEvidence, case: Case = _NO_CASE) -> Files:
    """All files of an audited prediction.

    Args:
        evidence: Of `audit_prediction`.
        case: What else is known of the decision.

    Returns:
        By name: `record.json` (RFC 8785) with the hashes of the pictures, `input.png`, `outline.png`, `mask.png`,
        `maps/*.npy` and `maps/*.png`, `counterfactuals/*.png`, and the pages `page.html` and `article86.html`.

    Raises:
        InvalidArgument: A figure is not finite, or the package rfc8785 is missing.
    """
    pictures = _pictures(evidence)
    record = canonical(_record(evidence, case, pictures))
    page = prediction_page(evidence, case, record=hashlib.sha256(record).hexdigest())
    return {
        "page.html": (_HTML, page.encode()),
        "article86.html": (_HTML, article86_page(evidence, case).encode()),
        "record.json": ("application/json", record),
        **pictures,
    }


def map_files(evidence: PredictionEvidence) -> Files:
    """The files that show where the model looked.

    Returns:
        By name: `outline.png`, the region of the object; `maps/*.npy` and `maps/*.png`.
    """
    files = {"outline.png": (_PNG, drawing.png(drawing.outlined(evidence.picture, evidence.mask)))}
    for name, each in zip(_map_names(evidence), evidence.maps, strict=True):
        files[f"{name}.npy"] = (_NPY, drawing.npy(each.values))
        files[f"{name}.png"] = (_PNG, drawing.png(drawing.over(evidence.picture, each.values, each.method)))
    return files


def _pictures(evidence: PredictionEvidence) -> Files:
    files = {
        "input.png": (_PNG, drawing.png(evidence.picture)),
        "mask.png": (_PNG, drawing.png(evidence.mask.astype("uint8") * 255)),
        **map_files(evidence),
    }
    for name, outcome in zip(_changed_names(evidence), evidence.outcomes, strict=True):
        files[name] = (_PNG, drawing.png(outcome.picture))
    return files


def _record(evidence: PredictionEvidence, case: Case, pictures: Files) -> dict[str, Any]:
    values = evidence.to_dict()
    for name, each in zip(_map_names(evidence), values["maps"], strict=True):
        each |= {"values_file": f"{name}.npy", "picture_file": f"{name}.png"}
    for name, each in zip(_changed_names(evidence), values["counterfactuals"], strict=True):
        each["file"] = name
    return {
        "format": FORMAT,
        "ouzel": ouzel.__version__,
        "case": case.to_dict(),
        "options": None if case.options is None else asdict(case.options),
        "evidence": values,
        "input": {
            "shape": list(evidence.picture.shape),
            "pixels_sha256": digest_of(evidence.picture),
            "mask_sha256": digest_of(evidence.mask),
        },
        "files": digests(pictures),
    }


def prediction_facts(evidence: PredictionEvidence, case: Case = _NO_CASE) -> dict[str, str]:
    """What README.txt of a prediction's bundle says: the verdict, and what was audited."""
    source = evidence.source
    return {
        "Verdict": f"{meaning(evidence).title}. {meaning(evidence).line}",
        "Model": f"{source.name} {source.version}".strip(),
        "Digest of the model's weights": source.digest or "not known",
        "Image": case.image,
        "SHA-256 of the image's file": case.digest or "not known",
        "SHA-256 of the pixels that the model saw": digest_of(evidence.picture),
        "Data set": case.dataset,
        "Decided": case.when,
        "Audited": told(case.audited),
        "Made by": f"ouzel {ouzel.__version__}",
    }


def digests(files: Files) -> Mapping[str, str]:
    """SHA-256 of each file, in hex, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, (_, content) in files.items()}


def _map_names(evidence: PredictionEvidence) -> list[str]:
    return [f"maps/{number}-{slug(each.of)}" for number, each in enumerate(evidence.maps)]


def _changed_names(evidence: PredictionEvidence) -> list[str]:
    return [f"counterfactuals/{number:03}-{slug(each.name)}.png" for number, each in enumerate(evidence.outcomes)]


def slug(text: str) -> str:
    """A text from anywhere as a part of a file's name: lower-case letters of ASCII, digits and hyphens."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST].rstrip("-") or "x"
