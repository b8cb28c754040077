"""Transfer learning: a pretrained network becomes a classifier of other images.

base = models.load("model_store/efficientnet-lite0.mar")
tuned = finetune(base, from_folder("photographs/"), "lp_ft")
tuned.test.accuracy, tuned.test.interval
write_report(make_report(base, tuned), "report/", title="photographs")
"""

from ouzel.finetune.data import Example, Split, from_folder, split
from ouzel.finetune.events import Event
from ouzel.finetune.finetune import finetune
from ouzel.finetune.metrics import Score
from ouzel.finetune.recipes import RECIPES, Recipe, make_recipe
from ouzel.finetune.report import Comparison, Report, Section, compare, make_report, write_report
from ouzel.finetune.task import Diverged
from ouzel.finetune.tuned import Tuned

__all__ = [
    "RECIPES",
    "Comparison",
    "Diverged",
    "Event",
    "Example",
    "Recipe",
    "Report",
    "Score",
    "Section",
    "Split",
    "Tuned",
    "compare",
    "finetune",
    "from_folder",
    "make_recipe",
    "make_report",
    "split",
    "write_report",
]
