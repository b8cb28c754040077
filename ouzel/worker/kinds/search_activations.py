"""Which images of a data set excite nodes of a model most?

Artifacts: crops/000.png, ... (for each target its hits, best first: the part of the image that the node sees),
result.json, sheet.png, sheet.html. Summary: hits, for each target a list of {name, activation, box}; images, how many
were looked at; precision; digest of the model's weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument, NotFound
from ouzel.precision_names import EXACT
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import pinned_model, targets
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.work import Work, scale
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from torch import Tensor

    from ouzel.maximize import Ranking
    from ouzel.models import Model

_DEFAULT_HITS = 9
_PART = 64  # images between two looks at whether to go on


def validate(spec: pb.SearchActivationsSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: unknown models, nodes and data sets, too many hits."""
    model = catalogue.model(spec.model)
    pinned_model.check_digest(spec.model, model.digest, spec.model_digest, "model_digest")
    targets.check(spec.targets, model, catalogue.budget.targets)
    within("top_k", spec.top_k, 0, catalogue.budget.top_k)
    if not spec.dataset and find_spec("skimage") is None:
        raise InvalidArgument("dataset: name one; this worker has no photographs of its own", field="dataset")
    if spec.dataset and spec.dataset not in catalogue.datasets:
        held = ", ".join(sorted(catalogue.datasets)) or "none"
        raise NotFound(f"dataset: no data set {spec.dataset!r:.80}; the operator allows {held}", field="dataset")


def pin(spec: pb.SearchActivationsSpec, catalogue: Catalogue) -> None:
    """Notes which weights the model has, so that the job runs with these or fails."""
    spec.model_digest = catalogue.model(spec.model).digest


def work(spec: pb.SearchActivationsSpec, catalogue: Catalogue) -> Work:
    """A pass over the data set, which nobody has counted."""
    return Work(scale(f"dataset={spec.dataset}", model=spec.model, catalogue=catalogue), 1.0)


def run(spec: pb.SearchActivationsSpec, context: JobContext) -> JobOutput:
    """Searches part by part. A part takes seconds, so the only checkpoint is the start."""
    from ouzel.maximize import search

    context.progress(0, phase="loading")
    model = pinned_model.load(context, spec.model, spec.model_digest)
    wanted, top_k = targets.plain(spec.targets), spec.top_k or _DEFAULT_HITS
    images = _images(context.environment.datasets[spec.dataset] if spec.dataset else None, model)
    merged: tuple[Ranking, ...] = ()
    kept: dict[str, Tensor] = {}
    seen = 0
    while part := _part(images, spec, context):
        rankings = search(model, wanted, part, top_k=top_k)
        merged = tuple(a.merge(b, top_k) for a, b in zip(merged, rankings, strict=True)) if merged else rankings
        named = {hit.name for ranking in merged for hit in ranking.hits}
        kept = {name: image for name, image in {**kept, **dict(part)}.items() if name in named}
        seen += len(part)
        context.progress(seen, phase="searching")
        if context.stop_wanted():
            raise JobInterrupted
    if not merged:
        raise InvalidArgument("dataset: holds no image", field="dataset")
    return _done((merged, kept, seen), model, spec, context)


def _part(
    images: Iterator[tuple[str, Tensor]], spec: pb.SearchActivationsSpec, context: JobContext
) -> list[tuple[str, Tensor]]:
    try:
        return list(islice(images, _PART))
    except InvalidArgument as error:  # it names the operator's folder, which is not the caller's business
        folder = str(context.environment.datasets.get(spec.dataset, ""))
        raise InvalidArgument(f"dataset: {str(error).replace(folder, spec.dataset)}", field="dataset") from None


def _images(folder: Path | None, model: Model) -> Iterator[tuple[str, Tensor]]:
    """(C, H, W) in [0, 1], as the model sees them."""
    import torch

    from ouzel.models.photographs import each_of_folder, shipped

    source = shipped(model.preprocessing) if folder is None else each_of_folder(folder, model.preprocessing)
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
    for one in source:
        yield one.name, (one.x * std + mean).clamp(0, 1)


def _done(
    searched: tuple[tuple[Ranking, ...], dict[str, Tensor], int],
    model: Model,
    spec: pb.SearchActivationsSpec,
    context: JobContext,
) -> JobOutput:
    """searched: the rankings, their images by name, and how many images were looked at."""
    from ouzel import pages
    from ouzel.maximize import report
    from ouzel.maximize.report import gallery
    from ouzel.models.photographs import whole

    rankings, images, seen = searched
    folder = context.environment.datasets[spec.dataset] if spec.dataset else None
    tiles = gallery.crops_of(rankings, images, lambda name: whole(name, folder), model.preprocessing)
    files = [
        File(f"crops/{number:03}.png", "image/png", gallery.png(gallery.picture(tile.image)))
        for number, tile in enumerate(tiles)
    ]
    described: dict[str, Any] = {"model": model.name, "digest": model.digest, "images": seen}
    described |= report.of_rankings(rankings, [file.name for file in files])
    for line in described["warnings"]:
        context.log(line, pb.Log.WARNING)
    facts = {"precision": EXACT, "data set": spec.dataset or "photographs of scikit-image", "images looked at": seen}
    page = gallery.page(
        tiles,
        f"What excites {model.name}",
        facts={**facts, "model": model.name, "digest": model.digest},
        warnings=described["warnings"],
    )
    files += [
        File("result.json", "application/json", pages.plain(json.dumps(described, ensure_ascii=False)).encode()),
        File("sheet.png", "image/png", gallery.png(gallery.sheet(tiles))),
        File("sheet.html", "text/html; charset=utf-8", page.encode()),
    ]
    hits = [[asdict(hit) | {"box": list(hit.box)} for hit in ranking.hits] for ranking in rankings]
    return JobOutput(files, {"hits": hits, "images": seen, "precision": EXACT, "digest": model.digest})
