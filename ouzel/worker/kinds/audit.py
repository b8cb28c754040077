"""Auditing the predictions on a data set: do they rest on the objects, or on what is behind them?

Artifacts: report.html, audit.json, predictions.csv, design.json (what was fixed before the first answer), suspects/...
(images that somebody should look at, with all changed pictures), decisions/....html (for the persons concerned),
bundle.zip (all of it, with a README that says how to verify it). Summary: verdict, reason, concern, and the figures of
`DatasetEvidence`, without its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ouzel.checks import one_of, parameter
from ouzel.errors import InvalidArgument, OuzelError, Unavailable
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import audit_sources, audited_images, parameters, training_data
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput, proof_files
from ouzel.worker.kinds.work import Work, images, plain, scale
from ouzel_protos.recipes import AUDIT_LIMITS
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.audit_pb2 import AuditContact

if TYPE_CHECKING:
    import numpy as np

    from ouzel.audit.dataset import DatasetDesign, DatasetEvidence, Event, Example
    from ouzel.audit.report import Files, Pictures

_MOST_SCENES = 2000
_FILLS = ("blur", "mean", "texture")
_MARGINS = {"flip": "flip", "flip_control": "control", "agreement": "agreement", "fewest": "fewest"}
_IMAGE_MARGINS = {"effect": "effect", "effect_control": "control"}
_LONGEST_SCALE = 1000
_LONGEST_CONTACT = 500
_FEW = 20  # classes and links in a summary: lists of jobs carry their results


class SourceUnavailable(OuzelError):
    """The audited service does not answer now. Not an `Unavailable`, which a job's process takes for its store's."""

    code = Unavailable.code


def validate(spec: pb.AuditSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: unknown models, endpoints and data sets, margins out of range."""
    audit_sources.check(spec, catalogue)
    audited_images.check_recorded(spec.recorded)
    _check_design(spec)
    check_contact(spec.contact)
    training_data.check(spec.dataset, catalogue)
    audited_images.check_paths(spec, catalogue)


def check_contact(contact: AuditContact) -> None:
    """Refuses texts that are too long. Raises InvalidArgument."""
    for name in ("organisation", "contact"):
        if len(getattr(contact, name)) > _LONGEST_CONTACT:
            field = f"contact.{name}"
            raise InvalidArgument(f"{field}: has more than {_LONGEST_CONTACT} characters", field=field)


def pin(spec: pb.AuditSpec, catalogue: Catalogue) -> None:
    """Notes which weights the models have, so that the job runs with these or fails."""
    if spec.model:
        spec.model_digest = catalogue.model(spec.model).digest
    if spec.surrogate:
        spec.surrogate_digest = catalogue.model(spec.surrogate, "surrogate").digest


def work(spec: pb.AuditSpec, catalogue: Catalogue) -> Work | None:
    """Images."""
    counted = len(spec.recorded) or images(spec.dataset, catalogue)
    model = spec.model or spec.surrogate
    if not counted or not model:
        return None
    design = (spec.method, "fills=" + " ".join(spec.fills), plain(spec.parameters))
    source = f"endpoint={spec.endpoint}" if spec.endpoint else ""
    return Work(scale(source, *design, model=model, catalogue=catalogue)[:_LONGEST_SCALE], float(counted))


def run(spec: pb.AuditSpec, context: JobContext) -> JobOutput:
    """Audits image by image. The design is stored before the first answer; a resumed job goes on with it."""
    from ouzel.worker.kinds import audit_files

    context.progress(0, phase="loading")
    sources = audit_sources.open_sources(spec, context)
    try:
        context.progress(0, phase="checking the images")
        examples = audited_images.examples(spec, context)
        told = _Told(context, design_of(spec))
        evidence = _evidence(sources, examples, told)
        if all(row.verdict == "refused" for row in evidence.rows):
            raise InvalidArgument(f"dataset: no image could be audited; {evidence.rows[0].reason}", field="dataset")
        context.progress(0, phase="reporting")
        files = audit_files.files(evidence, spec, told.registered, _pictures(examples, sources))
    finally:
        sources.close()
    if context.stop_wanted():
        raise JobInterrupted
    entry = context.record("audit", _facts(spec, evidence, files))
    made = [File(name, kind, content) for name, (kind, content) in files.items()]
    return JobOutput(made + proof_files(entry), summary(evidence))


def _evidence(sources: audit_sources.Sources, examples: Sequence[Example], told: _Told) -> DatasetEvidence:
    from ouzel.audit.dataset import Record, Stopped, audit_dataset, audit_table

    more: dict[str, Any] = {"on_event": told, "resume": told.resumed, "stop": told.context.stop_wanted}
    try:
        if sources.predictor is not None:
            return audit_dataset(
                sources.predictor, sources.maps, examples, told.design, surrogate=sources.surrogate, **more
            )
        assert sources.surrogate is not None  # `audit_sources.check` has seen to that
        records = [Record(each.name, each.label, None, each.service, each.time) for each in examples]
        return audit_table(records, sources.surrogate, sources.maps, examples, told.design, **more)
    except Stopped as stopped:
        told.save(stopped.state)
        raise JobInterrupted from None
    except Unavailable as error:  # of the audited service; the job store's own ends the process
        raise SourceUnavailable(str(error)) from error


