"""Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806): only positive evidence passes a rectifier.

The maps are sharp, and partly independent of the weights: the method fails the model-randomisation sanity check
(Adebayo et al. 2018, arXiv 1810.03292; Nie et al. 2018 and Sixt et al. 2020, arXiv 1912.09818, prove why).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ouzel.errors import FailedPrecondition
from ouzel.saliency.method import Attribution, Method, Rows, Want

_GUIDED = Want("guided")


@dataclass(frozen=True)
class Guided(Method):
    name: ClassVar[str] = "guided"
    caveats: ClassVar[tuple[str, ...]] = (
        "Guided backpropagation fails the model-randomisation sanity check (arXiv 1810.03292): "
        "it shows edges that the image has, whether or not the model uses them.",
    )

    def wants(self) -> tuple[Want, ...]:
        return (_GUIDED,)

    def attribute(self, rows: Rows) -> Attribution:
        if rows.rectifiers == 0:
            raise FailedPrecondition(
                "method: found 0 rectified activations (ReLU, ReLU6, clamp at 0) in this model, so it would be "
                "the plain gradient; ask for gradient instead",
                field="method",
            )
        return Attribution(rows.gradient(_GUIDED), rectified=rows.rectifiers)
