"""The evidence of an audit, assembled by hand from captum and quantus: the peer of benchmarks/audit.py."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import quantus
import torch
from captum.attr import LayerAttribution, LayerGradCam
from PIL import Image
from scipy import ndimage
from skimage import data
from torch import Tensor, nn

from ouzel.models import Model

STEPS, ORDERS, TOLERANCE = 16, 2, 15
TEXTURES = ("brick", "grass", "gravel")
_MEAN = (124, 116, 104)


@dataclass(frozen=True)
class ByHand:
    """What came out."""

    maps: np.ndarray  # (3, H, W)
    deletion: np.ndarray  # (1 + ORDERS,) areas, the map's first
    insertion: np.ndarray
    share: np.ndarray  # (3,)
    pointing: np.ndarray  # (3,)
    answers: np.ndarray  # (18, K)


class Formatted(nn.Module):
    """A network that takes the memory format in which it is faster."""

    def __init__(self, network: nn.Module, form: torch.memory_format) -> None:
        super().__init__()
        self.network, self.form = network.to(memory_format=form), form

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=self.form))


class Chosen(nn.Module):
    """Logits of claim and rival, and their difference: captum's targets are indices of an output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.claim, self.rival = network, 0, 1

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        claim, rival = logits[:, self.claim], logits[:, self.rival]
        return torch.stack([claim, rival, claim - rival], dim=1)


