"""Pieces of HTML for notebooks. They escape what they are given, and need nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable


def source(image: bytes, media_type: str) -> str:
    """A file as the value of the attribute `src`."""
    return f"data:{html.escape(media_type)};base64," + base64.b64encode(image).decode()


def prediction_html(scores: Iterable[tuple[str, float]], skipped: str, maps: Iterable[str]) -> str:
    """A table of labels and probabilities, why there is no saliency if it was skipped, and the maps."""
    rows = "".join(f"<tr><td>{html.escape(label)}</td><td>{score:.1%}</td></tr>" for label, score in scores)
    note = f"<p>{html.escape(skipped)}</p>" if skipped else ""
    return f"<table>{rows}</table>{note}{''.join(maps)}"


def figure_html(image: bytes, media_type: str, caption: str) -> str:
    """A picture of a file of this type, with a caption."""
    text = html.escape(caption)
    return (
        f'<figure style="display:inline-block;margin:4px"><img src="{source(image, media_type)}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
