"""What was found, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ouzel.maximize.ascent import Result
from ouzel.maximize.nodes import Node
from ouzel.maximize.search import Ranking


def of_result(result: Result, files: Sequence[str]) -> dict[str, Any]:
    """files: the name of each found image, in order."""
    found = [
        {
            "file": file,
            "node": _plain(one.node),
            "title": one.title,
            "activation": one.activation,
            "best_of_data": asdict(one.best_of_data) if one.best_of_data else None,
            "history": one.history,
        }
        for file, one in zip(files, result.found, strict=True)
    ]
    recipe = {"name": result.recipe.name, **asdict(result.recipe)}  # type: ignore[call-overload]  # a dataclass, which its Protocol cannot say
    return {"recipe": recipe, "seed": result.seed, "steps": result.steps, "found": found}


def of_rankings(rankings: Sequence[Ranking], files: Sequence[str]) -> dict[str, Any]:
    """files: the name of each crop, the hits of one ranking after those of another."""
    hits = [(ranking, hit) for ranking in rankings for hit in ranking.hits]
    found = [
        {"file": file, "node": _plain(ranking.node), "title": ranking.title, **asdict(hit)}
        for file, (ranking, hit) in zip(files, hits, strict=True)
    ]
    return {"recipe": {"name": "dataset"}, "found": found}


def _plain(node: Node) -> dict[str, Any]:
    return {"kind": type(node).__name__, **asdict(node)}
