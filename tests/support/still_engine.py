"""An engine that computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ouzel.errors import NotFound
from ouzel.gateway.access.caller import unknown_model
from ouzel.gateway.engine import Description, Row
from ouzel_protos.v1 import explain_pb2 as pb


class StillEngine:
    """Serves models by their names, with scores that are made up.

    Args:
        models: That are there.
        seconds: That each call takes.
    """

    def __init__(self, models: Sequence[str] = ("m",), seconds: float = 0.0) -> None:
        self.names, self._seconds = tuple(models), seconds
        self.asked = self.cancelled = 0

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        await self.describe(model, version)
        self.asked += 1
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        told = pb.ModelInfo(name=model, version="1")
        return [pb.Explanation(model=told, scores=[pb.Score(index=0, label="a", probability=1)]) for _ in rows]

    async def describe(self, model: str, version: str) -> Description:
        if model not in self.names:
            raise unknown_model(model)
        if version not in ("", "1"):
            raise NotFound("version: no")
        return Description(model, "1", ("1",), ("a",), (3, 4, 4))

    async def models(self) -> list[Description]:
        return [await self.describe(name, "") for name in self.names]

    def stalled(self, model: str, version: str) -> float:
        return 0.0

    async def ready(self) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass
