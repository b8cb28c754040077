"""The saliency that `ouzel explain` requests, from the texts of its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ouzel_client._types.regions import Box, Pixel, Region
from ouzel_client._types.saliency import Contrast, Rank, Saliency, Target, Top, Within
from ouzel_client.errors import InvalidArgument


def target(
    one: str | None, contrast: tuple[str, str] | None, top: int | None, rank: int | None, region: Region | None = None
) -> Target:
    """The target of all methods; at most one of the first four may be given. Raises click.UsageError."""
    if sum(option is not None for option in (one, contrast, top, rank)) > 1:
        raise click.UsageError("give one of --target, --contrast, --target-top and --rank")
    plain: str | Rank | Contrast | Top | None = one  # digits may be a label: the service knows
    if contrast is not None:
        plain = Contrast(*contrast)
    if top is not None:
        plain = Top(top)
    if rank is not None:
        plain = Rank(rank)
    return plain if region is None else Within(plain, region)


def region(box: str | None, pixel: str | None, mask: Path | None) -> Region | None:
    """The region of all targets; at most one may be given. Raises click.UsageError or click.BadParameter."""
    if sum(option is not None for option in (box, pixel, mask)) > 1:
        raise click.UsageError("give one of --box, --pixel and --mask")
    if box is not None:
        left, top, right, bottom = _numbers(box, float, 4, "--box")
        return Box(left, top, right, bottom)
    if pixel is not None:
        x, y = _numbers(pixel, int, 2, "--pixel")
        return Pixel(x, y)
    return mask


def _numbers(text: str, kind: Callable[[str], Any], count: int, option: str) -> list[Any]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise click.BadParameter(f"{text!r} is not {count} numbers with commas between", param_hint=option)
    return numbers


def saliency(methods: Sequence[str], common: Mapping[str, Any]) -> list[Saliency]:
    """One request per method, written as NAME or NAME:KEY=VALUE,KEY=VALUE. Raises click.BadParameter.

    Keys are parameters of the method, or replace one of `common`: target, reduction, size, dtype; or
    faithfulness.
    """
    return [_request(text, common) for text in methods]


def _request(text: str, common: Mapping[str, Any]) -> Saliency:
    method, colon, rest = text.partition(":")
    keywords = dict(common)
    for part in rest.split(",") if colon else ():
        key, sign, value = part.partition("=")
        if not key or not sign or key == "method":
            raise click.BadParameter(f"{text!r}: {part!r} is not KEY=VALUE", param_hint="--method")
        keywords[key] = _value(key, value)
    try:
        return Saliency(method, **keywords)
    except InvalidArgument as error:
        raise click.BadParameter(f"{text!r}: {error.message}", param_hint="--method") from None


def _value(key: str, text: str) -> Any:
    """A flag, a number, an image (@ and its path) or the text itself."""
    if key in ("layer", "target"):  # layers and labels may be called by numbers
        return text
    if text.startswith("@"):
        return Path(text[1:])
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
