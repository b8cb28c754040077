"""Other services whose predictions are audited: endpoints that the operator of the worker has registered.

Callers name an endpoint, and never see more of it than `describe` tells: no address and no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import HttpJson, Oip, TorchServe
from ouzel_protos.v1 import audit_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit import Predictor

_KINDS = {Oip: "oip", TorchServe: "torchserve", HttpJson: "http-json"}


def open_source(config: Endpoint) -> Predictor:
    """Makes a predictor of an endpoint, in the process that audits. It stays open as long as the process lives.

    Args:
        config: As the operator describes it.

    Returns:
        A predictor that threads may share.

    Raises:
        OuzelError: The endpoint does not answer, or is not what the operator says.
    """
    from ouzel.endpoints.open import open_endpoint

    return open_endpoint(config)


def describe(name: str, config: Endpoint) -> pb.ListAuditSourcesResponse.Source:
    """What callers may know of an endpoint.

    Args:
        name: What callers call it.
        config: As that of `open_source`.
    """
    height, width = config.size or (0, 0)
    kind = _KINDS[type(config.protocol)]
    return pb.ListAuditSourcesResponse.Source(
        name=name, kind=kind, classes=len(config.labels), height=height, width=width
    )
