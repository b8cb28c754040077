"""Having TorchServe's workers forked from one process that has imported their libraries, where that can be done."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ouzel import handler_files, secret_files
from ouzel.forking import child
from ouzel.serving.forking import shim

logger = logging.getLogger(__name__)
LOG = "zygote.log"  # in the run's folder
_SOCKET = "zygote.sock"
_INTERPRETER = "python"
_WAITING = 128
# What takes long: what TorchServe's worker itself needs, and what Ouzel's handlers need, 400 MiB of each process.
_OF_TORCHSERVE = ("torch",)
_OF_HANDLERS = (*_OF_TORCHSERVE, "torchvision.models", "timm", "ouzel.models", "ouzel.explain.pool")


def interpreter(run: Path) -> Path:
    """What TorchServe is to start in place of a Python interpreter; `zygote` makes it."""
    return run / _INTERPRETER if child.supported() else Path(sys.executable)


def libraries(handlers: Iterable[str]) -> tuple[str, ...]:
    """Names of the modules that workers are to find imported.

    Args:
        handlers: Of the models that are served, the file names of their handlers.
    """
    ours = {handler_files.SALIENCY, handler_files.POOL}
    return _OF_TORCHSERVE if ours.isdisjoint(handlers) else _OF_HANDLERS


@contextlib.contextmanager
def zygote(run: Path, environment: Mapping[str, str], modules: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Starts the process that forks, where that can be done.

    Yields a file descriptor to pass on: once no process has it open any longer, the zygote ends with all that it
    forked.

    Args:
        run: Folder of the run.
        environment: Of the process.
        modules: Names of the modules that it imports; see `libraries`.
    """
    if not child.supported():
        yield ()
        return
    held = _start(run, environment, modules)
    try:
        yield (held,)
    finally:
        os.close(held)


def _start(run: Path, environment: Mapping[str, str], modules: Sequence[str]) -> int:
    script = run / _INTERPRETER
    words = [sys.executable, "-I", "-S", shim.__file__, str(run / _SOCKET)]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    reading, writing = os.pipe()
    try:
        with secret_files.open_log(run / LOG) as log, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(run / _SOCKET))
            listener.listen(_WAITING)  # who comes before all is imported waits
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ouzel.serving.forking.zygote", str(listener.fileno()), *modules],
                pass_fds=[listener.fileno()],
                env={**environment, **child.ENVIRONMENT},
                stdin=reading,
                stdout=log,
                stderr=log,
                start_new_session=True,  # as TorchServe: it is stopped in order, not by Ctrl-C
            )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    logger.info("started the process that forks workers, %d", process.pid)
    return writing
