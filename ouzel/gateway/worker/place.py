"""Where the worker is, and as whom its callers come.

The worker knows owners by tokens of its own. A caller comes to it with the token of the caller's tenant: the tenant
"local" with that of the worker on this machine, others with those of the file that the worker reads, too (--tokens).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ouzel import secret_files
from ouzel.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unavailable
from ouzel.gateway.access.open import LOCAL
from ouzel_protos.local import read_worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlace:
    """Where the worker is now.

    Attributes:
        grpc: "host:port".
        token_file: Holds the token of the tenant "local"; None if there is none.
    """

    grpc: str
    token_file: Path | None = None


@dataclass(frozen=True)
class WorkerOptions:
    """How the worker is reached.

    Attributes:
        find: Where it is; None if it is not running. Asked again when it does not answer.
        tokens: File with a line OWNER TOKEN for each tenant; None if there is none.
    """

    find: Callable[[], WorkerPlace | None]
    tokens: Path | None = None


def local(state: Path) -> Callable[[], WorkerPlace | None]:
    """Finds the worker that runs with a state folder."""

    def find() -> WorkerPlace | None:
        record = read_worker(state)
        return None if record is None else WorkerPlace(record["grpc"], Path(record["token_file"]))

    return find


def token_of(tenant: str, place: WorkerPlace, tokens: Path | None) -> str:
    """The token with which callers of a tenant come to the worker.

    Raises:
        PermissionDenied: The operator has given the tenant none.
        Unavailable: The file cannot be read now.
    """
    try:
        if tokens is not None and (found := _listed(tokens).get(tenant)):
            return found
        if tenant == LOCAL and place.token_file is not None:
            return secret_files.read(place.token_file).strip()
    except (OSError, InvalidArgument, FailedPrecondition) as error:  # whose words are the operator's
        _log.error("the tokens of the worker: %s", error)
        raise Unavailable("the tokens of the worker cannot be read") from None
    raise PermissionDenied(
        f"the tenant {tenant!r:.80} has no access to jobs, data sets, models and audits here: the operator gives it a "
        "token of the worker with --worker-tokens"
    )


def _listed(path: Path) -> dict[str, str]:
    """Tokens by owner. The worker checks the file more strictly; here lines of another form are passed over."""
    lines = (line.split() for line in secret_files.read(path, "worker_tokens").splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2 and not words[0].startswith("#")}
