"""A server for tests of code that uses the client: real gRPC on a free local port, invented answers, no torch.

    with FakeServer(models={"pets": ("cat", "dog")}) as server, Client(server.target) as ouzel:
        server.fail_next("UNAVAILABLE", times=2)
        assert ouzel.models["pets"].explain(picture).labels == ("cat", "dog")
        assert len(server.requests) == 3

For jobs, use `Client(server.target, worker=server.target)`. They go through their states and compute nothing;
`server.jobs` controls them. A fine-tuning job adds a version to `client.models.list()`, which can explain images too.
Audits have the verdict that `server.audits.verdict` names.
Every image gets the first label of its model. Maps depend only on method and target. PNG and JPEG files need Pillow.
"""

from __future__ import annotations

from ouzel_client.testing.server import FakeServer, ReceivedRequest

__all__ = ["FakeServer", "ReceivedRequest"]
