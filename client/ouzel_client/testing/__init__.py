"""A server for tests of code that uses the client: real gRPC on a free port of loopback, made-up answers, no torch.

    with FakeServer(models={"pets": ("cat", "dog")}) as server, Client(server.target) as ouzel:
        server.fail_next("UNAVAILABLE", times=2)
        assert ouzel.models["pets"].explain(picture).labels == ("cat", "dog")
        assert len(server.requests) == 3

Jobs run by themselves, without any work, for `Client(server.target, worker=server.target)`; `server.jobs` says how.
Those that fine-tune add versions to `client.models.list()`, which can be asked for explanations like the others.
Every image is the first label of its model; maps depend on method and target alone. Encoded pictures need Pillow.
"""

from __future__ import annotations

from ouzel_client.testing.server import FakeServer, ReceivedRequest

__all__ = ["FakeServer", "ReceivedRequest"]
