"""What the service must know of a model to tell a request that can work from one that cannot.

`python -m ouzel.worker.catalog.describe ARCHIVE` prints it as JSON: torch is loaded there, and not in the service.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ouzel.worker.parent_watch import end_with_parent


def describe(path: Path) -> dict[str, Any]:
    """What the service must know of a model, of JSON's types.

    Args:
        path: The archive.

    Raises:
        OuzelError: It cannot be used.
    """
    import torch

    from ouzel import models

    model = models.load(path)
    seen = models.layers(model.network, torch.zeros(1, *model.input_shape))
    return {
        "name": model.name,
        "digest": model.digest,
        "input": list(model.input_shape),
        "labels": list(model.labels),
        "task": model.task,
        "layers": {layer.name: list(layer.shape) for layer in seen if layer.shape},
    }


def main() -> int:
    """Prints the description of the archive that is named on the command line."""
    from ouzel.errors import OuzelError

    end_with_parent()
    try:
        description = describe(Path(sys.argv[1]))
    except OuzelError as error:
        description = {"error": str(error)}
    sys.stdout.write(json.dumps(description))
    return 0


if __name__ == "__main__":
    sys.exit(main())