class Between(nn.Module):
    """Between two pictures: takes (n, 1, H, W), 1 where the pixel of the first is kept, 0 where the second has its own.

    PixelFlipping flips features of channels; of such a mask it flips pixels.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.starts, self.ends = network, torch.empty(0), torch.empty(0)

    def forward(self, keep: Tensor) -> Tensor:
        return self.network(torch.where(keep > 0, self.starts, self.ends))


class Peer:
    def __init__(self, model: Model, layer: str, batched: bool) -> None:
        self.network = faster(model.network)
        self.chosen = Chosen(self.network)
        self.cam = LayerGradCam(self.chosen, self.network.network.get_submodule(layer))
        self.preprocessing, self.batched = model.preprocessing, batched
        self.mean = np.array(model.preprocessing.mean, np.float32)[:, None, None]
        self.std = np.array(model.preprocessing.std, np.float32)[:, None, None]
        high, wide = model.preprocessing.input_size
        self.textures = [
            np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB").resize((wide, high))) for name in TEXTURES
        ]
        self.between = Between(self.network).eval()
        self.flipping = quantus.PixelFlipping(
            features_in_step=high * wide // STEPS, normalise=False, perturb_baseline=0.0, disable_warnings=True
        )
        # Of the picture's 3 * H * W; quantus wants a divisor of H * W.
        self.features = max(n for n in range(1, 3 * high * wide // STEPS + 1) if high * wide % n == 0)
        self.mass = quantus.RelevanceMassAccuracy(abs=True, normalise=False, disable_warnings=True)
        self.game = quantus.PointingGame(normalise=False, disable_warnings=True)

    def __call__(self, image: Image.Image, claimed: int, mask: np.ndarray) -> ByHand:
        size = self.preprocessing.input_size[::-1]
        box = self.preprocessing.view(*image.size)
        picture = np.array(image.resize(size, Image.Resampling.BILINEAR, box=box))
        grey = Image.fromarray(mask.astype(np.uint8) * 255)
        inside = np.asarray(grey.resize(size, Image.Resampling.BILINEAR, box=box)) > 127
        x = self.normalised(picture[None])
        first = self.predict(x)[0]
        others = first.copy()
        others[claimed] = -1
        maps = self.maps(x, claimed, int(others.argmax()))
        deletion, insertion = self.curves(x[0], maps[0], claimed, float(first[claimed]))
        grown = ndimage.maximum_filter(inside, 2 * TOLERANCE + 1)
        many = {"x_batch": np.repeat(x, 3, 0), "y_batch": np.full(3, claimed), "a_batch": maps[:, None]}
        masks = [np.repeat(each[None, None], 3, 0) for each in (inside, grown)]
        share = self.mass(model=None, s_batch=masks[0], channel_first=True, **many)
        pointing = self.game(model=None, s_batch=masks[1], channel_first=True, **many)
        changed = self.normalised(np.stack(self.changed(picture, inside)))
        # More than six rows in one pass are slower on a CPU.
        answers = np.concatenate([self.predict(changed[n : n + 6]) for n in range(0, len(changed), 6)])
        return ByHand(maps, deletion, insertion, np.array(share), np.array(pointing), answers)

    def normalised(self, pictures: np.ndarray) -> np.ndarray:
        return (pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255 - self.mean) / self.std

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.network(torch.from_numpy(x)).softmax(1).numpy()

    def maps(self, x: np.ndarray, claim: int, rival: int) -> np.ndarray:
        self.chosen.claim, self.chosen.rival = claim, rival
        row = torch.from_numpy(x)
        if self.batched:
            cams = self.cam.attribute(row.expand(3, -1, -1, -1), [0, 1, 2], relu_attributions=True)
        else:
            cams = torch.cat([self.cam.attribute(row, n, relu_attributions=True) for n in range(3)])
        return LayerAttribution.interpolate(cams, x.shape[2:], "bilinear")[:, 0].detach().numpy()

    def curves(self, x: np.ndarray, values: np.ndarray, claimed: int, first: float) -> tuple[np.ndarray, np.ndarray]:
        """Areas of deletion and insertion, of the map and of random orders."""
        generator = torch.Generator().manual_seed(0)
        orders = [values, *(torch.rand(values.shape, generator=generator).numpy() for _ in range(ORDERS))]
        ranks = np.stack([ranked(each) for each in orders])
        pixels = (x * self.std + self.mean) * 255
        mean, blurred = (
            pixels.mean((1, 2), keepdims=True),
            ndimage.gaussian_filter(pixels, (0, x.shape[1] / 16, x.shape[2] / 16), mode="mirror", truncate=3),
        )
        mean, blurred = ((each.round() / 255 - self.mean) / self.std for each in (mean, blurred))
        mean = np.broadcast_to(mean, x.shape)
        count = len(orders)
        starts, ends = np.stack([x] * count + [blurred] * count), np.stack([mean] * count + [x] * count)
        scores = self.flipped(starts, ends, np.concatenate([ranks, ranks]), claimed)
        start = np.repeat([first, float(self.predict(blurred[None])[0, claimed])], count)
        areas = np.trapezoid(np.concatenate([start[:, None], scores], 1), axis=1) / scores.shape[1]
        return areas[:count], areas[count:]

    def flipped(self, starts: np.ndarray, ends: np.ndarray, ranks: np.ndarray, claimed: int) -> np.ndarray:
        """(n, steps): probabilities while pixels of the one take the place of those of the other."""
        options: dict[str, Any] = {"channel_first": True, "softmax": True}
        if self.batched:
            self.between.starts, self.between.ends = torch.from_numpy(starts), torch.from_numpy(ends)
            many, ranks = np.full(len(ranks), claimed), ranks[:, None]
            return np.array(self.flipping(self.between, np.ones_like(ranks), many, ranks, **options))
        rows = []
        for start, end, rank in zip(starts, ends, ranks, strict=True):
            flipping = quantus.PixelFlipping(
                features_in_step=self.features,
                normalise=False,
                perturb_func=partial(replaced, end=end.reshape(-1)),
                disable_warnings=True,
            )
            rows += flipping(self.network, start[None], np.array([claimed]), rank[None, None], **options)
        return np.array(rows)

    def changed(self, picture: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        """Three rearranged backgrounds; background, object and a region elsewhere under five fills."""
        behind, sigma = ~mask, min(mask.shape) / 16
        weight = ndimage.gaussian_filter(behind.astype(np.float64), sigma)
        smooth = ndimage.gaussian_filter(picture * behind[..., None].astype(np.float64), (sigma, sigma, 0))
        smooth = smooth / np.maximum(weight, 1e-3)[..., None]
        smooth = smooth.round().clip(0, 255).astype(np.uint8)
        rows, columns = mask.shape
        made = []
        for copied in (lambda a: a[:, ::-1], lambda a: np.roll(a, columns // 2, 1), lambda a: a[::-1]):
            fill = np.where(copied(behind)[..., None], copied(picture), smooth)
            made.append(np.where(mask[..., None], picture, fill))
        elsewhere = np.roll(mask, (rows // 2, columns // 2), (0, 1)) & behind
        for fill in (smooth, np.broadcast_to(np.array(_MEAN, np.uint8), picture.shape), *self.textures):
            made += [np.where(region[..., None], fill, picture) for region in (behind, mask, elsewhere)]
        return made


def ranked(values: np.ndarray) -> np.ndarray:
    """(H, W): the higher, the earlier; of equal values a random one comes first."""
    flat = torch.from_numpy(values).flatten()
    shuffled = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(0))
    order = shuffled[flat[shuffled].argsort(descending=True, stable=True)].numpy()
    ranks = np.empty(flat.numel(), np.float32)
    ranks[order] = np.arange(flat.numel(), 0, -1)
    return ranks.reshape(values.shape)


def replaced(arr: np.ndarray, indices: np.ndarray, end: np.ndarray, **_: Any) -> np.ndarray:
    arr = arr.copy()
    arr[0, indices[0]] = end[indices[0]]
    return arr


def faster(network: nn.Module) -> Formatted:
    candidates = [Formatted(copy.deepcopy(network), each) for each in (torch.contiguous_format, torch.channels_last)]
    x = torch.randn(6, 3, 224, 224)
    with torch.no_grad():
        times = [[seconds(partial(each, x)) for each in candidates] for _ in range(4)][1:]
    return candidates[int(np.min(times, axis=0).argmin())].eval()


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