def _pictures(examples: Sequence[Example], sources: audit_sources.Sources) -> Pictures:
    """Gives what the model sees of an image, by name."""
    from ouzel.audit.dataset.examples import UNREADABLE

    asked = sources.predictor or sources.surrogate
    assert asked is not None
    view, known = asked.view, {each.name: each for each in examples}

    def picture(name: str) -> np.ndarray | None:
        try:
            return view.picture(known[name].image())
        except UNREADABLE:
            return None

    return picture


def _facts(spec: pb.AuditSpec, evidence: DatasetEvidence, files: Files) -> dict[str, Any]:
    """What the entry of the log says: the verdict, what it is about, and digests of all that was found."""
    source, overall = evidence.source, evidence.overall
    facts = {
        "source": {"kind": source.kind, "name": source.name, "version": source.version, "digest": source.digest},
        "mode": evidence.mode,
        "verdict": overall.verdict,
        "concern": evidence.concern,
        "design_sha256": evidence.design_sha256,
        "examples_sha256": evidence.examples_sha256,
        "files": {name: hashlib.sha256(files[name][1]).hexdigest() for name in ("audit.json", "bundle.zip")},
    }
    if "://" not in spec.dataset:
        facts["dataset"] = spec.dataset
    return facts


def design_of(spec: pb.AuditSpec) -> DatasetDesign:
    """The design of a checked spec."""
    from ouzel.audit import Margins
    from ouzel.audit.dataset import DatasetDesign, GroupMargins

    values = parameters.plain(spec.parameters, AUDIT_LIMITS)
    image = Margins(**{own: values.pop(name) for name, own in _IMAGE_MARGINS.items() if name in values})
    group = GroupMargins(**{own: values.pop(name) for name, own in _MARGINS.items() if name in values})
    if spec.fills:
        values["fills"] = tuple(spec.fills)
    return DatasetDesign(
        image_margins=image,
        margins=group,
        scenes=tuple(spec.scenes),
        seed=spec.seed,
        **values,
    )


def summary(evidence: DatasetEvidence) -> dict[str, Any]:
    """The figures of an audit, without what grows with its images."""
    overall = evidence.overall.to_dict()
    return {
        "verdict": overall["verdict"],
        "reason": overall["reason"],
        "concern": evidence.concern,
        "mode": evidence.mode,
        "overall": overall,
        "classes": [each.to_dict() for each in evidence.classes[:_FEW]],
        "links": [each.to_dict() for each in evidence.links[:_FEW]],
        "worst": None if evidence.worst is None else evidence.worst.to_dict(),
        "clusters": [
            {"label": each.label, "images": len(each.members), "verdict": each.verdict, "reason": each.reason}
            for each in evidence.clusters[:_FEW]
        ],
        "suspects": [each.row.name for each in evidence.suspects],
        "label_errors": len(evidence.label_errors.suspected),
        "design_sha256": evidence.design_sha256,
        "examples_sha256": evidence.examples_sha256,
        "limits": list(evidence.limits),
    }


def _check_design(spec: pb.AuditSpec) -> None:
    """Without torch, which the library's own checks would load."""
    values = parameters.plain(spec.parameters, AUDIT_LIMITS)
    for key, value in values.items():
        if key not in AUDIT_LIMITS:
            raise InvalidArgument(
                f"parameters.{key:.80}: an audit knows only {', '.join(AUDIT_LIMITS)}", field=f"parameters.{key}"
            )
        parameter(f"parameters.{key}", value, AUDIT_LIMITS[key])
    for kind in spec.fills:
        one_of("fills", kind, _FILLS)
    for name in ("fills", "scenes"):
        given = list(getattr(spec, name))
        if len(set(given)) != len(given) or len(given) > _MOST_SCENES:
            raise InvalidArgument(f"{name}: names one twice, or more than {_MOST_SCENES}", field=name)
    if not 0 <= spec.seed < 2**31:
        raise InvalidArgument(f"seed: {spec.seed} is not within 0..{2**31 - 1}", field="seed")


class _Told:
    """Hands the library's events on, and saves. The first event stores the design, before anything is asked.

    Attributes:
        context: Of the job.
        design: Of the audit.
        registered: When the design was stored.
        resumed: The state of an earlier attempt; None at the first.
    """

    def __init__(self, context: JobContext, design: DatasetDesign) -> None:
        from ouzel.worker.kinds import checkpoint

        self.context, self.design = context, design
        saved = None if context.checkpoint is None else checkpoint.read(context.checkpoint)
        self.registered = datetime.now(UTC) if saved is None else datetime.fromisoformat(saved["registered"])
        self.resumed: Mapping[str, Any] | None = None if saved is None else saved["state"]

    def __call__(self, event: Event) -> None:
        phases: Mapping[str, str] = {"pool": "choosing other images", "images": "auditing"}
        if event.phase == "registered" and self.resumed is None:
            self.save(event.state(), needed=True)
            self.context.log(f"fixed before the first answer: design sha256:{self.design.sha256()}")
        self.context.progress(event.step, event.steps, phase=phases.get(event.phase, event.phase))
        if self.context.save_wanted():
            self.save(event.state())

    def save(self, state: Mapping[str, Any], *, needed: bool = False) -> None:
        """Saves a state, see `JobContext.save`."""
        from ouzel.worker.kinds import checkpoint

        content = checkpoint.dump({"registered": self.registered.isoformat(), "state": dict(state)})
        self.context.save(content, needed=needed)
