"""The process that TorchServe starts for each worker: it has one forked from `zygote`, and stands for it.

Standard library only, and nothing of ouzel: it runs without site-packages, so that it starts in milliseconds and takes
next to no memory. It ends with the worker, and the worker with it. Where there is no zygote it becomes the worker.

Usage: shim.py SOCKET ARGUMENT..., the arguments being those of a Python interpreter.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys

WORKER = "model_service_worker.py"  # of TorchServe; anything else is not forked
HEAD = struct.Struct("!I")  # bytes of the request that follows, see `ouzel.forking.request`
STATUS = struct.Struct("!i")  # exit status in the answer


def main(path: str, words: list[str]) -> int:
    """Returns the exit status of the worker."""
    script = next((index for index, word in enumerate(words) if not word.startswith("-")), None)
    if script is not None and os.path.basename(words[script]) == WORKER:
        answer = _forked(path, words[script:])
        if answer is not None:
            return STATUS.unpack(answer)[0] if len(answer) == STATUS.size else 1
    os.execv(sys.executable, [sys.executable, *words])


def _forked(path: str, words: list[str]) -> bytes | None:
    """What the zygote says once the worker has ended: nothing if it ended itself. None if there was no zygote."""
    request = json.dumps({"words": words, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [HEAD.pack(len(request))], [0, 1, 2])
            connection.sendall(request)
        except OSError:
            return None
        try:
            return connection.recv(STATUS.size)
        except OSError:
            return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
