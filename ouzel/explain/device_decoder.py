"""JPEGs of a batch decoded and resized on the model's GPU, where the operator wants it and it is faster.

A GPU's decoder rounds otherwise than libjpeg, and makes colours of half resolution larger in another way. So this is
not the default; $OUZEL_DECODE says "device". When a model is loaded, made-up photographs are decoded in both ways. The
processors go on if they are as fast, or if the inputs of the model deviate by more than TOLERANCE. Answers say of each
image whether it was decoded on the device. Files that not all decoders read alike are decoded by processors anyway.
"""

from __future__ import annotations

import io
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import images
from ouzel.checks import one_of
from ouzel.decode_places import HOST, PLACES, VARIABLE
from ouzel.models import Preprocessing
from ouzel.models.resampling import resample

logger = logging.getLogger(__name__)
TOLERANCE = 1.0  # grey levels of 255 by which inputs may deviate, on average
_ROWS, _ROUNDS = 16, 3
_SIZE = (375, 500)
_PADDED = 2**28  # bytes that the pixels of images which are resized together may take

# From files to (3, H, W) uint8 on a device.
Decode = Callable[[Sequence[bytes], torch.device], Sequence[Tensor]]


def by_torchvision(files: Sequence[bytes], device: torch.device) -> Sequence[Tensor]:
    """nvJPEG, of all files in one call."""
    from torchvision.io import ImageReadMode, decode_jpeg  # few processes decode on a device

    data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    decoded: list[Tensor] = decode_jpeg(data, mode=ImageReadMode.RGB, device=device)
    return decoded


@dataclass(frozen=True)
class DeviceDecoder:
    """Decodes on a device.

    Attributes:
        device: Where the pixels are wanted.
        decode: That decodes there.
    """

    device: torch.device
    decode: Decode = by_torchvision

    def pixels(self, files: Sequence[bytes], preprocessing: Preprocessing) -> list[Tensor]:
        """What `preprocessing.pixels` makes of images, but for rounding.

        Args:
            files: One or more, each as `images.size_of_plain_jpeg` wants it.
            preprocessing: Of a model that takes colours.

        Returns:
            Of each (3, h, w) uint8, on the device.

        Raises:
            RuntimeError: One of the files cannot be decoded, or the memory does not suffice.
        """
        decoded = list(self.decode(files, self.device))
        if len(decoded) != len(files) or any(each.dtype != torch.uint8 or each.shape[:1] != (3,) for each in decoded):
            raise RuntimeError("the decoder gives other images than it was asked for")
        made: list[Tensor] = []
        while decoded:
            count = _together(decoded)
            boxes = [preprocessing.view(each.shape[2], each.shape[1]) for each in decoded[:count]]
            made += resample(decoded[:count], boxes, preprocessing.input_size, preprocessing.interpolation)
            del decoded[:count]
        return made


def _together(images: Sequence[Tensor]) -> int:
    """How many of the images, from the first on, may be resized together: all take the room of the largest."""
    height = width = 0
    for count, image in enumerate(images):
        height, width = max(height, image.shape[1]), max(width, image.shape[2])
        if count and (count + 1) * 3 * height * width * 8 > _PADDED:
            return count
    return len(images)


def decoder_of(
    preprocessing: Preprocessing, device: torch.device, threads: int, decode: Decode = by_torchvision
) -> DeviceDecoder | None:
    """What decodes images for a model on its device, as $OUZEL_DECODE says; None if processors are to do it.

    Args:
        preprocessing: Of the model.
        device: Of the model.
        threads: Of the processors that decode otherwise.
        decode: That decodes on the device.

    Raises:
        InvalidArgument: The variable says something else.
    """
    wanted = os.environ.get(VARIABLE) or HOST
    one_of(VARIABLE, wanted, PLACES)
    if wanted == HOST:
        return None
    if device.type != "cuda" or preprocessing.channels != 3:
        logger.warning("decodes images on processors: a device decodes colours, for models on a GPU")
        return None
    try:
        return measured(DeviceDecoder(device, decode), preprocessing, threads)
    except Exception as error:  # noqa: BLE001 - a torchvision without nvJPEG, for instance
        logger.warning("decodes images on processors: the device does not (%s)", error)
        return None


def measured(decoder: DeviceDecoder, preprocessing: Preprocessing, threads: int) -> DeviceDecoder | None:
    """The decoder, if it is faster than so many processors and exact enough; else None. The log has the figures."""
    files = [_photograph(seed) for seed in range(_ROWS)]
    host, of_host = _timed(lambda: [preprocessing.pixels(images.decode(file)) for file in files])
    there, of_device = _timed(lambda: [each.cpu() for each in decoder.pixels(files, preprocessing)])
    apart = (torch.stack(of_host).float() - torch.stack(of_device).float()).abs().mean().item()
    told = (1e3 * there, len(files), 1e3 * host / threads, threads, apart)
    if there < host / threads and apart <= TOLERANCE:
        logger.info("decodes on the device: %.1f ms for %d images, %.1f on %d processors; %.2f levels apart", *told)
        return decoder
    logger.warning(
        "decodes on processors: %.1f ms of the device for %d images, %.1f of %d processors; %.2f levels apart",
        *told,
    )
    return None


def _timed(decode: Callable[[], list[Tensor]]) -> tuple[float, list[Tensor]]:
    """Seconds, after a first time that does not count, and what comes of it."""
    made, times = decode(), []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        made = decode()
        times.append(time.perf_counter() - begun)
    return statistics.median(times), made


def _photograph(seed: int) -> bytes:
    """Surfaces with some grain, and colours of half resolution, as cameras write them."""
    rng = np.random.default_rng(seed)
    height, width = _SIZE
    surfaces = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.normal(0, 8, (height, width, 1))
    pixels = np.clip(np.asarray(surfaces) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=2)
    return file.getvalue()
