"""Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806): only positive evidence passes a rectifier.

The paper's rule is one for rectifiers. For networks of smooth activations (SiLU, GELU, ...) there is a named variant,
"smooth"; `ouzel.saliency.engine.rectifiers` has the definition of both, and the lists of what they act on.

The maps are sharp, and partly independent of the weights: the method fails the model-randomisation sanity check
(Adebayo et al. 2018, arXiv 1810.03292; Nie et al. 2018 and Sixt et al. 2020, arXiv 1912.09818, prove why).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ouzel.checks import one_of
from ouzel.errors import FailedPrecondition
from ouzel.saliency.method import Attribution, GradientSpec, Method, Rows, Rule

# The rule of each variant.
VARIANTS: dict[str, Rule] = {"rectifiers": "guided", "smooth": "smooth"}


@dataclass(frozen=True)
class Guided(Method):
    """Guided backpropagation: the gradient that passes rectifiers only where it is positive.

    Attributes:
        variant: "rectifiers", the paper's, or "smooth", which acts on smooth activations as well.

    Raises:
        InvalidArgument: There is no such variant.

    References:
        Springenberg et al. 2015, "Striving for simplicity", arXiv 1412.6806.
    """

    variant: str = "rectifiers"
    name: ClassVar[str] = "guided"
    caveats: ClassVar[tuple[str, ...]] = (
        "Guided backpropagation fails the model-randomisation sanity check (arXiv 1810.03292): "
        "it shows edges that the image has, whether or not the model uses them.",
    )

    def __post_init__(self) -> None:
        one_of("parameters.variant", self.variant, VARIANTS)

    def gradient_specs(self) -> tuple[GradientSpec, ...]:
        return (GradientSpec(VARIANTS[self.variant]),)

    def attribute(self, rows: Rows) -> Attribution:
        (spec,) = self.gradient_specs()
        smooth = sum(rows.smooth_activations.values())
        rectified = rows.rectifiers + (smooth if self.variant == "smooth" else 0)
        if rectified == 0:
            raise FailedPrecondition(f"method: {_found_none(rows.smooth_activations)}", field="method")
        caveats: tuple[str, ...] = ()
        if smooth or self.variant == "smooth":
            caveats = (_CAVEATS[self.variant].format(rows.rectifiers, smooth, _listed(rows.smooth_activations)),)
        return Attribution(rows.gradient(spec), rectified=rectified, caveats=caveats)


_CAVEATS = {
    "rectifiers": "The variant is rectifiers: of this model's activations {0} rectifiers are guided; {1} smooth ones "
    "({2}) are not and keep their derivative. The variant smooth guides them too.",
    "smooth": "The variant is smooth, which is not in the paper: {0} rectifiers are guided, and {1} smooth activations "
    "({2}) pass positive gradients where their input is positive.",
}


def _found_none(smooth: Mapping[str, int]) -> str:
    if not smooth:
        return (
            "found 0 rectified activations (ReLU, ReLU6, clamp at 0) in this model, so it would be the plain gradient; "
            "ask for gradient instead"
        )
    return (
        f"found 0 rectified activations (ReLU, ReLU6, clamp at 0) in this model, but smooth ones ({_listed(smooth)}); "
        "ask for guided's variant smooth, or for gradient"
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
