"""Pages for people: HTML that needs nothing from elsewhere. No script, no network; pictures lie within.

Templates escape whatever they are given: labels and file names come from strangers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment

_LISTED = 24  # values that a row of a table spells out
_FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """The page that a template of this package makes of values. Raises jinja2's UndefinedError if one is missing."""
    return plain(_environment().get_template(template).render(**values))


def plain(text: str) -> str:
    """A text that can be written.

    Names of files may hold bytes that are no UTF-8 (lone surrogates), which are spelt out. In JSON they then stand for
    themselves.
    """
    return text.encode(errors="backslashreplace").decode()


def photo(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as the source of an <img>: a JPEG, which is a tenth of a PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=88)
    return source(out.getvalue(), "image/jpeg")


def source(content: bytes, media_type: str) -> str:
    """A file as a URL that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1], such as "97.0 %", which no line breaks; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def rows(values: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a mapping holds, as the rows of a table: a name for people and the value as text.

    names: for people, by key; other keys are spelt out. A mapping within becomes a row for each of its entries; what is
    empty is left out.
    """
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = names.get(key) or str(key).replace("_", " ").capitalize()
        if isinstance(value, Mapping):
            lines += [(f"{name}: {inner}", text) for inner, text in rows(value, {each: each for each in value})]
        elif value is not None and value not in ("", (), []):
            lines.append((name, _text(value)))
    return lines


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if len(value) > _LISTED or any(isinstance(each, list | tuple) for each in value):
            return f"{len(value)} values"
        return ", ".join(map(_text, value))
    return str(value)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = percent
    made.globals["style"] = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    return made
