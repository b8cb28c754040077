"""Activation maximization: images that excite nodes of a model.

Artifacts: images/000.png, ... (for each target its images, in order), tensors.npz (images (n, C, H, W) float32 in
[0, 1], and transparency (n, H, W)), result.json, sheet.png, sheet.html. Summary: activations, a number per image;
titles, a text per image; steps; precision; digest of the model's weights; with a judge, independent: for each image
what it says, null where no class was sought.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue, Model
from ouzel.worker.kinds import parameters, photographs, pinned_model, targets
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.work import Work, scale
from ouzel_protos.recipes import MAXIMIZE, MAXIMIZE_DEFAULT, MAXIMIZE_STEPS, MAXIMIZE_VIEWS
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.maximize import Recipe, Result, Step
    from ouzel.maximize.report.gallery import Tile
    from ouzel.models import Model as LoadedModel

_MOST_IMAGES = 4096
_EDGE = (8, 4096)
_SHOWN = 4  # previews at a time
_PREVIEW_EDGE = 112  # pixels
_TELL_EVERY = 0.2  # s; to read figures, the host waits for the GPU


def validate(spec: pb.MaximizeSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: unknown models, nodes and recipes, values out of range, more than the budget."""
    model = catalogue.model(spec.model)
    pinned_model.check_digest(spec.model, model.digest, spec.model_digest, "model_digest")
    if spec.judge:
        _check_judge(spec, model, catalogue)
    if spec.dataset:
        photographs.check(spec.dataset, catalogue)
    elif spec.path:
        raise InvalidArgument(
            "dataset: name one with photographs of the classes, to compare paths with", field="dataset"
        )
    targets.check(spec.targets, model, catalogue.budget.targets)
    given = _parameters(spec)
    steps = int(given.get("steps", MAXIMIZE_STEPS))
    seen = int(given.get("views_per_step", MAXIMIZE_VIEWS[spec.recipe or MAXIMIZE_DEFAULT]))
    images = _images_per_target(spec) * len(spec.targets)
    height, width = _size(spec) or model.input[1:]
    if not 0 <= spec.seed < 2**63:
        raise InvalidArgument(f"seed: {spec.seed} is negative", field="seed")
    step = seen * images * model.input[0] * height * width
    cost = steps * step
    if cost > catalogue.budget.values:
        most = catalogue.budget.values // step
        views = f", {seen} views each," if seen > 1 else ""
        raise InvalidArgument(
            f"parameters.steps: {steps} steps for {images} images of {model.input[0]} x {height} x {width}{views} are "
            f"{cost:.3g} values, the limit is {catalogue.budget.values:.3g}; at most {most} steps fit",
            field="parameters.steps",
        )


def pin(spec: pb.MaximizeSpec, catalogue: Catalogue) -> None:
    """Notes which weights the model has, so that the job runs with these or fails."""
    spec.model_digest = catalogue.model(spec.model).digest
    if spec.judge:
        spec.judge_digest = catalogue.model(spec.judge, "judge").digest


def work(spec: pb.MaximizeSpec, catalogue: Catalogue) -> Work:
    """Millions of pixel values that are computed."""
    given, recipe = _parameters(spec), spec.recipe or MAXIMIZE_DEFAULT
    steps = int(given.get("steps", MAXIMIZE_STEPS))
    seen = int(given.get("views_per_step", MAXIMIZE_VIEWS[recipe]))
    channels, *edges = catalogue.model(spec.model).input
    height, width = _size(spec) or edges
    extras = "judged" if spec.judge else "", "photographs" if spec.dataset else "", "paths" if spec.path else ""
    units = steps * seen * _images_per_target(spec) * len(spec.targets) * channels * height * width / 1e6
    return Work(scale(recipe, *extras, model=spec.model, catalogue=catalogue), units)


def run(spec: pb.MaximizeSpec, context: JobContext) -> JobOutput:
    """Maximizes, reports previews, and saves at every step that asks for it."""
    from ouzel.maximize import maximize
    from ouzel.worker.kinds import checkpoint

    context.progress(0, phase="loading")
    model = pinned_model.load(context, spec.model, spec.model_digest)
    judge = pinned_model.load(context, spec.judge, spec.judge_digest, "judge") if spec.judge else None
    source = _photographs(spec, model, context)
    resumed = None if context.checkpoint is None else checkpoint.read(context.checkpoint)
    recipe, resumed = _begun(_recipe(spec, model, context), resumed, context)
    stopped, told = False, 0.0

    def on_step(step: Step) -> bool:
        nonlocal stopped, told
        last = step.step == step.steps
        if last or time.monotonic() - told >= _TELL_EVERY:
            mean = sum(step.activations) / len(step.activations)
            context.progress(step.step, step.steps, "maximizing", {"mean activation": mean})
            told = time.monotonic()
        if context.preview_wanted() and not last:
            context.preview(step.step, _previews(step, spec))
        stopped = context.stop_wanted() and not last
        if stopped or (context.save_wanted() and not last):
            context.save(checkpoint.dump(step.state()))
        return stopped

    result = maximize(
        model,
        targets.plain(spec.targets),
        recipe=recipe,
        images_per_target=_images_per_target(spec),
        size=_size(spec),
        seed=spec.seed,
        on_step=on_step,
        resume=resumed,
        pass_scale=context.batch_scale,
        data=source.images if source else None,
        data_labels=source.labels if source else None,
        judge=judge,
        path=spec.path,
    )
    if stopped:
        raise JobInterrupted
    return _done(result, model, context)


