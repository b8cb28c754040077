"""SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825): the mean of another method's maps under noise on the image.

What is averaged are signed values per channel; the reduction comes last. Every image gets the same noise, drawn from
the seed, so that its map does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument
from ouzel.saliency.method import Attribution, Method, ModelFacts, Rows
from ouzel.saliency.methods.gradient import Gradient
from ouzel.saliency.methods.guided import Guided
from ouzel.saliency.methods.integrated_gradients import IntegratedGradients

OF: dict[str, Method] = {
    "gradient": Gradient(),
    "guided": Guided(),
    "guided_smooth": Guided("smooth"),
    "integrated_gradients": IntegratedGradients(steps=8),
}


@dataclass(frozen=True)
class SmoothGrad(Method):
    """SmoothGrad: the mean of another method's maps under noise on the image.

    Attributes:
        samples: Noisy images, 1 to 512.
        noise: Standard deviation as a share of the range from black to white, above 0 and up to 1.
        seed: Of the noise.
        of: The method that is averaged, one of OF.

    Raises:
        InvalidArgument: A value is out of range, or there is no such method.

    References:
        Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", arXiv 1706.03825.
    """

    samples: int = 16
    noise: float = 0.15
    seed: int = 0
    of: str = "gradient"
    name: ClassVar[str] = "smoothgrad"
    cost_parameter: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        within("parameters.samples", self.samples, 1, 512)
        if not 0 < self.noise <= 1:
            raise InvalidArgument(
                f"parameters.noise: {self.noise} is not above 0 and up to 1", field="parameters.noise"
            )
        within("parameters.seed", self.seed, 0, 2**63 - 1)
        one_of("parameters.of", self.of, OF)

    @property
    def caveats(self) -> tuple[str, ...]:  # type: ignore[override]
        return OF[self.of].caveats

    def cost(self, height: int, width: int) -> int:
        return self.samples * (2 + OF[self.of].cost(height, width))

    def attribute(self, rows: Rows) -> Attribution:
        inner = OF[self.of]
        total = torch.zeros_like(rows.x)
        size = rows.blocks(inner.gradient_specs())
        noises = self._noises(rows.x, rows.facts)
        for start in range(0, self.samples, size):
            count = min(size, self.samples - start)
            noisy = torch.cat([rows.x + next(noises) for _ in range(count)])
            attribution = inner.attribute(rows.evaluate_at(noisy, inner.gradient_specs()))
            total += attribution.values.reshape(count, *total.shape).sum(dim=0)
        return replace(attribution, values=total / self.samples, measures={})

    def _noises(self, x: Tensor, facts: ModelFacts) -> Iterator[Tensor]:
        """(1, C, H, W) each; drawn on the CPU in float32, so that every device and precision sees the same noise."""
        generator = torch.Generator().manual_seed(self.seed)
        spread = torch.tensor(facts.white) - torch.tensor(facts.black)
        scale = (self.noise * spread)[:, None, None]
        while True:
            yield (torch.randn(1, *x.shape[1:], generator=generator) * scale).to(x)
