"""Where a tuned model comes from: all that is needed to repeat the run that made it, and what it came to.

These are what a repeated run must be given: base, base_version, base_digest, dataset, recipe, parameters (all that the
recipe has, whether they were asked for or not), seed, image_size, max_training_seconds, promote, and of `gate` its
accuracy_margin, reliance_margin and scenes; of a repair that no gate judged, reliance_margin and scenes; of a job that
publishes twice, early. The others, the rest of `gate` included, say what came of it, and what can make two such runs
differ: split, classes, training, precision, device, workers, libraries; how the parameters were found: search; which of
two versions it is: publication, improves_on.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from ouzel_protos.parameters import PROMOTIONS, names_of
from ouzel_protos.recipes import FINETUNE
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Score, Split, Tuned
    from ouzel.finetune.detection import BoxScore, Detected
    from ouzel.finetune.segmentation import PixelScore, Segmented
    from ouzel.models import Model
    from ouzel.worker.kinds.context import JobContext

_LIBRARIES = ("ouzel", "torch", "torchvision", "timm", "numpy", "pillow")
_LARGEST_CLASSES = 4096  # bytes as JSON: lists of models carry their lineages
_EXACT = 2**53  # beyond it a number of JSON is no more exact in most languages, and goes as text


def lineage(
    spec: pb.FinetuneSpec, context: JobContext, base: Model, tuned: Tuned | Segmented | Detected, publication: int = 1
) -> dict[str, Any]:
    """The lineage of a tuned model, as its card keeps it.

    Args:
        spec: Of the job.
        context: Of the job.
        base: The model that was tuned.
        tuned: What came of it.
        publication: Which of the job's versions this is.

    Returns:
        Values of JSON's types. `classes` is absent where there are too many; the model's labels have them in any case.
    """
    recipe = tuned.recipe
    record: dict[str, Any] = {
        "job": context.job,
        "owner": context.owner,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": base.name,
        "base_version": base.version,
        "base_digest": base.digest,
        "dataset": spec.dataset,
        "split": _split(tuned.split),
        "recipe": recipe.name,
        "parameters": _parameters(tuned),
        "seed": tuned.seed if tuned.seed < _EXACT else str(tuned.seed),
        "image_size": spec.image_size,
        "input_size": list(tuned.preprocessing.input_size),
        "max_training_seconds": spec.max_training_seconds,
        "promote": names_of(PROMOTIONS)[spec.promote],
        "classes": list(tuned.labels),
        "training": {
            "chosen": tuned.chosen,
            "steps": tuned.steps,
            "planned_steps": tuned.planned_steps,
            "out_of_time": tuned.out_of_time,
            "seconds": round(tuned.seconds, 1),
        },
        "metrics": metrics(tuned.test),
        "precision": tuned.precision,  # of training; features, figures and maps are exact
        "device": _device(base),
        "batch_scale": context.batch_scale,
        "workers": max(1, spec.workers),
        "attempt": context.attempt,
        "libraries": {name: version_of(name) for name in _LIBRARIES} | {"python": platform.python_version()},
    }
    if spec.early:
        record |= {"early": True, "publication": publication}
    if used := getattr(tuned, "used", None):
        record["pictures"] = dict(used)  # that were made of the images, to learn from and to choose by
    if tuned.recipe.repairs and spec.promote != pb.FinetuneSpec.IF_GROUNDED:
        record |= {"reliance_margin": spec.reliance_margin, "scenes": list(spec.scenes)}
    if len(json.dumps(record["classes"])) > _LARGEST_CLASSES:
        del record["classes"]
    return record | ({"notes": list(tuned.notes)} if tuned.notes else {})


def metrics(test: Score | PixelScore | BoxScore) -> dict[str, Any]:
    """Figures of the held-out images by name."""
    from ouzel.finetune import Score
    from ouzel.finetune.detection import BoxScore

    low, high = test.interval
    if isinstance(test, Score):
        figures = {"accuracy": test.accuracy, "accuracy_low": low, "accuracy_high": high}
        figures["balanced_accuracy"] = test.balanced
    elif isinstance(test, BoxScore):
        figures = {"map": test.map, "map_low": low, "map_high": high, "map50": test.map50}
    else:
        figures = {"miou": test.miou, "miou_low": low, "miou_high": high, "pixel_accuracy": test.pixel_accuracy}
    return figures | {"test_images": test.images}


def _parameters(tuned: Tuned | Segmented | Detected) -> dict[str, Any]:
    return {name: getattr(tuned.recipe, name) for name in FINETUNE[tuned.recipe.name]}


def _split(split: Split) -> Mapping[str, Any]:
    """How many images each part has, and a digest by which two splits can be told to be the same."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    lines = sorted(f"{part} {each.sha256} {each.name}" for part, examples in parts.items() for each in examples)
    digest = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return {**{part: len(examples) for part, examples in parts.items()}, "digest": f"sha256:{digest}"}


def _device(base: Model) -> Mapping[str, Any]:
    import torch

    device = next(base.network.parameters()).device
    cpu = platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return {"type": device.type, "name": name, "threads": torch.get_num_threads()}
