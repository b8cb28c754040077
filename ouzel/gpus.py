"""The NVIDIA GPUs that this process may use, found without torch, and their distribution among processes.

Each process that computes gets one GPU and sees no other: CUDA_VISIBLE_DEVICES of it is one id. So what runs out of
memory on one GPU ends nothing on another, and instances of a divided GPU (MIG), of which CUDA shows a process one at
most, are GPUs like others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from ouzel.errors import FailedPrecondition

VISIBLE = "CUDA_VISIBLE_DEVICES"
# For processes that share GPUs: their ids, separated by commas, and the folder of the claims.
SHARED, CLAIMS = "OUZEL_GPUS", "OUZEL_GPU_CLAIMS"
_GPU = re.compile(r"GPU (\d+): ")
_INSTANCE = re.compile(r"\s+MIG (?:\d+c\.)?\d+g\.(\d+)gb.*UUID: (MIG-[^)\s]+)\)")
_held: list[int] = []  # open files whose locks this process keeps as long as it lives


def visible() -> tuple[str, ...]:
    """Ids of the GPUs, each as CUDA_VISIBLE_DEVICES takes it.

    Returns:
        What CUDA_VISIBLE_DEVICES says, as CUDA reads it: up to the first that is no device. If it is not set, all that
        `nvidia-smi` lists; a GPU that is divided counts as its instances.
    """
    if (said := os.environ.get(VISIBLE)) is not None:
        ids: list[str] = []
        for each in map(str.strip, said.split(",")):
            if each in ("", "-1"):
                break
            if each not in ids:
                ids.append(each)
        return tuple(ids)
    ids = []
    for line in _asked("-L"):
        if match := _GPU.match(line):
            ids.append(match[1])
        elif match := _INSTANCE.match(line):
            if ids and ids[-1].isdecimal():  # the GPU itself cannot be used
                ids.pop()
            ids.append(match[2])
    return tuple(ids)


def memory_mb(ids: Sequence[str]) -> int | None:
    """MiB of memory of the smallest of some GPUs; None if nobody knows."""
    sizes = _megabytes("memory.total")
    for line in _asked("-L"):
        if match := _INSTANCE.match(line):
            sizes[match[2]] = int(match[1]) * 1024
    return min((size for each in ids if (size := _of(sizes, each)) is not None), default=None)


def free_mb(gpu: str) -> int | None:
    """MiB of a GPU's memory that nobody uses now; None if nobody knows, as of an instance of a divided one."""
    return _of(_megabytes("memory.free"), gpu)


def claim(ids: Sequence[str], folder: Path) -> str:
    """Takes one of some GPUs for this process until it ends: one that the fewest others have taken.

    Args:
        ids: Of the GPUs, at least one.
        folder: Where all processes that share them keep their claims; it is created.

    Returns:
        The id of the GPU.
    """
    import fcntl

    folder.mkdir(mode=0o700, exist_ok=True)
    for turn in count():
        for place, each in enumerate(ids):
            file = os.open(folder / f"{place}.{turn}", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            _held.append(file)
            return each
    raise AssertionError


def claim_shared() -> str:
    """Takes one of the GPUs that the environment says processes share, and lets this process see no other.

    To be called before CUDA is initialised.

    Returns:
        The id of the GPU; "" if there are none.
    """
    ids = [each for each in os.environ.get(SHARED, "").split(",") if each]
    if not ids:
        return ""
    os.environ[VISIBLE] = claim(ids, Path(os.environ[CLAIMS]))
    return os.environ[VISIBLE]


def _megabytes(field: str) -> dict[str, int]:
    """A column of `nvidia-smi` by index and by UUID."""
    sizes: dict[str, int] = {}
    for line in _asked(f"--query-gpu=index,uuid,{field}", "--format=csv,noheader,nounits"):
        index, uuid, size = (cell.strip() for cell in line.split(","))
        if size.isdecimal():
            sizes[index] = sizes[uuid] = int(size)
    return sizes


def _of(sizes: dict[str, int], gpu: str) -> int | None:
    """A GPU's; of a UUID, CUDA takes the beginning as well."""
    names = [name for name in sizes if name == gpu or (not gpu.isdecimal() and name.startswith(gpu))]
    return sizes[names[0]] if names else None


def _asked(*arguments: str) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        raise FailedPrecondition(f"`{' '.join(command)}` did not answer within 30 s") from None
    return answer.stdout.splitlines() if answer.returncode == 0 else []
