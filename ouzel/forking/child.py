"""From a process that has imported libraries to one that was forked from it and is what somebody asked for. Linux only.

What forks must have one thread only and must not have used a GPU: a child inherits neither in a usable state.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ouzel.forking.request import Request, close

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_ARGUMENTS = slice(45, 47)  # of /proc/self/stat from the third field on: where the command line begins and ends
# numpy's own threads would start at its import.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
AGAIN = "OUZEL_STARTED_AGAIN"  # set in a process that takes the place of one that has died


def supported() -> bool:
    """Whether this system's libraries survive a fork; those of macOS do not."""
    return sys.platform == "linux"


def preload(modules: Sequence[str]) -> None:
    """Imports what children are to find imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - children meet it too, and their errors are read
            sys.stderr.write(f"{module} cannot be imported: {error}\n")
    gc.collect()
    gc.freeze()  # else each child's first collection would write to, and so copy, what all share


def unfit() -> str:
    """Why this process must not fork; "" if it may."""
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        return f"it has {threads} threads"
    for file in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the folder itself
            if (opened := os.readlink(f"/proc/self/fd/{file}")).startswith("/dev/nvidia"):
                return f"it has {opened} open"
    torch = sys.modules.get("torch")
    return "it has initialised CUDA" if torch is not None and torch.cuda.is_initialized() else ""


def name(short: str) -> None:
    """Names this process, as `top` shows it: 15 bytes of it."""
    _prctl(_PR_SET_NAME, short.encode())


def orphaned(parent: int) -> bool:
    """Has the kernel end this process with its parent; whether that is gone already."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return os.getppid() != parent


def become(request: Request, short: str) -> None:
    """Makes this process, which was forked just now, what an interpreter would be that was started for `request`.

    All but running it: that is left to the caller.

    Args:
        request: What is wanted.
        short: See `name`.
    """
    name(short)
    for number, file in enumerate(request.files):
        os.dup2(file, number)
    close(request.files)
    for each in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(each, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.stdin, sys.stdout, sys.stderr = open(0, encoding="utf-8"), _written(1), _written(2)  # noqa: SIM115
    sys.path[:0] = [each for each in request.environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.argv = list(request.words)
    _set_threads(request.environment)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()  # else all children would draw the same numbers
    atexit.register(gc.unfreeze)  # else libraries report at the end what was not collected


def end(main: Callable[[], int]) -> NoReturn:
    """Runs `main` and ends this process with what it returns, or as `sys.exit` in it says.

    Threads are waited for, what was registered with `atexit` is run, and output is written, as an interpreter does at
    its end. Then it takes all modules apart, which in a process that shares the memory of hundreds takes longer than
    many a job: that is left out.
    """
    try:
        code: object = main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 - as an interpreter does
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # an interpreter waits for threads by it; no public name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def show(words: Sequence[str]) -> None:
    """Writes a command line over this process's own, as `ps` shows it; what is longer than that is cut off."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    begin, end = map(int, fields[_ARGUMENTS])
    text = b"\0".join(os.fsencode(word) for word in words)[: end - begin - 1]
    ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)


def _set_threads(environment: Mapping[str, str]) -> None:
    """OpenMP has read the variable when it was loaded, in the process that forks."""
    torch, asked = sys.modules.get("torch"), environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if torch is not None and asked.isdecimal() and int(asked) not in (0, torch.get_num_threads()):
        torch.set_num_threads(int(asked))


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None).prctl(option, value)


def _written(file: int) -> io.TextIOWrapper:
    """Writes as an interpreter does that does not buffer."""
    return io.TextIOWrapper(io.FileIO(file, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
