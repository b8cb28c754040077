"""The pool as a model of TorchServe: a folder of the run with its handler, which reads the model store itself."""

from __future__ import annotations

import json
from pathlib import Path

from ouzel import handler_files
from ouzel.model_files import MANIFEST
from ouzel.model_names import POOL, POOL_VERSION
from ouzel.serving.options import Resources, ServingOptions
from ouzel.torchserve.archives import Archive


def pool_archive(run: Path) -> Archive:
    """Writes the folder.

    Args:
        run: The run's folder.

    Returns:
        What TorchServe is to load.
    """
    folder, handler = run / POOL, handler_files.POOL
    manifest = {"runtime": "python", "model": {"modelName": POOL, "modelVersion": POOL_VERSION, "handler": handler}}
    (folder / MANIFEST).parent.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="ascii")
    (folder / handler).write_bytes(handler_files.handler_file(handler).read_bytes())
    return Archive(POOL, POOL_VERSION, folder, handler)


def environment(options: ServingOptions, granted: Resources) -> dict[str, str]:
    """What the handler has to know."""
    if not options.pool:
        return {}
    own = {} if options.pool_memory_mb is None else {"OUZEL_POOL_MB": str(options.pool_memory_mb)}
    processes = max(granted.workers // max(len(granted.gpus), 1), 1)  # that share the machine's memory, or a GPU's
    return {"OUZEL_POOL_STORE": str(options.store), "OUZEL_POOL_PROCESSES": str(processes)} | own
