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
from ouzel.saliency.draws import Drawing, draws
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
        specs = inner.gradient_specs()
        total = torch.zeros_like(rows.x)
        for noise in self._noise(rows.x, rows.facts, rows.blocks(specs)):
            noisy = (rows.x[None] + noise[:, None]).flatten(0, 1)
            attribution = inner.attribute(rows.evaluate_at(noisy, specs))
            total += attribution.values.unflatten(0, (len(noise), -1)).sum(dim=0)
        return replace(attribution, values=total / self.samples, measures={})

    def _noise(self, x: Tensor, facts: ModelFacts, size: int) -> Iterator[Tensor]:
        """(at most `size`, C, H, W) blocks; drawn on the CPU in float32, the same for every device and precision."""
        shape = tuple(x.shape[1:])

        def draw(generator: torch.Generator) -> Tensor:
            spread = torch.tensor(facts.white) - torch.tensor(facts.black)
            return torch.randn(shape, generator=generator) * (self.noise * spread)[:, None, None]

        key = ("smoothgrad", self.noise, facts.white, facts.black)
        return draws.blocks(Drawing(key, self.seed, self.samples, shape, draw), x, size)
