"""The recipes of maximization and fine-tuning and the design of an audit: names, parameters and limits. No torch.

The library, the worker, the client and the command line read them here, so that they cannot say different things. What
a recipe does is in `ouzel.maximize.recipes` and `ouzel.finetune.recipes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ouzel_protos.limits import out_of_range


@dataclass(frozen=True)
class Range:
    """What a parameter may be.

    Attributes:
        kind: int, float or bool; an int counts as a float.
        least: The smallest value; not used for a bool.
        most: The largest value; not used for a bool.
    """

    kind: type
    least: float = 0.0
    most: float = 1.0

    def problem(self, value: Any) -> str:
        """What is wrong with a value, to be written behind the parameter's name; "" if nothing is."""
        if self.kind is bool:
            return "" if isinstance(value, bool) else f"{value!r:.80} is neither true nor false"
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            return f"{value!r:.80} is not {'an integer' if whole else 'a number'}"
        return out_of_range(value, self.least, self.most)


Parameters = Mapping[str, Range]

MAXIMIZE_DEFAULT = "fourier"
MAXIMIZE_STEPS = 256  # of every recipe, unless the caller says otherwise
# Per step, likewise. On a GPU, fourier sees up to 4, where they take about as long as one: they are counted as one.
MAXIMIZE_VIEWS: Mapping[str, int] = MappingProxyType({"pixel": 1, "fourier": 1, "maco": 8})
MAXIMIZE_LIMITS: Parameters = MappingProxyType(
    {
        "steps": Range(int, 1, 100_000),
        "rate": Range(float, 1e-6, 100.0),
        "anneal": Range(float, 0.0, 1.0),
        "decay": Range(float, 0.0, 4.0),
        "coarse_to_fine": Range(float, 0.0, 1.0),
        "norm_weight": Range(float, 0.0, 1e6),
        "p": Range(float, 1.0, 32.0),
        "tv_weight": Range(float, 0.0, 1e6),
        "beta": Range(float, 0.5, 8.0),
        "jitter": Range(float, 0.0, 0.5),
        "zoom_range": Range(float, 0.0, 4.0),
        "rotate": Range(float, 0.0, 180.0),
        "noise": Range(float, 0.0, 1.0),
        "unchanged": Range(float, 0.0, 1.0),
        "views_per_step": Range(int, 1, 64),
        "diversity": Range(float, 0.0, 1e6),
        "statistics": Range(float, 0.0, 1e6),
        "relevance": Range(float, 0.0, 1.0),
        "low_start": Range(float, 0.0, 0.5),
    }
)

FINETUNE_DEFAULT = "lp_ft"
FINETUNE_LIMITS: Parameters = MappingProxyType(
    {
        "epochs": Range(int, 1, 1000),
        "frozen_epochs": Range(int, 0, 1000),
        "learning_rate": Range(float, 1e-8, 1.0),
        "head_rate": Range(float, 1e-8, 1.0),
        "spread": Range(float, 1.0, 1e6),
        "warm_up": Range(float, 0.0, 0.99),
        "weight_decay": Range(float, 0.0, 10.0),
        "label_smoothing": Range(float, 0.0, 0.9),
        "patience": Range(int, 1, 1000),
        "batch_size": Range(int, 2, 1024),
        "crop": Range(float, 0.05, 1.0),
        "flip": Range(bool),
        "color": Range(float, 0.0, 1.0),
        "balance": Range(bool),
        "train_batchnorm": Range(bool),
        "held_out": Range(float, 0.05, 0.5),
        "validation": Range(float, 0.05, 0.5),
    }
)

# Besides those of the data and of training: how a repair makes its pictures and its heads.
REPAIR_LIMITS: Parameters = MappingProxyType(
    {"per_class": Range(int, 8, 4096), "heads": Range(int, 1, 100), "sparse": Range(bool)}
)
REPAIRS: Mapping[str, str] = MappingProxyType({"last": "debias", "all": "debias_all"})  # by the layers that learn

# A class for each pixel. With epochs 0 the decoder learns alone, with frozen_epochs 0 all layers learn from the start;
# with validation 0 no image is kept for choosing, and the last weights are taken.
SEGMENT = "segment"
SEGMENT_LIMITS: Parameters = MappingProxyType(
    {
        **{name: limit for name, limit in FINETUNE_LIMITS.items() if name not in ("balance", "label_smoothing")},
        "epochs": Range(int, 0, 100_000),
        "frozen_epochs": Range(int, 0, 100_000),
        "patience": Range(int, 1, 100_000),
        "validation": Range(float, 0.0, 0.5),
        "dice": Range(float, 0.0, 100.0),
        "pretrained": Range(bool),
    }
)

