"""Loss and accuracy by epoch, drawn; of a segmentation, mean IoU in place of accuracy; of a detector, mAP."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEXT = "#010203"  # stands for the colour of the page's text
_LOSS, _ACCURACY = ("#d9702b", "#3b82c4"), ("#2f9e6b", "#8b6fc4")  # to be told apart on white and on black

History = Sequence[Mapping[str, float]]
Shares = tuple[str, tuple[tuple[str, str], ...]]  # the title of the right half, and its lines: key and name
ACCURACIES: Shares = (
    "Validation accuracy, %",
    (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")),
)
PRECISIONS: Shares = ("Validation, %", (("map", "mAP"), ("map50", "mAP at an overlap of .5")))
OVERLAPS: Shares = ("Validation, %", (("miou", "mean IoU"), ("pixel_accuracy", "pixels that are right")))


def png(history: History, kept: int | None = None, shares: Shares = ACCURACIES) -> bytes | None:
    """As a file; None if nothing was trained by epochs, or matplotlib is missing. kept: the epoch whose weights are."""
    figure = _figure(history, kept, "#222222", shares)
    if figure is None:
        return None
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def svg(history: History, kept: int | None = None, shares: Shares = ACCURACIES) -> str:
    """The same for a page, in the colour of its text, on no ground; empty instead of None."""
    import matplotlib as mpl

    figure = _figure(history, kept, _TEXT, shares)
    if figure is None:
        return ""
    out = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "ouzel"}  # text as text, and the same each time
    with mpl.rc_context(settings):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    title = 'role="img" aria-label="Loss and accuracy by epoch; the table below has the figures"'
    drawn = re.sub(r'<svg ([^>]*?)width="[^"]*"', f"<svg {title} \\1", drawn, count=1)
    drawn = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", drawn, count=1)
    return drawn.replace(_TEXT, "currentColor")


def best_epoch(history: History) -> int | None:
    """Number of the epoch with the most validation images right, of equals the least loss; None without epochs."""
    finite = [row for row in history if row["loss"] == row["loss"]]
    return int(max(finite, key=lambda row: (row["accuracy"], -row["loss"]))["epoch"]) if finite else None


def _figure(history: History, kept: int | None, text: str, shares: Shares) -> Figure | None:
    if not history or find_spec("matplotlib") is None:
        return None
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    settings: dict[Any, Any] = {**dict.fromkeys(colours, text), "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        losses, accuracies = figure.subplots(1, 2)
        _lines(losses, history, (("train_loss", "training, last step"), ("loss", "validation")), _LOSS, 1)
        _lines(accuracies, history, shares[1], _ACCURACY, 100)
        for axes, title in ((losses, "Loss"), (accuracies, shares[0])):
            axes.set_title(title, loc="left")
            axes.set_xlabel("epoch")
            axes.set_xlim(0.8, max(2, len(history)) + 0.2)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # there is no epoch 1.5
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            if kept is not None:
                axes.axvline(kept, color=text, alpha=0.45, linestyle=":", label="kept")
            axes.legend(frameon=False)
    return figure


def _lines(
    axes: Any, history: History, names: Sequence[tuple[str, str]], colours: Sequence[str], factor: float
) -> None:
    epochs = [row["epoch"] for row in history]
    for (key, name), colour, (style, width) in zip(names, colours, (("o-", 3.0), ("s--", 1.3)), strict=True):
        values = [factor * row[key] for row in history]  # where both are the same, both are to be seen
        axes.plot(epochs, values, style, color=colour, label=name, linewidth=width, markersize=2 * width)
