"""The trust report as one HTML page, pictures inside: it needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ouzel.audit import MPRT_LIMIT, Photograph, Score, TrustReport
from ouzel.audit.report import FIGURES
from ouzel_protos import heatmap

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; }
table { border-collapse: collapse; } td, th { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } figure { display: inline-block; margin: 4px; }
img { width: 168px; } figcaption, small { color: #555; font-size: .85em; } .fails { color: #a00; text-align: left; }
"""
_MEANING = {
    "deletion": "area under the class's probability while the most salient pixels are covered first",
    "insertion": "the same while they are revealed first",
    "pointing": "share of photographs whose most salient pixel lies on the object, or close by (15 pixels at 224)",
    "energy": "share of the map's mass on the object",
    "mprt": f"mean rank correlation with the maps of a network that forgets its layers; above {MPRT_LIMIT} fails",
    "infidelity": "share of the logit's change under small noise that the map leaves unexplained",
    "sensitivity": "largest relative change of the map under noise that nobody sees",
}


def page(report: TrustReport, photographs: Sequence[Photograph]) -> str:
    """The whole page."""
    arrows = {1: "more is better", -1: "less is better"}
    head = "".join(f'<th title="{arrows[way]}">{name} {"↑" if way > 0 else "↓"}</th>' for name, way in FIGURES.items())
    rows = "".join(_row(score) for score in report.scores)
    meaning = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in _MEANING.items())
    pictures = "".join(_pictures(score, photographs) for score in report.scores if score.maps)
    labels = ", ".join(f"{name} ({label})" for name, label in report.photographs)
    title = html.escape(f"How far to trust the maps of {report.model}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p><small>{html.escape(report.digest)}<br>{html.escape(labels)}</small></p>"
        f"<table><tr><th>method</th>{head}<th>fails</th></tr>{rows}</table><dl>{meaning}</dl>{pictures}</html>"
    )


def _row(score: Score) -> str:
    cells = "".join(
        f"<td>{score.figures[name]:.3f}</td>" if name in score.figures else "<td>-</td>" for name in FIGURES
    )
    findings = "<br>".join(html.escape(text) for text in (*score.fails, score.problem) if text)
    return f'<tr><td>{html.escape(score.method)}</td>{cells}<td class="fails">{findings}</td></tr>'


def _pictures(score: Score, photographs: Sequence[Photograph]) -> str:
    figures = "".join(
        f'<figure><img src="{_overlay(one, values)}" alt=""><figcaption>{html.escape(one.name)}</figcaption></figure>'
        for one, values in zip(photographs, score.maps, strict=True)
    )
    return f"<h2>{html.escape(score.method)}</h2>{figures}"


def _overlay(photograph: Photograph, values: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(heatmap.blend(photograph.picture, values, 0.8)).save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
