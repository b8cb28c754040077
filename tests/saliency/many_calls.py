"""Explains twice as often as it is told and prints, as JSON: bytes grown, objects more, forward hooks."""

from __future__ import annotations

import gc
import json
import os
import sys

import psutil
import torch
from torch import nn

from ouzel.saliency import Explainer, Saliency, Top

torch.set_num_threads(1)
network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
explainer, x = Explainer(network), torch.rand(1, 1, 4, 4)
jobs = [
    [Saliency("gradient")],
    [Saliency("guided")],
    [Saliency("grad_cam", layer="0")],
    [Saliency("guided", Top(2)), Saliency("grad_cam", layer="2")],
]
wrong = [Saliency("grad_cam", layer="4")]  # has no map: errors must not keep a graph alive either


def calls(count: int) -> tuple[int, int]:
    """Two calls each, one of which fails; (resident bytes, objects) afterwards."""
    for number in range(count):
        explainer(x, jobs[number % len(jobs)])
        if isinstance(explainer.forward(x, [wrong]).explain()[0], list):
            raise SystemExit("the wrong request was answered")
    gc.collect()
    return psutil.Process(os.getpid()).memory_info().rss, len(gc.get_objects())


rss, objects = calls(500)
rss_after, objects_after = calls(int(sys.argv[1]))
assert explainer._prepared is not None
hooks = sum(len(module._forward_hooks) for module in explainer._prepared.network.modules())
print(json.dumps([rss_after - rss, objects_after - objects, hooks]))
