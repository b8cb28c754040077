"""The audit of a data set as a page that a person reads in five minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouzel import pages
from ouzel.audit.dataset.evidence import DatasetEvidence
from ouzel.audit.report import findings, groups, words
from ouzel.audit.report.case import DatasetCase, told
from ouzel.audit.report.findings import Pictures
from ouzel.pages.texts import visible

_CLASSES = 25  # classes that are open from the start
_REASON = 600  # characters
_NO_CASE = DatasetCase()


def dataset_page(
    evidence: DatasetEvidence,
    case: DatasetCase = _NO_CASE,
    *,
    pictures: Pictures | None = None,
    folders: Mapping[str, str] | None = None,
    record: str = "",
) -> str:
    """The report on a data set as HTML that needs nothing from elsewhere and runs no script.

    Args:
        evidence: Of the audit.
        case: What else is known.
        pictures: Gives what the model sees of an image, by name; without it clusters and label errors have none.
        folders: Folder beside the page that holds the files of a suspect, by its name.
        record: SHA-256 of audit.json, in hex; "" if there is none.

    Returns:
        The page.
    """
    overall = evidence.overall
    known, backgrounds = folders or {}, groups.matrix(evidence)
    classes = [groups.group(each) for each in groups.ordered(evidence.classes)]
    margin = evidence.design.get("margins", {}).get("flip", 0.0)
    return pages.render(
        "audit_dataset.html",
        title=f"Audit of {visible(case.name) or 'a data set'}",
        meaning=words.of_group(overall.verdict, evidence.mode),
        recorded=evidence.mode == "table",
        concern=evidence.concern,
        lead=groups.lead(evidence),
        subtitle=_subtitle(evidence, case),
        notes=_notes(evidence),
        overall=groups.group(overall),
        bad=sum(each.concern for each in evidence.classes),
        classes=classes[:_CLASSES],
        rest=classes[_CLASSES:],
        margin=margin,
        margin_at=(margin + 1) / 2,
        links=[groups.link(each) for each in evidence.links],
        backgrounds=backgrounds[0],
        cells=backgrounds[1],
        lowest=groups.lowest(evidence),
        worst=None if evidence.worst is None else groups.cell(evidence.worst),
        clusters=findings.clusters(evidence, pictures),
        clusters_of=len(evidence.clusters),
        clusters_reason=visible(evidence.clusters_reason, _REASON),
        suspects=[findings.suspect(each, known.get(each.row.name, ""), pictures) for each in evidence.suspects],
        concerns=sum(each.concern for each in evidence.rows),
        errors=findings.label_errors(evidence, pictures),
        limits=[visible(each, _REASON) for each in evidence.limits],
        rules=[(str(name), visible(str(text), _REASON)) for name, text in evidence.design.get("rules", {}).items()],
        design=_design(evidence),
        rows=_record(evidence, case, record),
        csv="predictions.csv" if record else "",
    )


def _subtitle(evidence: DatasetEvidence, case: DatasetCase) -> str:
    parts = [f"Predicted by {words.source_of(evidence.source)}", f"{len(evidence.rows)} images"]
    if case.registered:
        parts.append(f"design registered on {told(case.registered)}")
    if case.audited:
        parts.append(f"audited on {told(case.audited)}")
    return f"{'; '.join(parts)}."


def _notes(evidence: DatasetEvidence) -> list[str]:
    overall, notes = evidence.overall, []
    if evidence.mode == "table":
        notes.append(
            "There are only recorded predictions, the model was not asked: this evidence is weaker, and no verdict can "
            "say what the predictions rest on."
        )
    if evidence.source.kind == "callable":
        notes.append("The caller reported the answers. Nobody else has seen the model that gave them.")
    if overall.refused:
        notes.append(f"{overall.refused} of {overall.images} images could not be audited; predictions.csv says why.")
    if overall.without_region:
        notes.append(
            f"Of {overall.without_region} of {overall.images} images nobody knows where the object is. They are in no "
            "test."
        )
    return notes


def _design(evidence: DatasetEvidence) -> list[tuple[str, str]]:
    values = {name: value for name, value in evidence.design.items() if name != "rules"}
    return [(name, visible(text, 300)) for name, text in pages.rows(values, {})]


def _record(evidence: DatasetEvidence, case: DatasetCase, record: str) -> list[tuple[str, str]]:
    source = evidence.source
    values: dict[str, Any] = {
        "Predicted by": source.name,
        "Version": source.version,
        "Digest of the weights": source.digest or "not known",
        "Kind of source": words.SOURCES[source.kind],
        "Maps from": evidence.maps_from,
        "Data set": case.name,
        "Digest of the data set": case.dataset or "not known",
        "SHA-256 of names, labels and order": evidence.examples_sha256,
        "SHA-256 of the design": evidence.design_sha256,
        "Design registered": told(case.registered),
        "Audited": told(case.audited),
        "Organisation": case.operator.organisation,
        "Contact": case.operator.contact,
        "SHA-256 of audit.json": record,
    }
    return [(name, visible(text, 300)) for name, text in pages.rows(values, {each: each for each in values})]
