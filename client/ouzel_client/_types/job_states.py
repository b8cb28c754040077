"""The states of a job."""

from __future__ import annotations

from typing import Literal

State = Literal["QUEUED", "RUNNING", "PUBLISHING", "PAUSED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
FINAL: frozenset[str] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