def _check_judge(spec: pb.MaximizeSpec, model: Model, catalogue: Catalogue) -> None:
    judge = catalogue.model(spec.judge, "judge")
    pinned_model.check_digest(spec.judge, judge.digest, spec.judge_digest, "judge_digest")
    if judge.digest == model.digest:
        raise InvalidArgument(f"judge: {spec.judge!r:.80} has the weights of the model itself", field="judge")
    if not any(node.WhichOneof("kind") == "logit" for node in spec.targets):
        raise InvalidArgument("judge: no target is a class, and other networks have other layers", field="judge")


def _photographs(spec: pb.MaximizeSpec, model: LoadedModel, context: JobContext) -> photographs.Source | None:
    """To compare with, where there are some.

    Those that come with the worker only if the images have the model's own size, as units are counted in it; a recipe
    that needs statistics takes them in any case.
    """
    if spec.dataset:
        return photographs.of(spec.dataset, model, context)
    if _size(spec) in (None, model.preprocessing.input_size) or _parameters(spec).get("statistics"):
        return photographs.shipped(model)
    return None


def _parameters(spec: pb.MaximizeSpec) -> dict[str, Any]:
    return parameters.checked(spec.recipe or MAXIMIZE_DEFAULT, spec.parameters, MAXIMIZE)


def _recipe(spec: pb.MaximizeSpec, model: LoadedModel, context: JobContext) -> Any:
    from ouzel.maximize import make_recipe, spectrum_of

    given, name = _parameters(spec), spec.recipe or MAXIMIZE_DEFAULT
    if name == "maco" and spec.dataset:
        given["spectrum"] = spectrum_of(image for _, image in photographs.of(spec.dataset, model, context).images)
    return make_recipe(name, given)


def _begun(recipe: Recipe, state: Any, context: JobContext) -> tuple[Recipe, Any]:
    """The recipe with which an earlier attempt has begun, and its state; without one the given recipe, and None.

    An Ouzel that was updated in between may have other defaults. To go on with these would give images of neither.
    """
    from ouzel.maximize import from_description

    if state is None:
        return recipe, None
    try:
        return from_description(state["recipe"]), state
    except (KeyError, TypeError, InvalidArgument) as error:
        context.log(f"begins again: what was saved is of another version of Ouzel ({error})", pb.Log.WARNING)
        return recipe, None


def _images_per_target(spec: pb.MaximizeSpec) -> int:
    count, most = spec.images_per_target or 1, _MOST_IMAGES // max(1, len(spec.targets))
    within("images_per_target", count, 1, most)
    return count


def _size(spec: pb.MaximizeSpec) -> tuple[int, int] | None:
    if not spec.height and not spec.width:
        return None
    for name, edge in (("height", spec.height), ("width", spec.width)):
        within(name, edge, *_EDGE)
    return spec.height, spec.width


def _previews(step: Step, spec: pb.MaximizeSpec) -> list[tuple[str, bytes]]:
    from ouzel.maximize.report import gallery

    shown = []
    images = step.images()[:_SHOWN].float().cpu()
    for number, image in enumerate(images):
        picture = gallery.picture(image)
        picture.thumbnail((_PREVIEW_EDGE, _PREVIEW_EDGE))
        target = number // _images_per_target(spec)
        shown.append((f"target {target}: activation {step.activations[number]:.2f}", gallery.png(picture)))
    return shown


def _done(result: Result, model: LoadedModel, context: JobContext) -> JobOutput:
    import numpy as np

    from ouzel.maximize import judge, report
    from ouzel.maximize.report import gallery

    verdicts = judge(model, result.visualizations)
    tiles = gallery.tiles_of(result.visualizations, verdicts)
    files = [
        File(f"images/{number:03}.png", "image/png", gallery.png(gallery.picture(one.image)))
        for number, one in enumerate(result.visualizations)
    ]
    origin = {"model": model.name, "digest": model.digest}
    described = {**origin, **report.of_result(result, [file.name for file in files], verdicts)}
    for line in described["warnings"]:
        context.log(line, pb.Log.WARNING)
    tensors = io.BytesIO()
    np.savez_compressed(
        tensors,
        images=np.stack([one.image.numpy() for one in result.visualizations]),
        transparency=np.stack([one.transparency.numpy() for one in result.visualizations]),
    )
    files += [
        File("tensors.npz", "application/octet-stream", tensors.getvalue()),
        File("result.json", "application/json", json.dumps(described, ensure_ascii=False).encode()),
        File("sheet.png", "image/png", gallery.png(gallery.sheet(tiles))),
        File("sheet.html", "text/html; charset=utf-8", _page(tiles, origin, described).encode()),
    ]
    summary: dict[str, Any] = {
        "activations": [one.activation for one in result.visualizations],
        "titles": [one.title for one in result.visualizations],
        "steps": result.steps,
        "precision": result.precision,
        "digest": model.digest,
    }
    if any(one.independent for one in result.visualizations):
        summary["independent"] = [asdict(one.independent) if one.independent else None for one in result.visualizations]
    return JobOutput(files, summary)


def _page(tiles: Sequence[Tile], origin: Mapping[str, str], described: Mapping[str, Any]) -> str:
    from ouzel.maximize.report import gallery

    return gallery.page(
        tiles,
        f"What excites {origin['model']}",
        recipe=described["recipe"],
        facts={"seed": described["seed"], "precision": described["precision"], **origin},
        warnings=described["warnings"],
    )
