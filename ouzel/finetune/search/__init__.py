"""The search for hyper-parameters: trials, of which the bad ones are stopped early, and the best one.

found = search(base, examples, "fine_tune", {"learning_rate": (1e-5, 1e-2, "log")}, trials=16)
tuned = finetune(base, examples, found.recipe)
"""

from ouzel.finetune.search.results import COMPLETE, DIVERGED, PRUNED, Found, Trial
from ouzel.finetune.search.run import search

__all__ = ["COMPLETE", "DIVERGED", "PRUNED", "Found", "Trial", "search"]
