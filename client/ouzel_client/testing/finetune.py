"""Events and results of fake fine-tuning jobs, in the form of real ones. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouzel_client.testing.models import FakeModels
from ouzel_client.testing.places import CLASSIFICATION, DETECTION, SEGMENTATION
from ouzel_protos import parameters
from ouzel_protos.recipes import DETECT, GATE_DEFAULTS, REPAIRS, SEGMENT
from ouzel_protos.search import TRIALS_DEFAULT
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.explain_pb2 import Parameter

FILES = ("curves.png", "mistakes/00.png", "compared/00-before.png", "compared/00-after.png")
# Of a repair, in the form of a real one. Nothing is audited.
REPAIRED: Mapping[str, Any] = {
    "before": {
        "verdict": "rests_on_background",
        "accuracy": 1.0,
        "worst_group": 0.1,
        "background_gap": 0.9,
        "reliance": 0.9,
        "reliance_low": 0.7,
        "reliance_high": 1.0,
    },
    "after": {
        "verdict": "rests_on_object",
        "accuracy": 1.0,
        "worst_group": 0.9,
        "background_gap": 0.0,
        "reliance": 0.0,
        "reliance_low": -0.1,
        "reliance_high": 0.1,
    },
}
_MASKED = {"task": "segmentation", "miou": 0.7, "miou_low": 0.6, "miou_high": 0.75, "pixel_accuracy": 0.9}
_BOXED = {"task": "detection", "map": 0.4, "map_low": 0.3, "map_high": 0.5, "map50": 0.6}
_FIGURES = {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "balanced_accuracy": 0.85}
_OF: Mapping[str, tuple[str, Mapping[str, Any]]] = {SEGMENT: (SEGMENTATION, _MASKED), DETECT: (DETECTION, _BOXED)}


def metric(progress: pb.Progress) -> pb.Metric:
    """The figures of a step: the loss falls from 1 to 0.1, and the accuracy rises to 0.9."""
    done = progress.step / progress.steps
    values = {
        "loss": 1 - 0.9 * done,
        "accuracy": 0.9 * done,
        "learning_rate": 1e-3,
        "images_per_second": 100.0,
        "seconds_left": float(progress.steps - progress.step),
        "epoch": float(progress.step),
    }
    return pb.Metric(step=progress.step, values=values)


def report(labels: tuple[str, ...]) -> Mapping[str, Any]:
    """The report of a check, of a data set with eight images of each class. Counts are texts: JSON has no 64 bits."""
    empty: Mapping[str, Any] = {"problems": [], "warnings": [], "refused": [], "duplicates": []}
    counts = {"images": str(8 * len(labels)), "classes": dict.fromkeys(labels, "8")}
    return {"dataset": "", "usable": True, **empty, **counts}


def publish(job: pb.Job, models: FakeModels, better: bool, grounded: bool, publication: int = 1) -> Mapping[str, Any]:
    """Add a version to the models, and return the summary of its job. publication: which of the job's versions."""
    spec, kinds = job.spec.finetune, pb.FinetuneSpec
    base, _, version = spec.base.partition("@")
    known = models.find(base, version)
    task, measured = _OF.get(spec.recipe, (CLASSIFICATION, _FIGURES))
    lineage: dict[str, Any] = {
        "job": job.id,
        "base": base,
        "base_version": known[0].version if known else version,
        "base_digest": known[0].digest if known else "",
        "dataset": spec.dataset,
        "recipe": spec.recipe,
        "parameters": {name: parameters.decode(each) for name, each in spec.parameters.items()},
        "seed": spec.seed if spec.seed < 2**53 else str(spec.seed),
        "image_size": spec.image_size,
        "max_training_seconds": spec.max_training_seconds,
        "promote": parameters.names_of(parameters.PROMOTIONS)[spec.promote],
        "metrics": measured,
    }
    if spec.early:
        lineage |= {"early": True, "publication": publication}
    promote = spec.promote == kinds.ALWAYS or (spec.promote == kinds.IF_BETTER and better)
    figures: dict[str, Any] = {"repair": REPAIRED} if spec.recipe in REPAIRS.values() else {}
    if spec.search:
        figures |= searched(spec)
    gated = spec.promote == kinds.IF_GROUNDED
    if gated:
        promote = grounded
        figures["gate"] = lineage["gate"] = _gate(spec, models, grounded)
    made = models.publish(spec.name, lineage, promote, held_back=gated and not grounded, task=task)
    named = {"model": made.name, "version": made.version, "digest": made.digest}
    return {**named, **measured, **figures, "promoted": made.is_default, "served": made.served}


