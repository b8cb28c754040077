"""How the options of the command `ouzel` name nodes, labels and parameters, for the verbs here and those plugged in.

Needs the extra "cli".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

__all__ = ["label", "node_options", "nodes", "setting"]

F = TypeVar("F", bound=Callable[..., Any])

_NODE_OPTIONS = (
    click.option(
        "--logit",
        "logits",
        multiple=True,
        metavar="CLASS",
        help="A class: its label or index (or label:TEXT, index:N). May be repeated, as the next three.",
    ),
    click.option("--channel", "channels", multiple=True, metavar="LAYER:C", help="The mean of a channel."),
    click.option(
        "--unit", "units", multiple=True, metavar="LAYER:C[:X:Y]", help="One unit; without X and Y the middle."
    ),
    click.option("--direction", "directions", multiple=True, metavar="LAYER:W,W,...", help="Weights for all channels."),
)


def node_options(command: F) -> F:
    """Adds the options that `nodes` reads."""
    for option in reversed(_NODE_OPTIONS):
        command = option(command)
    return command


def nodes(
    kinds: Any, *, logits: Sequence[str], channels: Sequence[str], units: Sequence[str], directions: Sequence[str]
) -> list[Any]:
    """The nodes that these options name.

    Args:
        kinds: Has the classes ClassLogit, Channel, Unit and Direction.
        logits: Labels or indices of classes.
        channels: LAYER:C each.
        units: LAYER:C or LAYER:C:X:Y each.
        directions: LAYER:W,W,... each.

    Raises:
        click.UsageError: A text has another form, or there is no node.
    """
    named: list[Any] = [kinds.ClassLogit(text) for text in logits]  # digits may be a label: the model decides
    for text in channels:
        layer, (channel,) = _place(text, "channel", "LAYER:C", (1,))
        named.append(kinds.Channel(layer, channel))
    for text in units:
        layer, numbers = _place(text, "unit", "LAYER:C or LAYER:C:X:Y", (1, 3))
        named.append(kinds.Unit(layer, *numbers))
    for text in directions:
        layer, _, weights = text.rpartition(":")
        try:
            named.append(kinds.Direction(layer, tuple(float(weight) for weight in weights.split(","))))
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not LAYER:W,W,...", param_hint="--direction") from error
    if not named:
        raise click.UsageError("name at least one --logit, --channel, --unit or --direction")
    return named


def setting(text: str, *, flags: bool = True) -> tuple[str, Any]:
    """The name and the value of a recipe's parameter, NAME=VALUE.

    Args:
        text: The text of the option --set.
        flags: Whether true and false are values too, besides numbers.

    Raises:
        click.BadParameter: It has another form.
    """
    name, value = label(text, "--set")
    if flags and value in ("true", "false"):
        return name, value == "true"
    try:
        return name, int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        what = "neither a number nor true or false" if flags else "not a number"
        raise click.BadParameter(f"{name}: {value!r} is {what}", param_hint="--set") from None


def label(text: str, option: str = "--label") -> tuple[str, str]:
    """The parts of NAME=VALUE.

    Args:
        text: The text of the option.
        option: The option, for the message of the error.

    Raises:
        click.BadParameter: It has another form.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def _place(text: str, option: str, form: str, counts: tuple[int, ...]) -> tuple[str, list[int]]:
    layer, *numbers = text.split(":")
    if not layer or len(numbers) not in counts or not all(number.isdecimal() for number in numbers):
        raise click.BadParameter(f"{text!r} is not {form}, with integers", param_hint=f"--{option}")
    return layer, [int(number) for number in numbers]
