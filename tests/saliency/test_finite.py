"""Values that are not numbers are refused, row by row; nothing of them is shown as a map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.saliency import METHODS, Explainer, Saliency

from .nets import images

SMALL = {"rise": {"masks": 3}, "smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2}}


class Spoilt(nn.Module):
    """`where`: what becomes NaN or infinite. Rows whose first pixel is above 0.5 are spared."""

    def __init__(self, value: float, where: str) -> None:
        super().__init__()
        self.conv, self.head, self.value, self.where = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), value, where

    def forward(self, x: Tensor) -> Tensor:
        bad = (x[:, 0, 0, 0] <= 0.5)[:, None]
        y = self.head(self.conv(x).relu().mean(dim=(2, 3)))
        if self.where == "gradient":  # the root has an infinite slope at 0
            return y + torch.where(bad, (y - y.detach()).abs(), 1).sqrt()
        return y * torch.where(bad, self.value, 1.0)


def two_rows() -> Tensor:
    x = images(2, dtype=torch.float32)
    x[0, :, 0, 0], x[1, :, 0, 0] = 0.0, 1.0
    return x


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_no_map_of_an_answer_that_is_no_number(method: str, value: float) -> None:
    torch.manual_seed(0)
    explainer = Explainer(Spoilt(value, "logits"))
    request = Saliency(method, **SMALL.get(method, {}))
    with pytest.raises(FailedPrecondition, match="its answer for this image has values that are not finite"):
        explainer(two_rows(), [request])


@pytest.mark.parametrize("where", ["logits", "gradient"])
def test_only_the_row_at_fault_is_an_error(where: str) -> None:
    torch.manual_seed(0)
    explainer = Explainer(Spoilt(float("nan"), where))
    asked = [Saliency("gradient"), Saliency("grad_cam")]
    bad, good = explainer.forward(two_rows(), [asked, asked]).explain()
    assert isinstance(bad, OuzelError)
    assert "not finite" in str(bad)
    assert not isinstance(good, OuzelError)
    assert all(one.values.isfinite().all() for one in good)


@pytest.mark.parametrize("method", ["occlusion", "rise", "integrated_gradients", "smoothgrad"])
def test_passes_at_other_inputs_count_too(method: str) -> None:
    """The picture itself is answered well; what the method makes of it is not."""
    torch.manual_seed(0)
    x = two_rows()[1:]
    wild = {"occlusion": {"window": 4, "stride": 4, "fill": "black"}, "smoothgrad": {"samples": 9, "noise": 1.0}}
    parameters: dict[str, object] = wild.get(method) or SMALL[method]  # type: ignore[assignment]
    with pytest.raises(FailedPrecondition, match=f"{method} gives values that are not finite") as caught:
        Explainer(Spoilt(float("nan"), "logits"))(x, [Saliency(method, 0, **parameters)])
    assert caught.value.field == "saliency[0].method"


def test_an_image_that_is_no_number() -> None:
    x = two_rows()
    x[0, 0, 3, 3] = float("nan")
    with pytest.raises(InvalidArgument, match="x: has values that are not finite"):
        Explainer(Spoilt(1.0, "logits"))(x, [Saliency("gradient")])
