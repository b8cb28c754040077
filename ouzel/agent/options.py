"""What can be chosen about an agent."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.buckets import located
from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.model_names import check_name
from ouzel.telemetry.metrics import MetricsOptions
from ouzel_protos.local import state_dir


def host_name() -> str:
    """The name of this machine, as an agent may be called."""
    return socket.gethostname().partition(".")[0].lower().replace("_", "-")[:63] or "node"


@dataclass(frozen=True)
class AgentOptions:
    """The options of an agent.

    Attributes:
        source: The model store that all machines share: a folder, or "s3://BUCKET/PREFIX".
        store: The folder that TorchServe on this machine serves. The agent alone writes to it.
        state: State folder of the services on this machine.
        node: By which others know this machine, unique among the agents of a store.
        rest: URL of a TorchServe that was not started with the state folder.
        management: URL of its management API.
        key_file: Its file of tokens.
        interval: Between two looks at the store, in seconds.
        metrics: Where the agent's numbers are read; None serves none.

    Raises:
        InvalidArgument: A value is out of its range.
    """

    source: str | Path
    store: Path = Path("model_store")
    state: Path = field(default_factory=state_dir)
    node: str = field(default_factory=host_name)
    rest: str = ""
    management: str = ""
    key_file: Path | None = None
    interval: float = 2.0
    metrics: MetricsOptions | None = None

    def __post_init__(self) -> None:
        for name in ("store", "state"):
            object.__setattr__(self, name, Path(getattr(self, name)).expanduser().absolute())
        object.__setattr__(self, "source", located(self.source, "from"))
        if self.source == self.store:
            raise InvalidArgument(
                f"store: {self.store} is the store that all machines share; name a folder of this machine alone",
                field="store",
            )
        try:
            check_name(self.node)
        except InvalidArgument as error:
            raise InvalidArgument(f"node: {str(error).removeprefix('name: ')}", field="node") from None
        within("interval", self.interval, 0.1, 60, unit="s")
        given = {name: bool(getattr(self, name)) for name in ("rest", "management", "key_file")}
        if len(set(given.values())) > 1:
            missing = ", ".join(f"serving_{name}" for name, there in given.items() if not there)
            raise InvalidArgument(f"{missing}: give URLs and key file of TorchServe, or none of them", field=missing)

    @property
    def serving(self) -> Mapping[str, str]:
        """Where TorchServe is, as `ouzel.torchserve.server.Server.found` takes it."""
        if self.key_file is None:
            return {"state": str(self.state)}
        key_file = str(self.key_file.expanduser().absolute())
        return {"rest": self.rest, "management": self.management, "key_file": key_file}
