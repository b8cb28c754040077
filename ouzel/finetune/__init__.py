"""Transfer learning: a pretrained network becomes a classifier of other images.

base = models.load("model_store/efficientnet-lite0.mar")
tuned = finetune(base, from_folder("photographs/"), "lp_ft")
tuned.test.accuracy, tuned.test.interval
"""

from ouzel.finetune.data import Example, Split, from_folder, split
from ouzel.finetune.finetune import Tuned, finetune
from ouzel.finetune.loop import Diverged, Event
from ouzel.finetune.metrics import Score
from ouzel.finetune.recipes import RECIPES, Recipe, make_recipe

__all__ = [
    "RECIPES",
    "Diverged",
    "Event",
    "Example",
    "Recipe",
    "Score",
    "Split",
    "Tuned",
    "finetune",
    "from_folder",
    "make_recipe",
    "split",
]
