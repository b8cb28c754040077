"""The files that an audit of a data set leaves."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ouzel.audit.report import (
    DatasetCase,
    Files,
    Operator,
    article86_page,
    bundle,
    dataset_facts,
    dataset_files,
)
from ouzel.audit.report.dataset_files import suspect_case

if TYPE_CHECKING:
    from ouzel.audit.dataset import DatasetEvidence
    from ouzel.audit.report import Pictures
    from ouzel_protos.v1 import job_pb2 as pb

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state: the bytes depend on nothing but the content
_SHOWN = ("page.html", "article86.html", "outline.png")  # of a suspect; the bundle holds the rest


def files(evidence: DatasetEvidence, spec: pb.AuditSpec, registered: datetime, pictures: Pictures) -> Files:
    """The files of an audit.

    Args:
        evidence: What it shows.
        spec: Of the job.
        registered: When the design was stored.
        pictures: Gives what the model sees of an image, by name.

    Returns:
        The report, the figures, the pages of the images that somebody should look at, and `bundle.zip` with everything.
        Where decisions were recorded also `decisions.zip`, with a page for each person concerned.
    """
    operator = Operator(spec.contact.organisation, spec.contact.contact)
    dataset = "" if "://" in spec.dataset else spec.dataset
    case = DatasetCase(dataset=dataset, registered=registered, audited=datetime.now(UTC), operator=operator)
    made = dataset_files(evidence, case, pictures=pictures)
    if spec.recorded:
        made["decisions.zip"] = ("application/zip", _decisions(evidence, case))
    whole = bundle(made, dataset_facts(evidence, case), title="Audit of a data set")
    shown = {name: each for name, each in made.items() if "/" not in name or name.rpartition("/")[2] in _SHOWN}
    return {**shown, "bundle.zip": ("application/zip", whole)}


def _decisions(evidence: DatasetEvidence, case: DatasetCase) -> bytes:
    """One page for each image that was audited, named by the number of its row in predictions.csv."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, row in enumerate(evidence.rows, 1):
            if row.verdict == "refused":  # nothing was found out about it
                continue
            page = article86_page(row, suspect_case(row, case), source=evidence.source)
            archive.writestr(zipfile.ZipInfo(f"decision-{number:05}.html", _TIME), page)
    return out.getvalue()
