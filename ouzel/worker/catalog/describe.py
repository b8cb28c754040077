"""What the service must know of a model to tell a request that can work from one that cannot.

`python -m ouzel.worker.catalog.describe ARCHIVE` prints it as JSON: torch is loaded there, and not in the service.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from ouzel.worker.parent_watch import end_with_parent


def describe(path: Path) -> dict[str, Any]:
    """Raises OuzelError for an archive that cannot be used."""
    import torch

    from ouzel import models
    from ouzel.finetune.recipes import LIMITS as LIMITS_OF_TUNING
    from ouzel.finetune.recipes import PARAMETERS
    from ouzel.maximize import RECIPES
    from ouzel.maximize.recipes import LIMITS

    model = models.load(path)
    seen = models.layers(model.network, torch.zeros(1, *model.input_shape))
    recipes = {
        name: {
            field.name: {"whole": field.name == "steps", "least": LIMITS[field.name][0], "most": LIMITS[field.name][1]}
            for field in dataclasses.fields(recipe)
            if field.name in LIMITS
        }
        for name, recipe in RECIPES.items()
    }
    tuning = {
        name: {key: _range(LIMITS_OF_TUNING[key]) for key in parameters} for name, parameters in PARAMETERS.items()
    }
    steps = {name: recipe().steps for name, recipe in RECIPES.items()}
    return {
        "name": model.name,
        "digest": model.digest,
        "input": list(model.input_shape),
        "labels": list(model.labels),
        "layers": {layer.name: list(layer.shape) for layer in seen if layer.shape},
        "recipes": recipes,
        "steps": steps,
        "tuning": tuning,
    }


def _range(allowed: Any) -> dict[str, Any]:
    return {
        "whole": allowed.kind is int,
        "least": allowed.least,
        "most": allowed.most,
        "flag": allowed.kind is bool,
    }


def main() -> int:
    from ouzel.errors import OuzelError

    end_with_parent()
    try:
        found = describe(Path(sys.argv[1]))
    except OuzelError as error:
        found = {"error": str(error)}
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
