"""Activation maximization: images that excite nodes of a model.

Artifacts: images/000.png, ... (for each target its images, in order), tensors.npz (images (n, C, H, W) float32 in
[0, 1], and transparency (n, H, W)), result.json, sheet.png, sheet.html. Summary: activations, a number per image;
titles, a text per image; steps; digest of the model's weights.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ouzel.checks import did_you_mean
from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue, Model
from ouzel.worker.kinds import parameters, targets
from ouzel.worker.kinds.context import Done, File, Stopped, Work
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from torch import Tensor

    from ouzel.maximize import Result, Step
    from ouzel.maximize.report.gallery import Tile
    from ouzel.models import Model as LoadedModel

_DEFAULT = "fourier"
_WHOLE = ("steps",)  # of the parameters; the others are real numbers
_MOST_IMAGES = 4096
_EDGE = (8, 4096)
_SHOWN = 4  # previews at a time
_PREVIEW_EDGE = 112  # pixels


def validate(spec: pb.MaximizeSpec, catalogue: Catalogue) -> None:
    model = catalogue.model(spec.model)
    targets.check(spec.targets, model, catalogue.budget.targets)
    steps = _check_recipe(spec, model)
    images = _images_per_target(spec) * len(spec.targets)
    height, width = _size(spec) or model.input[1:]
    if not 0 <= spec.seed < 2**63:
        raise InvalidArgument(f"seed: {spec.seed} is negative", field="seed")
    cost = steps * images * model.input[0] * height * width
    if cost > catalogue.budget.values:
        most = catalogue.budget.values // (images * model.input[0] * height * width)
        raise InvalidArgument(
            f"parameters.steps: {steps} steps for {images} images of {model.input[0]} x {height} x {width} are "
            f"{cost:.3g} values, the limit is {catalogue.budget.values:.3g}; at most {most} steps fit",
            field="parameters.steps",
        )


def run(spec: pb.MaximizeSpec, work: Work) -> Done:
    import torch

    from ouzel import models
    from ouzel.maximize import maximize
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import checkpoint

    work.progress(0, phase="loading")
    model = models.load(ModelStore(work.models).find(spec.model), "cuda" if torch.cuda.is_available() else "cpu")
    resumed = None if work.checkpoint is None else checkpoint.read(work.checkpoint)
    stopped = False

    def on_step(step: Step) -> bool:
        nonlocal stopped
        mean = sum(step.activations) / len(step.activations)
        work.progress(step.step, step.steps, "maximizing", {"mean activation": mean})
        last = step.step == step.steps
        if work.preview_wanted() and not last:
            work.preview(step.step, _previews(step, spec))
        stopped = work.stop_wanted() and not last
        if stopped or (work.save_wanted() and not last):
            work.save(checkpoint.dump(step.state()))
        return stopped

    result = maximize(
        model,
        targets.plain(spec.targets),
        recipe=_recipe(spec),
        images_per_target=_images_per_target(spec),
        size=_size(spec),
        seed=spec.seed,
        on_step=on_step,
        resume=resumed,
        pass_scale=work.batch_scale,
        data=_yardstick(spec, model),
    )
    if stopped:
        raise Stopped
    return _done(result, model, work)


def _yardstick(spec: pb.MaximizeSpec, model: LoadedModel) -> list[tuple[str, Tensor]] | None:
    """Photographs to compare with, where there are some: of the model's own size, as their units are counted."""
    import torch

    from ouzel.trust import shipped

    if find_spec("skimage") is None or _size(spec) not in (None, model.preprocessing.input_size):
        return None
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
    return [(one.name, (one.x * std + mean).clamp(0, 1)) for one in shipped(model.preprocessing)]


def _check_recipe(spec: pb.MaximizeSpec, model: Model) -> int:
    """Returns the steps."""
    name = spec.recipe or _DEFAULT
    if name not in model.recipes:
        raise InvalidArgument(
            f"recipe: {name!r:.80} is not one of {', '.join(model.recipes)}{did_you_mean(name, model.recipes)}",
            field="recipe",
        )
    allowed = model.recipes[name]
    values = _parameters(spec)
    for key, value in values.items():
        field = f"parameters.{key}"
        if key not in allowed:
            raise InvalidArgument(f"{field:.100}: {name} knows only {', '.join(allowed)}", field=field)
        allowed[key].check(field, value)
    return int(values.get("steps", model.steps[name]))


def _parameters(spec: pb.MaximizeSpec) -> Mapping[str, Any]:
    return parameters.plain(spec.parameters, _WHOLE)


def _recipe(spec: pb.MaximizeSpec) -> Any:
    from ouzel.maximize import make_recipe

    return make_recipe(spec.recipe or _DEFAULT, _parameters(spec))


def _images_per_target(spec: pb.MaximizeSpec) -> int:
    count, most = spec.images_per_target or 1, _MOST_IMAGES // max(1, len(spec.targets))
    if not 1 <= count <= most:
        raise InvalidArgument(f"images_per_target: {count} is not within 1..{most}", field="images_per_target")
    return count


def _size(spec: pb.MaximizeSpec) -> tuple[int, int] | None:
    if not spec.height and not spec.width:
        return None
    for name, edge in (("height", spec.height), ("width", spec.width)):
        if not _EDGE[0] <= edge <= _EDGE[1]:
            raise InvalidArgument(f"{name}: {edge} is not within {_EDGE[0]}..{_EDGE[1]}", field=name)
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


def _done(result: Result, model: LoadedModel, work: Work) -> Done:
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
        work.log(line, pb.Log.WARNING)
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
    summary = {
        "activations": [one.activation for one in result.visualizations],
        "titles": [one.title for one in result.visualizations],
        "steps": result.steps,
        "digest": model.digest,
    }
    return Done(files, summary)


def _page(tiles: Sequence[Tile], origin: Mapping[str, str], described: Mapping[str, Any]) -> str:
    from ouzel.maximize.report import gallery

    return gallery.page(
        tiles,
        f"What excites {origin['model']}",
        recipe=described["recipe"],
        facts={"seed": described["seed"], **origin},
        warnings=described["warnings"],
    )