# Boxes of objects, with the same two stages.
DETECT = "detect"
DETECT_LIMITS: Parameters = MappingProxyType({name: limit for name, limit in SEGMENT_LIMITS.items() if name != "dice"})

# Recipes whose head learns before all layers do, so that it can be published before them.
EARLY = (FINETUNE_DEFAULT, SEGMENT, DETECT)
STAGED = (SEGMENT, DETECT)  # of which those whose parameters say how long either learns

# Recipes whose steps several workers can compute together. The loss of "detect" is one of a whole batch, and the others
# take no steps.
DISTRIBUTED: Mapping[str, int] = MappingProxyType(
    {"fine_tune": 16, FINETUNE_DEFAULT: 16, "scratch": 16, SEGMENT: 8}  # images of a batch, unless the caller says
)
WORKERS = Range(int, 1, 64)

# The gate before production; `ouzel.grounding.margins` says what each means.
GATE_LIMITS: Parameters = MappingProxyType(
    {"accuracy_margin": Range(float, 0.001, 0.5), "reliance_margin": Range(float, 0.01, 1.0)}
)
GATE_DEFAULTS: Mapping[str, float] = MappingProxyType({"accuracy_margin": 0.02, "reliance_margin": 0.2})

# The design of an audit of a data set; `ouzel.audit.dataset.design` says what each means.
AUDIT_LIMITS: Parameters = MappingProxyType(
    {
        "effect": Range(float, 0.01, 1.0),
        "effect_control": Range(float, 0.0, 1.0),
        "flip": Range(float, 0.01, 1.0),
        "flip_control": Range(float, 0.0, 1.0),
        "agreement": Range(float, 0.0, 1.0),
        "fewest": Range(int, 1, 1_000_000),
        "alpha": Range(float, 0.001, 0.2),
        "images": Range(int, 0, 32),
        "pool_per_class": Range(int, 1, 256),
        "clusters": Range(bool),
        "cluster_pairs": Range(int, 6, 256),
        "suspects": Range(int, 0, 64),
    }
)


def _without(limits: Parameters, names: Iterable[str]) -> Parameters:
    return MappingProxyType({name: limit for name, limit in limits.items() if name not in names})


# The parameters that callers may set, by recipe.
MAXIMIZE: Mapping[str, Parameters] = MappingProxyType(
    {
        "pixel": _without(MAXIMIZE_LIMITS, ("decay", "coarse_to_fine")),
        "fourier": _without(MAXIMIZE_LIMITS, ("norm_weight", "p")),
        "maco": _without(
            MAXIMIZE_LIMITS, ("decay", "coarse_to_fine", "norm_weight", "p", "tv_weight", "beta", "low_start")
        ),
    }
)
FINETUNE: Mapping[str, Parameters] = MappingProxyType(
    {
        "feature_extractor": MappingProxyType(
            {name: FINETUNE_LIMITS[name] for name in ("flip", "balance", "held_out", "validation")}
        ),
        "fine_tune": FINETUNE_LIMITS,
        "lp_ft": _without(FINETUNE_LIMITS, ("frozen_epochs", "head_rate")),
        "scratch": _without(FINETUNE_LIMITS, ("frozen_epochs", "head_rate", "spread")),
        SEGMENT: SEGMENT_LIMITS,
        DETECT: DETECT_LIMITS,
        "debias": MappingProxyType(
            {name: FINETUNE_LIMITS[name] for name in ("flip", "held_out", "validation")} | dict(REPAIR_LIMITS)
        ),
        "debias_all": MappingProxyType(
            dict(_without(FINETUNE_LIMITS, ("frozen_epochs", "head_rate", "balance"))) | dict(REPAIR_LIMITS)
        ),
    }
)


def workers_problem(recipe: str, workers: int, batch_size: int = 0) -> str:
    """What is wrong with a number of workers, a sentence that names the field; "" if nothing is.

    Args:
        recipe: That they train by.
        workers: How many.
        batch_size: Images of a step, of which each worker needs one; 0 is the recipe's own.
    """
    if problem := WORKERS.problem(workers):
        return f"workers: {problem}"
    if workers > 1 and recipe not in DISTRIBUTED:
        return f"workers: {workers}, but {recipe} trains with one; {', '.join(DISTRIBUTED)} train with several"
    if workers > 1 and workers > (batch_size := batch_size or DISTRIBUTED[recipe]):
        return f"workers: {workers} are more than the {batch_size} images of a batch (parameters.batch_size)"
    return ""
