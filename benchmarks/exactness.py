"""How exact are maps on this device, in each precision? And what does each precision gain?

The maps of every method are compared with those of float64 on the CPU: relative L2 deviation, over the whole batch, for
the class that float64 predicts. Beside them stand our exact maps on the processor, and `gradient` by plain PyTorch with
the flags that a process starts with. Nothing is downloaded or started; weights are random, from a seed.

Exit status 1: exact maps of a method deviate by more than LIMIT, or BatchNorms were not folded.

    python benchmarks/exactness.py [--device cuda] [--models resnet50 ...] [--rows 4] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.precision_names import PRECISIONS
from ouzel.saliency import METHODS, Explainer, Saliency

LIMIT = 1e-2  # float32 stays below a third of it; TF32 and bfloat16 are beyond ten times as much
MODELS = {"resnet50": "torchvision:resnet50", "efficientnet-lite0": "timm:tf_efficientnet_lite0"}
QUICK = {"test_resnet": "timm:test_resnet"}
ROUNDS = 5
# Fewer passes than the defaults, as float64 on a processor is slow.
PARAMETERS = {"smoothgrad": {"samples": 8}, "integrated_gradients": {"steps": 8}, "rise": {"masks": 64}}


def request(method: str, classes: Sequence[int], edge: int) -> Saliency:
    parameters = PARAMETERS.get(method, {})
    if method == "occlusion":
        parameters = {"window": edge // 4, "stride": edge // 4}
    return Saliency(method, target=tuple(classes), **parameters)


def maps(explainer: Explainer, x: Tensor, classes: Sequence[int]) -> dict[str, Tensor]:
    """(B, H, W) float64 on the CPU of each method that fits the network."""
    made = {}
    for method in METHODS:
        try:
            made[method] = explainer(x, [request(method, classes, x.shape[-1])]).maps[0].values.cpu().double()
        except FailedPrecondition:
            continue
    return made


def plain(network: nn.Module, x: Tensor, classes: Sequence[int]) -> dict[str, Tensor]:
    """The method `gradient` in a few lines of PyTorch, with the flags as they are."""
    leaf = x.clone().requires_grad_()
    score = network(leaf)[torch.arange(len(x)), list(classes)].sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    return {"gradient": gradient.abs().amax(dim=1).cpu().double()}


def deviations(made: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    return {name: float((each - exact[name]).norm() / exact[name].norm()) for name, each in made.items()}


def milliseconds(job: Callable[[], object], device: torch.device) -> float:
    """The median of some rounds, after a few that warm up."""
    times = []
    for turn in range(2 * ROUNDS):
        start = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= ROUNDS:
            times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def measure(name: str, arch: str, device: torch.device, rows: int, edge: int) -> tuple[list[str], list[str], float]:
    """The lines of the table, what is wrong, and the largest deviation of exact maps."""
    torch.manual_seed(0)
    network = models.build(arch)
    x = torch.randn(rows, 3, edge, edge)
    double = Explainer(network.double())
    classes = double.forward(x, [[]] * rows).logits.argmax(dim=1).tolist()
    exact = maps(double, x, classes)
    network, told, wrong = network.float(), dict[str, dict[str, float]](), list[str]()
    told["CPU, exact"] = deviations(maps(Explainer(network), x, classes), exact)
    network, x = network.to(device), x.to(device)
    told["plain PyTorch"] = deviations(plain(network, x, classes), exact)
    speed = {"plain PyTorch": milliseconds(lambda: plain(network, x, classes), device)}
    for precision in PRECISIONS:
        explainer = Explainer(network, precision=precision)
        told[precision] = deviations(maps(explainer, x, classes), exact)
        asked = [request("gradient", classes, edge)]
        speed[precision] = milliseconds(lambda ours=explainer, asked=asked: ours(x, asked), device)
        if unfolded := explainer.prepare(x[0]).facts.unfolded:
            wrong.append(f"{name}, {precision}: BatchNorms are not folded: {unfolded}")
        if explainer.deviation is not None:
            print(f"{name}, {precision}: stated {explainer.deviation}", flush=True)
    for method, value in told["exact"].items():
        if not value <= LIMIT:
            wrong.append(f"{name}: exact maps of {method} deviate by {value:.2g}, more than {LIMIT:g}")
    lines = []
    for who, figures in told.items():
        cells = [f"{figures[method]:.1e}" if method in figures else "-" for method in METHODS]
        spent = f"{speed[who]:.1f}" if who in speed else "-"
        lines.append(f"| {name} | {who} | {spent} | {' | '.join(cells)} |")
    return lines, wrong, max(told["exact"].values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="A tiny network at 64 pixels: whether this script works.")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    of = QUICK if chosen.quick else {name: MODELS[name] for name in chosen.models}
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    edge, rows = (64, 2) if chosen.quick else (224, chosen.rows)
    lines, wrong, largest = list[str](), list[str](), 0.0
    for name, arch in of.items():
        more, problems, most = measure(name, arch, device, rows, edge)
        lines += more
        largest = max(largest, most)
        wrong += problems
    print(f"\n{date.today()}, {what}, torch {torch.__version__}, {rows} rows of {edge} px; random weights.")
    print("Relative L2 deviation from float64 on the CPU, and milliseconds for `gradient` of the batch.\n")
    print(f"| model | precision | ms | {' | '.join(METHODS)} |")
    print(f"|---|---|---|{'---|' * len(METHODS)}")
    print("\n".join(lines))
    print(f"\nexact maps deviate by {largest:.1e} at most; {LIMIT:g} is allowed", flush=True)
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
