"""What was found, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ouzel.maximize.nodes import Node
from ouzel.maximize.report.verdict import Verdict, warnings_of, warnings_of_rankings
from ouzel.maximize.results import Result
from ouzel.maximize.search import Ranking
from ouzel.precision_names import EXACT


def of_result(result: Result, files: Sequence[str], verdicts: Sequence[Verdict | None] = ()) -> dict[str, Any]:
    """files: the name of each found image, in order. verdicts: from `judge`, of each."""
    verdicts = verdicts or [None] * len(result.visualizations)
    rows = [
        {
            "file": file,
            "node": _plain(one.node),
            "title": one.title,
            "activation": one.activation,
            "best_of_data": asdict(one.best_of_data) if one.best_of_data else None,
            "verdict": asdict(verdict) if verdict else None,
            "independent": asdict(one.independent) if one.independent else None,
            "path": asdict(one.path) if one.path else None,
            "history": one.history,
        }
        for file, one, verdict in zip(files, result.visualizations, verdicts, strict=True)
    ]
    recipe = {"name": result.recipe.name, **asdict(result.recipe)}  # type: ignore[call-overload]  # a dataclass, which its Protocol cannot say
    warnings = warnings_of(result.visualizations, verdicts)
    facts = {"recipe": recipe, "seed": result.seed, "steps": result.steps, "precision": result.precision}
    return {**facts, "found": rows, "warnings": warnings}


def of_rankings(rankings: Sequence[Ranking], files: Sequence[str]) -> dict[str, Any]:
    """files: the name of each crop, the hits of one ranking after those of another."""
    hits = [(ranking, hit) for ranking in rankings for hit in ranking.hits]
    rows = [
        {"file": file, "node": _plain(ranking.node), "title": ranking.title, **asdict(hit)}
        for file, (ranking, hit) in zip(files, hits, strict=True)
    ]
    return {
        "recipe": {"name": "dataset"},
        "precision": EXACT,
        "found": rows,
        "warnings": warnings_of_rankings(rankings),
    }


def _plain(node: Node) -> dict[str, Any]:
    return {"kind": type(node).__name__, **asdict(node)}
