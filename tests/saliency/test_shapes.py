"""All methods for any image size, channel count, batch size and precision."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ouzel.saliency import REDUCTIONS, Explainer, ResolvedTarget, Saliency

from . import reference
from .nets import CLASSES, Cnn, images, seeded

EXPLAINERS = {
    (channels, dtype): (network := seeded(Cnn, torch.relu, channels).to(dtype), Explainer(network))
    for channels in (1, 3)
    for dtype in (torch.float32, torch.float64)
}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(EXPLAINERS, key=str)),
    st.integers(1, 5),
    st.tuples(st.integers(4, 20), st.integers(4, 20)),
    st.sampled_from(sorted(REDUCTIONS)),
    st.data(),
)
def test_any_shape(
    kind: tuple[int, torch.dtype], rows: int, size: tuple[int, int], reduction: str, data: st.DataObject
) -> None:
    channels, dtype = kind
    network, explainer = EXPLAINERS[kind]
    x = images(rows, channels, 20, dtype)[:, :, : size[0], : size[1]]
    targets = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=rows, max_size=rows))
    e = explainer(
        x,
        [
            Saliency("gradient", targets, "none"),
            Saliency("guided", targets, reduction),
            Saliency("grad_cam", targets, reduction, layer="conv2"),
        ],
    )
    shape = (rows, channels, *size) if reduction == "none" else (rows, *size)
    assert [m.values.shape for m in e.maps] == [(rows, channels, *size), shape, (rows, *size)]
    assert {m.values.dtype for m in e.maps} == {dtype}
    bound = 1e-9 if dtype == torch.float64 else 1e-4
    for row, target in enumerate(targets):
        expected = reference.gradient(network, x[row], ResolvedTarget(target))
        assert reference.error(e.maps[0].values[row], expected) <= bound
