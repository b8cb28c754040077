"""Repairing a network that rests on backgrounds: it learns from its objects before other backgrounds.

tuned = repair(model, examples, make_recipe("debias", {}))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, Recipe, Tuned, finetune
from ouzel.grounding.heads import AveragedHeads
from ouzel.grounding.swaps import Swaps
from ouzel.models import Model

_SEEDS = 2**31


def repair(
    base: Model,
    data: Sequence[Example],
    recipe: Recipe,
    *,
    seed: int = 0,
    on_scene: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Tuned:
    """Repair a model. The base stays as it is.

    Args:
        base: Which rests on backgrounds.
        data: Images of its classes; those with masks or boxes are learnt from.
        recipe: "debias" or "debias_all".
        seed: Of all that is drawn.
        on_scene: Told how many images have been read to cut objects out; it may raise.
        **options: As of `ouzel.finetune.finetune`.

    Raises:
        InvalidArgument: The images are of other classes than the base's, or a class has no object that is known.
        OuzelError: As `finetune`.

    References:
        Kirichenko, Izmailov, Wilson 2023, arXiv 2204.02937.
    """
    check_classes(base.labels, [each.label for each in data])
    swaps = Swaps(recipe.per_class, seed % _SEEDS, on_scene=on_scene)
    heads = AveragedHeads(recipe.heads, recipe.sparse, seed % _SEEDS)
    return finetune(base, data, recipe, seed=seed, extend=swaps, fitter=heads, **options)


def check_classes(labels: Sequence[str], given: Sequence[str]) -> None:
    """Refuses images of other classes than those of the model. Raises InvalidArgument."""
    if set(labels) != set(given):
        lacking, strange = sorted(set(labels) - set(given)), sorted(set(given) - set(labels))
        said = [f"has no images of {lacking[0]!r:.80}"] if lacking else []
        said += [f"has images of {strange[0]!r:.80}, which it does not know"] if strange else []
        raise InvalidArgument(
            f"dataset: a repair needs images of the classes of its base; the data set {' and '.join(said)}",
            field="dataset",
        )
