"""Activation maximization: which input excites a node of a network most?

from ouzel.maximize import Channel, ClassLogit, maximize

result = maximize(model, [ClassLogit("tabby"), Channel("blocks.3", 12)], recipe="fourier", seed=0)
result.visualizations[0].image         # (3, H, W) in [0, 1]
result.visualizations[0].activation    # of that very image
"""

from ouzel.maximize.ascent import maximize
from ouzel.maximize.described import from_description
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.independent import Score
from ouzel.maximize.nodes import Channel, ClassLogit, Direction, Node, Unit
from ouzel.maximize.path import NetworkPath, PathLayer
from ouzel.maximize.recipes import RECIPES, FourierRecipe, Maco, Pixel, Recipe, make_recipe
from ouzel.maximize.report import Verdict, judge
from ouzel.maximize.results import Result, Step, Visualization
from ouzel.maximize.search import Hit, Ranking, search
from ouzel.maximize.spectrum import spectrum_of

__all__ = [
    "RECIPES",
    "Channel",
    "ClassLogit",
    "Direction",
    "FourierRecipe",
    "Hit",
    "Maco",
    "NetworkPath",
    "Node",
    "PathLayer",
    "Pixel",
    "Ranking",
    "Recipe",
    "Result",
    "Score",
    "Step",
    "Truncated",
    "Unit",
    "Verdict",
    "Visualization",
    "from_description",
    "judge",
    "make_recipe",
    "maximize",
    "search",
    "spectrum_of",
]
