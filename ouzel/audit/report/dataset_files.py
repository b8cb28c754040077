"""The files of a data set's audit: the report, the figures for programs, and the files of each suspect."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any

import ouzel
from ouzel import pages
from ouzel.audit.dataset.evidence import DatasetEvidence
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.report import groups, words
from ouzel.audit.report.case import Case, DatasetCase, told
from ouzel.audit.report.dataset import dataset_page
from ouzel.audit.report.files import Files, prediction_files, slug
from ouzel.audit.report.findings import Pictures
from ouzel.canonical import canonical
from ouzel.pages import percent
from ouzel.pages.texts import cell, visible

FORMAT = "ouzel-audit-dataset-1"  # of audit.json
_NO_CASE = DatasetCase()
_COLUMNS = (
    *("name", "claimed", "true_label", "predicted", "probability", "agrees", "verdict", "concern", "evidence"),
    *("mask_source", "object_share", "share_on_object", "pointing"),
    *("background_flips", "background_control_flips", "object_flips", "object_control_flips"),
    *("service", "time", "surrogate", "surrogate_agrees", "held_out", "reason"),
)


def predictions_csv(evidence: DatasetEvidence) -> str:
    """One line for each image. A cell that a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in evidence.rows:
        writer.writerow([_cell(each) for each in _values(row)])
    return out.getvalue()


def _values(row: ImageRow) -> list[Any]:
    flips = row.flips
    pairs = (
        {}
        if flips is None
        else {
            "background_flips": flips.background,
            "background_control_flips": flips.background_control,
            "object_flips": flips.object,
            "object_control_flips": flips.object_control,
        }
    )
    return [pairs.get(name) if name.endswith("_flips") else getattr(row, name) for name in _COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6f}" if isinstance(value, float) else cell(visible(str(value), 0))


def dataset_files(
    evidence: DatasetEvidence, case: DatasetCase = _NO_CASE, *, pictures: Pictures | None = None
) -> Files:
    """All files of a data set's audit.

    Args:
        evidence: Of the audit.
        case: What else is known.
        pictures: Gives what the model sees of an image, by name.

    Returns:
        By name: `report.html`, `audit.json` (RFC 8785), `predictions.csv`, and in `suspects/NN-NAME/` the files of each
        image that somebody should look at, its pages included.

    Raises:
        InvalidArgument: A figure is not finite, or the package rfc8785 is missing.
    """
    files: Files = {}
    folders: dict[str, str] = {}
    for number, one in enumerate(evidence.suspects):
        if one.evidence is not None:
            folders[one.row.name] = folder = f"suspects/{number:02}-{slug(one.row.name)}"
            about = suspect_case(one.row, case)
            files |= {f"{folder}/{name}": each for name, each in prediction_files(one.evidence, about).items()}
    record = canonical(
        {
            "format": FORMAT,
            "ouzel": ouzel.__version__,
            "case": case.to_dict(),
            "evidence": evidence.to_dict(),
            "suspects": folders,
        }
    )
    digest = hashlib.sha256(record).hexdigest()
    page = dataset_page(evidence, case, pictures=pictures, folders=folders, record=digest)
    return {
        "report.html": ("text/html; charset=utf-8", page.encode()),
        "audit.json": ("application/json", record),
        "predictions.csv": ("text/csv; charset=utf-8", pages.plain(predictions_csv(evidence)).encode()),
        **files,
    }


def suspect_case(row: ImageRow, case: DatasetCase) -> Case:
    """What is known of the decision on one image of a data set."""
    return Case(
        image=row.name,
        service=row.service,
        stated=row.time,
        audited=case.audited,
        dataset=case.dataset,
        operator=case.operator,
    )


def dataset_facts(evidence: DatasetEvidence, case: DatasetCase = _NO_CASE) -> dict[str, str]:
    """What README.txt of a data set's bundle says: the verdict, and what was audited."""
    source, overall = evidence.source, evidence.overall
    meaning = words.of_group(evidence.overall.verdict, evidence.mode)
    return {
        "Verdict": f"{meaning.title}. {meaning.line}",
        "Classes": groups.lead(evidence),
        "Model": f"{source.name} {source.version}".strip(),
        "Digest of the model's weights": source.digest or "not known",
        "Data set": case.name,
        "Digest of the data set": case.dataset or "not known",
        "SHA-256 of names, labels and order": evidence.examples_sha256,
        "SHA-256 of the design, fixed before the first answer": evidence.design_sha256,
        "Images": f"{overall.images}; the model says of {percent(overall.agreement.share, 0)} what was claimed",
        "Audited": told(case.audited),
        "Made by": f"ouzel {ouzel.__version__}",
    }
