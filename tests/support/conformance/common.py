"""What the scripts of the real clients have in common. They run where those are installed, without Ouzel.

Arguments: URL of REST, address of gRPC, a .npz file with inputs and what they should give. A line is printed for each
check; the end is 1 if one fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

MODEL, ATOL = "toy", 1e-5
# Pixels of nearly equal saliency change places with the last bits of a map.
TOLERANCES = {"faithfulness": 2e-3}
OUTPUTS = ("scores", "logits", "labels", "classes", "saliency", "faithfulness")
PARAMETERS = {"method": "grad_cam", "target": "goat"}


class Checks:
    """Counts what fails."""

    def __init__(self, expected: dict[str, np.ndarray]) -> None:
        self.expected, self.failures = expected, 0

    def __call__(self, name: str, good: bool, told: object = "") -> None:
        print(f"{'ok  ' if good else 'FAIL'} {name} {told}")
        self.failures += not good

    def answer(self, name: str, get: Callable[[str], Any], outputs: tuple[str, ...] = OUTPUTS, rows: int = 3) -> None:
        """Compares outputs."""
        gaps = {}
        for output in outputs:
            got, want = get(output), self.expected[output][:rows]
            if got is None:
                self(f"{name}.{output}", False, "is missing")
            elif want.dtype.kind == "S":
                texts = np.array([x if isinstance(x, bytes) else str(x).encode() for x in np.ravel(got)])
                self(f"{name}.{output}", texts.tolist() == want.ravel().tolist(), texts[:2])
            else:
                gaps[output] = float(np.abs(np.asarray(got).reshape(want.shape) - want).max())
        self(
            name,
            all(gap <= TOLERANCES.get(key, ATOL) for key, gap in gaps.items()),
            {key: f"{gap:.1e}" for key, gap in gaps.items()},
        )

    def refused(self, name: str, call: Callable[[], object], kind: type[Exception], words: str) -> None:
        """Something is refused, in these words."""
        try:
            call()
        except kind as error:
            self(name, words in str(error), str(error)[:120])
        else:
            self(name, False, "was not refused")


def attempt(check: Checks, name: str, function: Callable[..., Any], *args: Any) -> None:
    """A client that fails in its own way fails alone."""
    try:
        result = function(*args)
        if isinstance(result, Awaitable):
            asyncio.run(result)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001
        check(name, False, f"{type(error).__name__}: {error}")


def inputs() -> tuple[str, str, Checks, list[bytes], np.ndarray]:
    """(REST, gRPC, checks, files of images, the same as tensors)."""
    rest, grpc, file = sys.argv[1:]
    with np.load(file) as data:
        expected = dict(data)
    sizes = expected.pop("sizes")
    ends = np.cumsum(sizes)
    files = [expected["files"][end - size : end].tobytes() for size, end in zip(sizes, ends, strict=True)]
    return rest, grpc, Checks(expected), files, expected["tensors"]


def finish(check: Checks) -> None:
    """Ends the process."""
    print(f"{check.failures} failures")
    sys.exit(1 if check.failures else 0)
