"""Pictures as the tensor that a service takes."""

from __future__ import annotations

import numpy as np

from ouzel.endpoints.description.protocols import TensorInput


def tensor(pictures: np.ndarray, how: TensorInput) -> np.ndarray:
    """The tensor of a batch.

    Args:
        pictures: (N, H, W, 3) uint8.
        how: As the operator states it.

    Returns:
        (N, 3, H, W) or (N, H, W, 3), contiguous, of float32 or uint8, little-endian.
    """
    if how.channels == "BGR":
        pictures = pictures[..., ::-1]
    values = pictures
    if how.datatype == "FP32":
        mean, std = np.array(how.mean, np.float64), np.array(how.std, np.float64)
        assert how.scale is not None
        values = (pictures * how.scale - mean) / std
    if how.layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, "<f4" if how.datatype == "FP32" else "|u1")
