"""What is gained by decoding JPEGs on the device, and how far inputs and maps deviate by it.

Made-up photographs of several sizes, in colours of half and of full resolution. For each: milliseconds per image of one
processor and of the device, for batches, from the file to pixels of the model's input; by how many grey levels of 255
these are apart, on average and at most; and the relative L2 deviation of `gradient` maps of a network with random
weights. The last line says whether a service with `--decode device` would use it here.

    python benchmarks/decoding.py [--device cuda] [--batches 1 8 32] [--quick]
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import images, models
from ouzel.decode_places import VARIABLE
from ouzel.explain.device_decoder import DeviceDecoder, decoder_of
from ouzel.models import Preprocessing
from ouzel.saliency import Explainer, Saliency

SIZES = ((375, 500), (451, 300), (768, 1000))
SUBSAMPLINGS = {"half": 2, "full": 0}  # as Pillow numbers them
ROUNDS = 5


def photograph(seed: int, height: int, width: int, subsampling: int) -> bytes:
    """Surfaces with edges and grain."""
    rng = np.random.default_rng(seed)
    surfaces = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 2)
    pixels = np.asarray(surfaces) + rng.normal(0, 8, (height, width, 1))
    for _ in range(6):  # hard edges of colour, where decoders differ most
        y, x = rng.integers(0, height - 8), rng.integers(0, width - 8)
        pixels[y : y + height // 6, x : x + width // 6] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    made = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    made.save(file, "JPEG", quality=90, subsampling=subsampling)
    return file.getvalue()


def timed(decode: Callable[[], Sequence[Tensor]], device: torch.device) -> float:
    """Milliseconds, after a first time that does not count."""
    times = []
    for _ in range(1 + ROUNDS):
        begun = time.perf_counter()
        decode()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def per_image(decoder: DeviceDecoder, files: Sequence[bytes], way: Preprocessing) -> float:
    """Milliseconds of the device for each of some images that it decodes together."""
    return timed(lambda: decoder.pixels(files, way), decoder.device) / len(files)


def on_host(file: bytes, way: Preprocessing) -> float:
    """Milliseconds of a processor for an image."""
    return timed(lambda: [way.pixels(images.decode(file))], torch.device("cpu"))


def maps(explainer: Explainer, pixels: Sequence[Tensor], way: Preprocessing, classes: Sequence[int]) -> Tensor:
    x = way.normalised(torch.stack([each.to(explainer.device) for each in pixels]))
    return explainer(x, [Saliency("gradient", target=tuple(classes))]).maps[0].values.cpu().double()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--quick", action="store_true", help="One size, batches of 2, a small network.")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.manual_seed(0)
    arch = "timm:test_resnet" if chosen.quick else "torchvision:resnet50"
    explainer = Explainer(models.build(arch).eval().to(device))
    way, decoder = Preprocessing(), DeviceDecoder(device)
    batches = [2] if chosen.quick else chosen.batches
    print(f"{date.today()}, {device}, torch {torch.__version__}, {arch.partition(':')[2]} with random weights\n")
    of_device = " | ".join(f"device, {each} at a time, ms" for each in batches)
    print(f"| pixels | colours | a processor, ms | {of_device} | levels apart | at most | maps apart |")
    print("".join(["|---|---|---|", "---|" * len(batches), "---|---|---|"]))
    for height, width in SIZES[:1] if chosen.quick else SIZES:
        for colours, subsampling in SUBSAMPLINGS.items():
            files = [photograph(seed, height, width, subsampling) for seed in range(max(batches))]
            host = [way.pixels(images.decode(file)) for file in files]
            there = decoder.pixels(files, way)
            apart = (torch.stack(host).float() - torch.stack([each.cpu() for each in there]).float()).abs()
            with torch.no_grad():
                x = way.normalised(torch.stack(host[:4]).to(device))
                classes = explainer.prepare(x[0]).network(x).argmax(dim=1).tolist()
            expected, made = (maps(explainer, each[:4], way, classes) for each in (host, there))
            cells = [f"{on_host(files[0], way):.2f}"]
            cells += [f"{per_image(decoder, files[:batch], way):.2f}" for batch in batches]
            cells += [f"{apart.mean():.2f}", f"{apart.max():.0f}", f"{(made - expected).norm() / expected.norm():.1e}"]
            print(f"| {width} x {height} | {colours} | {' | '.join(cells)} |", flush=True)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    os.environ[VARIABLE] = "device"
    used = decoder_of(way, device, os.cpu_count() or 1)
    print(f"--decode device would decode on {'processors' if used is None else 'the device'}")


if __name__ == "__main__":
    main()
