"""How a network is tuned: what is trained, for how long, how fast.

feature_extractor   the backbone stays as it is; a logistic regression on its features becomes the head
fine_tune           the new head first, then all layers, the first ones more slowly (fastai's schedule)
lp_ft               the logistic regression, then all layers from there (Kumar et al., ICLR 2022); whichever is
                    better on the validation images is kept
scratch             all layers from random weights: what the transfer is worth
segment             a class for each pixel: a decoder on the features of the base learns alone, then all layers do;
                    frozen_epochs 0 or epochs 0 leaves out the one or the other
detect              boxes of objects: a detector on the features of the base, in the same two stages
debias              repairs the base: its last layer is fitted anew, on objects before other backgrounds
debias_all          the same, and then all layers from there; whichever is better on the validation images is kept

`ouzel.grounding.repair` makes the pictures of the last two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouzel.checks import one_of, parameter
from ouzel.errors import InvalidArgument
from ouzel_protos.recipes import DETECT, FINETUNE, REPAIRS, SEGMENT


@dataclass(frozen=True)
class Recipe:
    """regression: whether the head begins as a logistic regression. pretrained: whether the base's weights are used.

    epochs: passes over the training images in which all layers learn; frozen_epochs: before those, of the head alone,
    at head_rate.
    learning_rate: of the head, at its highest; the first layers learn `spread` times more slowly.
    warm_up: share of the steps in which the rate rises. weight_decay: of AdamW. patience: epochs without a better
    validation after which training ends. batch_size: images per step.
    crop: smallest share of the area that a random crop may have; 1 crops nothing. flip: whether images may be
    mirrored; not for digits, text, or anything where left and right matter. color: how much brightness, contrast and
    saturation may change, 0 to 1. balance: whether rare classes weigh as much as frequent ones.
    train_batchnorm: whether BatchNorms take their statistics from the training images; with few of them, those that the
    base has seen are better.
    held_out: share of the images that are kept for the figures in the result; validation: of the others, for choosing.
    per_class: of a repair, pictures of each class, as many before each background; heads: how many last layers are
    averaged, each fitted on half of them; sparse: whether their penalty is that of the absolute weights (L1) or of
    their squares (L2).
    dice: of a segmentation, the weight of the Dice loss beside the cross-entropy.
    """

    name: str
    regression: bool = False
    pretrained: bool = True
    epochs: int = 0
    frozen_epochs: int = 0
    learning_rate: float = 1e-3
    head_rate: float = 2e-3
    spread: float = 1.0
    warm_up: float = 0.3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    patience: int = 5
    batch_size: int = 16
    crop: float = 0.5
    flip: bool = True
    color: float = 0.0
    balance: bool = True
    train_batchnorm: bool = False
    held_out: float = 0.2
    validation: float = 0.2
    per_class: int = 240
    heads: int = 10
    sparse: bool = True
    dice: float = 1.0

    @property
    def segments(self) -> bool:
        """Whether a class for each pixel is learnt."""
        return self.name == SEGMENT

    @property
    def repairs(self) -> bool:
        """Whether the base is repaired: it has learnt the classes already."""
        return self.name in REPAIRS.values()


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # Learning from mirrored images too doubles the one cost that this recipe has.
        Recipe("feature_extractor", regression=True, flip=False),
        Recipe("fine_tune", epochs=5, frozen_epochs=1, spread=10.0),
        Recipe("lp_ft", regression=True, epochs=5, spread=10.0),
        Recipe("scratch", pretrained=False, epochs=20, patience=20, train_batchnorm=True),
        Recipe(
            SEGMENT,
            epochs=15,
            frozen_epochs=5,
            learning_rate=2e-3,
            head_rate=4e-3,
            spread=10.0,
            patience=15,
            batch_size=8,
            color=0.2,
            balance=False,
        ),
        Recipe(
            DETECT,
            epochs=20,
            frozen_epochs=10,
            learning_rate=2e-3,
            head_rate=4e-3,
            spread=10.0,
            weight_decay=1e-4,
            patience=30,
            batch_size=8,
            balance=False,
        ),
        Recipe("debias", regression=True, flip=False),
        Recipe("debias_all", regression=True, epochs=5, spread=10.0),
    )
}


def make_recipe(name: str, parameters: Mapping[str, Any]) -> Recipe:
    """A recipe by name, with its parameters checked.

    Args:
        name: One of RECIPES.
        parameters: Those that differ from the recipe's own, by name.

    Raises:
        InvalidArgument: Names what is allowed.
    """
    one_of("recipe", name, RECIPES)
    allowed = FINETUNE[name]
    for key, value in parameters.items():
        if key not in allowed:
            raise InvalidArgument(
                f"parameters.{key:.80}: {name} knows only {', '.join(allowed)}", field=f"parameters.{key}"
            )
        parameter(f"parameters.{key}", value, allowed[key])
    return dataclasses.replace(RECIPES[name], **parameters)
