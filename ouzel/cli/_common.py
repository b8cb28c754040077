"""What several verbs share."""

from __future__ import annotations

from pathlib import Path

import click

from ouzel_client.terminal import print_json

__all__ = ["print_json", "store"]

store = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="OUZEL_MODEL_STORE",
    default=Path("model_store"),
    show_default="./model_store",
    show_envvar=True,
    help="Folder with the model archives.",
)
