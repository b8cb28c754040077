"""Library against library: this project, captum and pytorch-grad-cam, in one process, interleaved in one run.

Every contender predicts and explains the same batch with the same weights. The floor is one forward and one input-only
backward of the prepared network, which no method of one gradient can beat; that of Grad-CAM alone is the forward; that
of SmoothGrad and integrated gradients is the first, once per sample.

    python benchmarks/saliency.py [--models resnet50 ...] [--batches 1 8 32] [--tasks grad_cam ...] [--rounds 5]
                                  [--device cpu] [--counts]

`--counts` measures no time. It counts operators, which are the same on a CPU: on a GPU each is a launch or more. Passes
are then as large as on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import captum.attr
import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ouzel import models
from ouzel.saliency import Explainer, Saliency

MODELS = {
    "resnet50": "torchvision:resnet50",
    "vgg16": "torchvision:vgg16",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "efficientnet-lite0": "timm:tf_efficientnet_lite0",
}
TASKS = ("gradient", "three", "smoothgrad", "integrated", "grad_cam")
SAMPLES = 8  # of SmoothGrad and integrated gradients
MANY = {"smoothgrad": SAMPLES, "integrated": SAMPLES}  # times the floor
WARM_UPS = {"cpu": 1, "cuda": 6}  # a graph is captured when the same was asked for several times
PEER_ROWS = 64  # per pass of captum, which would otherwise hold all samples of all rows at once
Job = Callable[[], object]


def ours(explainer: Explainer, x: Tensor) -> dict[str, Job]:
    def job(*requests: Saliency) -> Job:
        return lambda: explainer(x, requests)

    return {
        "gradient": job(Saliency("gradient")),
        "three": job(Saliency("gradient"), Saliency("guided"), Saliency("grad_cam")),
        "smoothgrad": job(Saliency("smoothgrad", samples=SAMPLES)),
        "integrated": job(Saliency("integrated_gradients", steps=SAMPLES)),
        "grad_cam": job(Saliency("grad_cam")),
    }


def captums(network: nn.Module, x: Tensor, cam_layer: str) -> dict[str, Job]:
    """As its documentation uses it: predict, then attribute to the prediction."""
    layer = network.get_submodule(cam_layer)

    def predicted() -> Tensor:
        with torch.no_grad():
            return network(x).argmax(dim=1)

    def enlarged(cam: Tensor) -> Tensor:
        return captum.attr.LayerAttribution.interpolate(cam, x.shape[-2:], "bilinear")

    def three() -> object:
        target = predicted()
        return (
            captum.attr.Saliency(network).attribute(x, target),
            captum.attr.GuidedBackprop(network).attribute(x, target),
            enlarged(captum.attr.LayerGradCam(network, layer).attribute(x, target)),
        )

    def smoothgrad() -> object:
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(network))
        together = max(1, min(SAMPLES, PEER_ROWS // len(x)))
        return tunnel.attribute(
            x, nt_type="smoothgrad", nt_samples=SAMPLES, nt_samples_batch_size=together, target=predicted()
        )

    return {
        "gradient": lambda: captum.attr.Saliency(network).attribute(x, predicted()),
        "three": three,
        "smoothgrad": smoothgrad,
        "integrated": lambda: captum.attr.IntegratedGradients(network).attribute(
            x, target=predicted(), n_steps=SAMPLES, internal_batch_size=PEER_ROWS
        ),
        "grad_cam": lambda: enlarged(captum.attr.LayerGradCam(network, layer).attribute(x, predicted())),
    }


def grad_cams(network: nn.Module, x: Tensor, cam_layer: str) -> dict[str, Job]:
    """pytorch-grad-cam, which predicts in the pass that it explains; nothing where it is not installed."""
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        return {}
    cam = GradCAM(model=network, target_layers=[network.get_submodule(cam_layer)])
    return {"grad_cam": lambda: cam(input_tensor=x, targets=None)}


def floors(explainer: Explainer, x: Tensor) -> dict[str, Job]:
    prepared = explainer.prepare(x[0])
    batch = x.contiguous(memory_format=prepared.memory_format)

    def both() -> object:
        leaf = batch.detach().requires_grad_()
        return torch.autograd.grad(prepared.network(leaf).amax(dim=1).sum(), leaf)

    def forward() -> object:
        with torch.no_grad():
            return prepared.network(batch)

    return {**dict.fromkeys(TASKS, both), "grad_cam": forward}


def seconds(job: Job, device: str) -> float:
    start = time.perf_counter()
    job()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(contenders: dict[str, dict[str, Job]], task: str, rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each contender that knows the task; they take turns, so that all meet the same noise."""
    taking = {name: jobs[task] for name, jobs in contenders.items() if task in jobs}
    times: dict[str, list[float]] = {name: [] for name in taking}
    warm_ups = WARM_UPS[device.partition(":")[0]]
    for turn in range(warm_ups + rounds):
        for name, job in taking.items():
            spent = seconds(job, device)
            if turn >= warm_ups:
                times[name].append(spent)
    return {name: sorted(spent)[len(spent) // 2] for name, spent in times.items()}


class Calls(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators(job: Job) -> int:
    """Of one call; the one before may prepare."""
    job()
    with Calls() as calls:
        job()
    return calls.count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--counts", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else f"{psutil.cpu_count()} cores"
    print(f"{date.today()}, {device}, torch {torch.__version__}, captum {captum.__version__}; random weights, 224 px\n")
    if chosen.counts:
        print("| model | batch | task | floor, once | ouzel | captum |")
        print("|---|---|---|---|---|---|")
    else:
        print("| model | batch | task | ouzel s | captum / ouzel | pytorch-grad-cam / ouzel | ouzel / floor |")
        print("|---|---|---|---|---|---|---|")
    for name in chosen.models:
        torch.manual_seed(0)
        network = models.build(MODELS[name]).to(chosen.device)
        for rows in chosen.batches:
            x = torch.randn(rows, 3, 224, 224, device=chosen.device)
            explainer = Explainer(network)
            prepared = explainer.prepare(x[0])
            layer = prepared.facts.cam_layer
            if chosen.counts:
                object.__setattr__(prepared, "most_rows", PEER_ROWS)
                object.__setattr__(prepared, "memory_bytes", 16 * 2**30)
            peer = copy.deepcopy(network).requires_grad_(True)  # as such models come
            contenders = {
                "ouzel": ours(explainer, x),
                "captum": captums(peer, x, layer),
                "grad-cam": grad_cams(copy.deepcopy(peer), x, layer),
                "floor": floors(explainer, x),
            }
            for task in chosen.tasks:
                if chosen.counts:
                    numbers = [str(operators(contenders[one][task])) for one in ("floor", "ouzel", "captum")]
                    print(f"| {name} | {rows} | {task} | {' | '.join(numbers)} |", flush=True)
                    continue
                timings = measure(contenders, task, chosen.rounds, chosen.device)
                own = timings["ouzel"]
                cells = [f"{timings[peer] / own:.2f}" if peer in timings else "-" for peer in ("captum", "grad-cam")]
                floor = own / timings["floor"] / MANY.get(task, 1)
                print(f"| {name} | {rows} | {task} | {own:.4f} | {' | '.join(cells)} | {floor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
