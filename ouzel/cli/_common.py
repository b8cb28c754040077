"""What several verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

store = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="OUZEL_MODEL_STORE",
    default=Path("model_store"),
    show_default="./model_store",
    show_envvar=True,
    help="Folder of the archives.",
)


def print_json(value: Any) -> None:
    """For programs to read, on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
