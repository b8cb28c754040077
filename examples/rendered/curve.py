"""The curve of the experiment: mIoU over the number of photographs, of each way to begin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS = (4, 8, 16, 32, 64)
ARMS = ("scratch", "imagenet", "rendered", "both")
_NAMES = {
    "scratch": "random weights",
    "imagenet": "ImageNet",
    "rendered": "rendered scenes",
    "both": "ImageNet, then rendered scenes",
}
_COLOURS = {"scratch": "#888888", "imagenet": "#3b76af", "rendered": "#d98f2b", "both": "#3a8a4f"}


def rows(folder: Path) -> list[dict]:
    path = folder / "runs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def chart(folder: Path, path: Path, steps: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.6), dpi=110)
    curves(axes, rows(folder), steps)
    figure.tight_layout()
    figure.savefig(path)


def curves(axes: Axes, runs: Sequence[Mapping[str, Any]], steps: int) -> None:
    """Mean over the seeds, from the least to the greatest of them as a band."""
    known = [row for row in runs if row["n"] and row["steps"] == steps and "what" not in row]
    for arm in ARMS:
        mine = {n: [row["miou"] for row in known if (row["arm"], row["n"]) == (arm, n)] for n in COUNTS}
        there = [n for n in COUNTS if mine[n]]
        if there:
            axes.plot(there, [np.mean(mine[n]) for n in there], "o-", color=_COLOURS[arm], label=_NAMES[arm])
            low, high = ([each(mine[n]) for n in there] for each in (min, max))
            axes.fill_between(there, low, high, color=_COLOURS[arm], alpha=0.18, lw=0)
        for row in runs:
            if (row["arm"], row.get("what")) == (arm, "no photograph"):
                label = f"{_NAMES[arm]}, no photograph"
                axes.axhline(row["miou"], color=_COLOURS[arm], linestyle="--", label=label)
                axes.axhspan(row["low"], row["high"], color=_COLOURS[arm], alpha=0.12, lw=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(COUNTS, [str(n) for n in COUNTS])
    axes.set_xlabel("photographs with label maps")
    axes.set_ylabel("mIoU, held-out objects and textures")
    axes.set_ylim(0, 0.9)
    axes.grid(alpha=0.3)
    axes.legend(title="begins with", frameon=False, fontsize=8, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)


def table(folder: Path, steps: int) -> str:
    """Of each way to begin and each n: the mean over the seeds, and the least and the greatest of them."""
    known = [row for row in rows(folder) if row["n"] and row["steps"] == steps and "what" not in row]
    lines = [f"| begins with | {' | '.join(f'n = {n}' for n in COUNTS)} |", "|---" * (len(COUNTS) + 1) + "|"]
    for arm in ARMS:
        cells = []
        for n in COUNTS:
            values = [row["miou"] for row in known if (row["arm"], row["n"]) == (arm, n)]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "")
        lines.append(f"| {_NAMES[arm]} | {' | '.join(cells)} |")
    return "\n".join(lines)
