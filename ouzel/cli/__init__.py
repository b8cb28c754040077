"""The verbs of this distribution in the command `ouzel`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# By name: the section of `ouzel --help`, "" for a verb that is hidden there, and the line.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "up": ("serve", "Start the services of this machine."),
        "down": ("serve", "Stop the services."),
        "status": ("serve", "Show the state of each part of the services."),
        "logs": ("serve", "Show the last lines of a log."),
        "token": ("serve", "Print a token of the running services."),
        "usage": ("serve", "Show what the owners of jobs have used."),
        "keys": ("serve", "Make and revoke API keys of the gateway."),
        "serving-agent": ("serve", "Serve what a shared model store holds."),
        "agents": ("serve", "Show what serves a shared model store."),
        "sample": ("explain", "Write a photograph to try things on."),
        "ledger": ("audit", "Verify, prove and export what the log says."),
        "audit.sink": ("audit", "Watch the stream of another service, and raise alerts."),
        "maximize-local": ("", ""),
    }
)
