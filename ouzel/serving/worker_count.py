"""How many processes per GPU a model gets with `--workers auto`: what answers more requests, if memory permits.

While one process computes, another decodes. The model is asked for some seconds with one process per GPU, then with
two, and so on, as long as each step gains a tenth. The figures are logged, and the choice is remembered in the state
folder for these weights on these GPUs.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ouzel import gpus
from ouzel.errors import OuzelError
from ouzel.model_files import ModelFiles
from ouzel.serving import state_folder
from ouzel.serving.options import Resources, ServingOptions, core_count
from ouzel.serving.running import RunningServing
from ouzel.torchserve import rest
from ouzel.torchserve.archives import Archive
from ouzel.torchserve.management import scale

logger = logging.getLogger(__name__)
FILE = "worker-counts.json"  # in the state folder
MOST = 4  # per GPU
GAIN = 1.1  # of requests per second, below which one more is not worth its memory
SECONDS = 1.5  # for each count
_RESERVE = 0.8  # of the free memory may be taken
_LEAST_MB = 512  # that a process takes, whatever was seen
_IN_FLIGHT = 32
_PATIENCE = 30.0  # s for an answer


@dataclass(frozen=True)
class Measured:
    """What the choice rests on.

    Attributes:
        count: Processes per GPU.
        rates: Requests per second with one, two, ... of them.
    """

    count: int
    rates: tuple[float, ...]


def most(used_mb: int | None, free_mb: int | None, cores: int, devices: int) -> int:
    """How many processes a GPU has room for.

    Args:
        used_mb: Memory that one takes; None if nobody knows.
        free_mb: Memory that is left beside it; None if nobody knows.
        cores: Of the machine: each process keeps one busy.
        devices: GPUs that share the cores.
    """
    if used_mb is None or free_mb is None:
        return 1
    room = 1 + int(_RESERVE * free_mb / max(used_mb, _LEAST_MB))
    return max(1, min(room, MOST, cores // devices))


def choose(rate: Callable[[int], float], most: int) -> Measured:
    """Takes counts from 1 on, as long as each gains.

    Args:
        rate: Requests per second with so many processes per GPU. Raises OuzelError if they cannot be had.
        most: Processes per GPU.
    """
    rates = [rate(1)]
    while len(rates) < most:
        try:
            rates.append(rate(len(rates) + 1))
        except OuzelError as error:
            logger.warning("%d processes per GPU cannot be had: %s", len(rates) + 1, error)
            return Measured(len(rates), tuple(rates))
        if not rates[-1] or rates[-1] < GAIN * rates[-2]:  # nothing answered is no gain over nothing
            return Measured(len(rates) - 1, tuple(rates))
    return Measured(len(rates), tuple(rates))


def scaler(serving: RunningServing, options: ServingOptions, granted: Resources) -> Callable[[Archive], None]:
    """What gives a version that was just loaded, with one process per GPU, as many as it should have.

    Args:
        serving: The TorchServe.
        options: Of the services.
        granted: What they get of the machine.
    """
    ids, before = granted.gpus, _free_mb(granted.gpus)
    devices = f"{len(ids)} GPUs of {gpus.memory_mb(ids)} MiB, {core_count()} cores, batches of {granted.batch_size}"

    def scaled(archive: Archive) -> None:
        nonlocal before
        if archive.path.is_dir():  # the pool: what it computes is not known yet
            return
        after = _free_mb(ids)
        used = None if before is None or after is None else before - after
        limit = most(used, after, core_count(), len(ids))
        key = f"{ModelFiles(options.store).file(f'{archive.name}@{archive.version}').digest} on {devices}"
        known = state_folder.read(options.state, FILE) or {}
        count = known.get(key)
        if not isinstance(count, int):
            measured = choose(lambda each: _rate(serving, archive, each * len(ids)), limit)
            count = measured.count
            rates = ", ".join(f"{rate:.1f}" for rate in measured.rates)
            told = (archive.name, archive.version, rates, count, used, after)
            logger.info(
                "%s %s: requests/s with 1, 2, ... processes per GPU: %s; takes %d (one takes %s MiB, %s are free)",
                *told,
            )
            state_folder.write(options.state, FILE, known | {key: count})
        scale(serving.server, archive.name, archive.version, max(1, min(count, limit)) * len(ids))
        before = _free_mb(ids)

    return scaled


def _rate(serving: RunningServing, archive: Archive, workers: int) -> float:
    scale(serving.server, archive.name, archive.version, workers)
    return requests_per_second(serving, f"{archive.name}/{archive.version}")


def requests_per_second(serving: RunningServing, model: str) -> float:
    """How many predictions with a map a model answers, if many are asked for at a time.

    Args:
        serving: The TorchServe.
        model: "NAME/VERSION".
    """
    picture, answered = _picture(), list[float]()
    stop = time.monotonic() + SECONDS
    url, token = f"{serving.rest}/predictions/{model}", serving.inference_token

    def ask() -> None:
        while time.monotonic() < stop:
            try:
                status, _ = rest.call("POST", url, token, body=picture, timeout=_PATIENCE, headers=_WISH)
            except rest.Unreachable:
                return
            if status == 200:
                answered.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(_IN_FLIGHT)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answered) / (time.monotonic() - start)


_WISH = {
    "Content-Type": "image/jpeg",
    "Accept": "application/x-protobuf",
    "X-Ouzel-Options": '{"saliency": ["gradient"], "top_k": 1}',
}


def _picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((500, 375), 64).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def _free_mb(ids: tuple[str, ...]) -> int | None:
    """MiB that are free on the GPU with the least of them; None if nobody knows."""
    found = [gpus.free_mb(each) for each in ids]
    return None if None in found else min(each for each in found if each is not None)
