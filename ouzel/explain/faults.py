"""What nobody foresaw, while rows were read or computed."""

from __future__ import annotations

import logging
import uuid

import torch

from ouzel.errors import OuzelError

logger = logging.getLogger(__name__)


def internal(error: Exception) -> OuzelError:
    """An error whose cause stays in the log, under an id that the caller can quote."""
    identity = uuid.uuid4().hex[:12]
    logger.error("error %s", identity, exc_info=error)
    return OuzelError(f"internal error {identity}; the server's log has its cause")


def raise_if_fatal(error: Exception) -> None:
    """A device-side assert poisons the process: let it end, so that the server starts a new one."""
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            raise SystemExit("the GPU context is lost") from error
