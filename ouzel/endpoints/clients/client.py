"""What the clients of all kinds have in common."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np


class Client(Protocol):
    """Asks one endpoint. Threads may share it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the K classes."""

    @property
    def version(self) -> str:
        """Of the model, as far as it is known; may be empty."""

    @property
    def digest(self) -> str:
        """Of the weights, as the service states it; may be empty."""

    @property
    def batch(self) -> int:
        """Pictures in one request, at most."""

    def ask(self, pictures: np.ndarray, stop: threading.Event) -> np.ndarray:
        """Make one request.

        Args:
            pictures: (n, H, W, 3) uint8, 1 to `batch` of them.
            stop: Set if the answer is no longer of use.

        Returns:
            (n, K) float64, of finite probabilities.

        Raises:
            OuzelError: There is no answer, or none that can be used. The message names the endpoint, and shows neither
                its address nor what the operator's headers hold.
        """

    def close(self) -> None:
        """End the connections."""
