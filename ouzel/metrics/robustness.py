"""Infidelity and max-sensitivity (Yeh et al. 2019, arXiv 1901.09392), as captum.metrics computes them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import InvalidArgument

# Standard deviation of infidelity's perturbations, in units of the normalised input. Small, as a gradient holds only
# nearby: with .05 even the exact one leaves 9/10 of EfficientNet-Lite0's changes unexplained.
NOISE = 0.003
RADIUS = 0.02  # of max-sensitivity's perturbations, in the same units; captum's default


@models.computing()
def infidelity(network: nn.Module, x: Tensor, values: Tensor, target: int, *, samples: int, seed: int = 0) -> float:
    """How much of the logit's change under small noise the map leaves unexplained.

    The map's scale is the best possible one, and the mean squared error is divided by the mean squared change, so that
    maps of any unit compare. With few samples the scale alone explains something: about 1/samples, by chance.

    Args:
        network: (B, C, H, W) to logits (B, K).
        x: (C, H, W), normalised.
        values: (C, H, W), or (H, W) for a map that does not tell channels apart.
        target: Index of a class.
        samples: Of the noise.
        seed: Of the noise.

    Returns:
        0 if all is explained, 1 if nothing is.

    References:
        Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", arXiv 1901.09392.
    """
    import captum.metrics

    attributions = values.expand_as(x)[None].double()

    def error(given: Tensor, normalize: bool) -> float:
        generator = torch.Generator().manual_seed(seed)

        def noise(inputs: Tensor) -> tuple[Tensor, Tensor]:
            drawn = (torch.randn(inputs.shape, generator=generator, dtype=torch.float64) * NOISE).to(inputs.device)
            return drawn, (inputs.double() - drawn).to(inputs.dtype)

        with torch.no_grad():
            return float(
                captum.metrics.infidelity(
                    lambda inputs: network(inputs).double()[:, target],
                    noise,
                    x[None],
                    given,
                    n_perturb_samples=samples,
                    normalize=normalize,
                )
            )

    change = error(torch.zeros_like(attributions), normalize=False)
    return error(attributions, normalize=True) / change if change else 0.0


def max_sensitivity(explain: Callable[[Tensor], Tensor], x: Tensor, *, samples: int, seed: int = 0) -> float:
    """The largest relative change of the map, |M(x + e) - M(x)| / |M(x)|, over noise e of up to RADIUS.

    Args:
        explain: (n, C, H, W) to n maps.
        x: (C, H, W), normalised.
        samples: Of the noise.
        seed: Of the noise.

    References:
        Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", arXiv 1901.09392.
    """
    import captum.metrics

    def maps(inputs: Any) -> tuple[Tensor]:  # captum passes either form, and reads a lone tensor as one per row
        return (explain(inputs[0] if isinstance(inputs, tuple) else inputs),)

    with torch.random.fork_rng(devices=[]):  # captum draws from the global generator
        torch.manual_seed(seed)
        return float(captum.metrics.sensitivity_max(maps, x[None], perturb_radius=RADIUS, n_perturb_samples=samples))


def need_packages() -> None:
    """Raises InvalidArgument if what the metrics need is not installed."""
    for package in ("captum", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise InvalidArgument(
                f"trust: needs {package}, which is not installed: pip install 'ouzel[trust]'", field="trust"
            )
