"""The small classifier of the tests of endpoints: its labels, and how an operator describes it."""

from __future__ import annotations

import numpy as np

LABELS = ("ant", "bee", "crane", "eel", "fly")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
FP32 = f"""
[toy.input]
layout = "NCHW"
datatype = "FP32"
scale = "1/255"
mean = {list(MEAN)}
std = {list(STD)}
[toy.output]
scores = "logits"
"""
UINT8 = '[toy.input]\nlayout = "NHWC"\ndatatype = "UINT8"\n[toy.output]\nscores = "probabilities"\n'


def normalised(pixels: np.ndarray) -> np.ndarray:
    """(N, 64, 64, 3) uint8 as the network takes it, written from the definition."""
    values = (pixels / 255.0 - np.array(MEAN)) / np.array(STD)
    return np.moveaxis(values, 3, 1).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
