"""A trial request to a version that TorchServe serves."""

from __future__ import annotations

import json
import math
from typing import Any

from ouzel.model_names import POOL, POOL_VERSION
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, Task
from ouzel.torchserve import rest
from ouzel.torchserve.errors import PublicationFailed
from ouzel.torchserve.management import check_answer
from ouzel.torchserve.server import Server, reached
from ouzel_protos.local import token

_SMOKE = 120.0  # s for an explanation
_ASKED: dict[Task, dict[str, Any]] = {
    CLASSIFICATION: {"saliency": ["gradient"]},
    SEGMENTATION: {"saliency": ["gradient"]},
    # A given box: in the trial's picture there may be nothing.
    DETECTION: {"saliency": [{"method": "d_rise", "masks": 2, "target": {"class": 1, "box": [0, 0, 32, 32]}}]},
}


def smoke(server: Server, name: str, version: str, *, pooled: bool = False, task: Task = CLASSIFICATION) -> str:
    """Has a made-up picture predicted and explained.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version.
        task: What the model is for.
        pooled: Whether the pool is asked for it, and not processes of its own.

    Returns:
        Digest of the weights that answered.

    Raises:
        PublicationFailed: There is no answer, or one that is not sound.
    """
    what = f"{name} {version} fails on a trial picture"
    model = f"{POOL}/{POOL_VERSION}" if pooled else f"{name}/{version}"
    address = {"model": name, "version": version} if pooled else {}
    with reached(server.rest):
        key = token(server.key_file, "inference")
        status, body = rest.explain(server.rest, key, model, _ASKED[task], _SMOKE, address=address)
    check_answer(server, status, body, what)
    try:
        answer = json.loads(body)
        scores = [float(score.get("probability", 0.0)) for score in answer["scores"]]
        if task == DETECTION:  # which may find nothing
            scores.append(float(answer["detected"]["found"]))
        scores += [float(each["confidence"]) for each in (answer.get("segmentation") or {}).get("classes", [])]
        (saliency,) = answer["saliency"]
        values = [float(saliency.get(key, 0.0)) for key in ("minimum", "maximum")]  # JSON leaves zeros out
        digest = str(answer["model"]["weights_digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise PublicationFailed(f"{what}: the answer lacks something ({type(error).__name__}: {error})") from error
    if not scores or not all(map(math.isfinite, [*values, *scores])):
        raise PublicationFailed(f"{what}: its answer holds values that are not finite")
    return digest
