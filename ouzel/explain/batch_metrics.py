"""What a model process tells TorchServe's metrics of its batches; `metrics.yaml` of `ouzel.serving` declares them.

Java reads them from the output of its Python processes. All are written at once: TorchServe's own way,
`context.metrics`, writes them one by one.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterable, Sequence

import psutil
import torch

from ouzel.explain.requests import Reply
from ouzel.explain.stages import STAGES
from ouzel_protos.v1.explain_pb2 import Error

_HOST = socket.gethostname()
_MEMORY_SECONDS = 5.0  # between two looks at the memory
Value = tuple[str, str, str, str]  # (name, unit, value, "COUNTER", "GAUGE" or "HISTOGRAM")


class BatchMetrics:
    """Tells of the batches of a model.

    Args:
        model: Its name.
        version: Its version.
    """

    def __init__(self, model: str, version: str) -> None:
        self._whose = f"ModelName:{model},ModelVersion:{version}"
        self._looked = float("-inf")  # when the memory was looked at

    def tell(self, replies: Sequence[Reply], more: Iterable[Value] = ()) -> None:
        """Tells of a batch.

        Args:
            replies: One or more answers that were computed together.
            more: Whatever else there is to tell.
        """
        lines = [self._line(*each) for each in more]
        timing = next((each.envelope.timing for each in replies if each.envelope.timing.batch_size), None)
        if timing is not None:  # else nothing was computed
            for stage in STAGES:
                seconds = f"{getattr(timing, f'{stage}_ms') / 1e3:.6f}"
                lines.append(self._line(f"explain_{stage}_seconds", "s", seconds, "HISTOGRAM"))
            lines.append(self._line("explain_batch_rows", "Count", str(timing.batch_size), "HISTOGRAM"))
        codes = [Error.Code.Name(each.envelope.error.code) if each.http != 200 else "OK" for each in replies]
        for code in dict.fromkeys(codes):
            count = str(codes.count(code))
            lines.append(self._line("explain_rows_total", "Count", count, "COUNTER", f",Code:{code}"))
        lines += self._memory()
        sys.stdout.write("".join(lines))

    def _memory(self) -> list[str]:
        if (now := time.monotonic()) - self._looked < _MEMORY_SECONDS:
            return []
        self._looked = now
        memory = {"resident": psutil.Process().memory_info().rss}
        if torch.cuda.is_initialized():
            memory["gpu"] = torch.cuda.memory_reserved()
        worker = f",Worker:{_worker(sys.argv)}"
        return [
            self._line(f"explain_{kind}_bytes", "Bytes", str(size), "GAUGE", worker) for kind, size in memory.items()
        ]

    def _line(self, name: str, unit: str, value: str, kind: str, labels: str = "") -> str:
        end = f"|#type:{kind}|#hostname:{_HOST},{int(time.time())}"
        return f"[METRICS]ouzel_{name}.{unit}:{value}|#{self._whose}{labels}{end}\n"


def _worker(words: list[str]) -> str:
    """The number of this process among TorchServe's, which the one that follows it has, too; "0" elsewhere."""
    return next((match[1] for word in words if (match := re.search(r"\.ts\.sock\.(\d+)$", word))), "0")
