"""Where images are decoded, by name. No torch: commands and services use the names too."""

from __future__ import annotations

from typing import Literal, get_args

Place = Literal["host", "device"]
HOST: Place = "host"
PLACES: tuple[Place, ...] = get_args(Place)
VARIABLE = "OUZEL_DECODE"  # where served models have their images decoded