def trials(spec: pb.FinetuneSpec) -> list[pb.JobEvent]:
    """The events of a search, each trial with the first value of what is searched; every second one is stopped."""
    told = []
    count = spec.trials or TRIALS_DEFAULT
    for number in range(1, count + 1):
        trial = pb.Trial(
            number=number, trials=count, parameters={name: _first(each) for name, each in spec.search.items()}
        )
        told.append(pb.JobEvent(trial=trial))
        ended = pb.Trial()
        ended.CopyFrom(trial)
        ended.outcome = pb.Trial.COMPLETE if number % 2 else pb.Trial.PRUNED
        ended.score, ended.epochs = 0.9 if number % 2 else 0.5, 3 if number % 2 else 1
        ended.reason = "" if number % 2 else "pretended"
        told.append(pb.JobEvent(trial=ended))
    return told


def _first(searched: pb.SearchRange) -> Parameter:
    if searched.HasField("choices"):
        return searched.choices.values[0]
    return parameters.encode(searched.interval.low)


def searched(spec: pb.FinetuneSpec) -> Mapping[str, Any]:
    """What the summary says of the search."""
    ended = [each.trial for each in trials(spec) if each.trial.outcome]
    names = {pb.Trial.COMPLETE: "complete", pb.Trial.PRUNED: "pruned"}
    table = [
        {
            "number": each.number,
            "parameters": {name: parameters.decode(value) for name, value in sorted(each.parameters.items())},
            "outcome": names[each.outcome],
            "score": each.score,
            "epochs": each.epochs,
            "reason": each.reason,
        }
        for each in ended
    ]
    counts = {name: sum(row["outcome"] == name for row in table) for name in names.values()}
    best = {name: table[0][name] for name in ("number", "parameters", "score")}
    return {"search": {"trials": len(table), **counts, "diverged": 0, "best": best, "table": table}}


def published(summary: Mapping[str, Any], number: int) -> pb.JobEvent:
    """The event that tells a version."""
    named = {name: summary[name] for name in ("model", "version", "digest", "promoted", "served")}
    return pb.JobEvent(publication=pb.Publication(number=number, **named))


def early(first: Mapping[str, Any], second: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The summary of a job that has answered early. second: of the next version; None if it is not better."""
    nothing: Mapping[str, Any] = {"version": "", "digest": "", "promoted": False, "served": False}
    later = {**first, **nothing} if second is None else second
    reason = f"{'not better' if second is None else 'better'}: pretended"
    left = ("model", "repair", "gate")
    steps = [{name: value for name, value in each.items() if name not in left} for each in (first, later)]
    outcome = {"first": steps[0], "later": steps[1], "better": second is not None, "reason": reason}
    return {**(second or first), "early": outcome}


def _gate(spec: pb.FinetuneSpec, models: FakeModels, passed: bool) -> Mapping[str, Any]:
    """A verdict in the form of a real one. Nothing is compared."""
    default = models.find(spec.name)
    margins = {name: getattr(spec, name) or usual for name, usual in GATE_DEFAULTS.items()}
    reason = "Pretended: backgrounds turn " + ("nothing." if passed else "9 of 10 predictions.")
    return {
        "passed": passed,
        "reason": reason,
        "against": "" if default is None else f"{default[0].name}@{default[0].version}",
        **margins,
        "scenes": list(spec.scenes),
        "checks": [
            {"name": "accuracy", "passed": True, "reason": "Pretended."},
            {"name": "reliance", "passed": passed, "reason": reason},
        ],
    }
