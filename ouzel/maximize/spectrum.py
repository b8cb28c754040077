"""Magnitude spectra of natural images, averaged over directions: what MaCo holds fixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.maximize.spaces import frequencies

BINS = 32  # from 0 to the highest frequency, sqrt(1/2) cycles per pixel
_HIGHEST = 0.5**0.5

# Amplitudes of photographs fall with frequency as 1/f^a. Measured over scikit-image's photographs astronaut, chelsea,
# coffee, rocket and hubble_deep_field, centre crops at 224 pixels, a is 1.49 (fitted from .01 to .35 cycles per pixel).
EXPONENT = 1.49


def spectrum_of(images: Iterable[Tensor]) -> tuple[tuple[float, ...], ...]:
    """Mean amplitude by frequency of the caller's images.

    Args:
        images: (C, H, W) in [0, 1] of one number of channels, any sizes.

    Returns:
        (C, BINS), from frequency 0 to the highest.

    Raises:
        InvalidArgument: There are no images.
    """
    total: Tensor | None = None
    count = 0
    for image in images:
        amplitudes = torch.fft.rfft2(image.double() - image.double().mean(dim=(1, 2), keepdim=True), norm="ortho").abs()
        profile = _by_frequency(amplitudes)
        total = profile if total is None else total + profile
        count += 1
    if total is None:
        raise InvalidArgument("spectrum: give at least one image", field="spectrum")
    return tuple(tuple(channel.tolist()) for channel in total / count)


def magnitude(channels: int, height: int, width: int, spectrum: Sequence[Sequence[float]] = ()) -> Tensor:
    """(C, H, W // 2 + 1): the magnitude for each coefficient of an image's spectrum; 0 for the mean."""
    where = frequencies(height, width)
    if not spectrum:
        values = where.clamp_min(1 / max(height, width)) ** -EXPONENT
        values[0, 0] = 0
        return values.expand(channels, -1, -1).clone()
    table = torch.tensor(spectrum, dtype=torch.float64)
    if table.ndim != 2 or len(table) != channels or not table.isfinite().all() or table.min() < 0 or not table.any():
        raise InvalidArgument(
            f"parameters.spectrum: has shape {tuple(table.shape)}; give {channels} rows of amplitudes, finite, not "
            "negative and not all 0",
            field="parameters.spectrum",
        )
    bins = table.shape[1]
    values = table[:, (where / _HIGHEST * bins).long().clamp_max(bins - 1)]
    values[:, 0, 0] = 0
    return values


def _by_frequency(amplitudes: Tensor) -> Tensor:
    """(C, H, W // 2 + 1) to (C, BINS); a bin without coefficients, in a small image, takes the one below."""
    height = amplitudes.shape[1]
    width = 2 * (amplitudes.shape[2] - 1)
    where = frequencies(height, width)[:, : amplitudes.shape[2]]
    place = (where / _HIGHEST * BINS).long().clamp_max(BINS - 1).flatten()
    counts = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
    sums = torch.zeros(len(amplitudes), BINS, dtype=torch.float64).index_add_(1, place, amplitudes.flatten(1))
    means = sums / counts.clamp_min(1)
    for empty in (counts == 0).nonzero().flatten().tolist():
        means[:, empty] = means[:, max(empty - 1, 0)]
    return means
