"""The same over a cluster: Ray with three nodes, PostgreSQL, a bucket, two workers, one behind a network that is cut.

Ray's head, its nodes, PostgreSQL and the object store are killed (SIGKILL) like workers and jobs, at random.

    python tests/support/chaos_cluster.py [--kills 300] [--seed 0]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ouzel.worker.artifacts.opening import open_artifacts
from support.chaos import Ground, arguments, rampages
from support.jobs import Worker, worker
from support.postgres import StoppableServer, stoppable_server
from support.ray_cluster import Cluster, cluster, new_token, variables
from support.relay import Relay
from support.seaweed import Seaweed, seaweed

_NODES = 3


class RayGround:
    """Implements `chaos.Ground`."""

    waiting = 12
    orphans = 60.0  # an orphan reads in the store that its lease is gone, twice a second, once it can read it

    def __init__(self, running: Cluster, database: StoppableServer, objects: Seaweed, folder: Path) -> None:
        self.url = database.url
        self._cluster, self._database, self._objects, self._folder = running, database, objects, folder
        self._bucket = f"s3://{objects.make('jobs')}"
        self.artifacts = open_artifacts(f"{self._bucket}/artifacts", folder / "cache")
        self._relay = Relay(folder / database.socket.name, database.socket)
        self.kills = {
            "node": self._node,
            "raylet": self._raylet,
            "head": self._head,
            "PostgreSQL": self._postgres,
            "object store": self._object_store,
        }
        self.stops = {"network hung up": self._hung_up, "network silent": self._silent}

    def worker(self, number: int) -> AbstractContextManager[Worker]:
        state = self._folder / f"state{number}"
        options = [
            "--executor", "ray", "--ray-address", self._cluster.address, "--ray-python", sys.executable,
            "--ray-resources", "*:cpus=1,memory=50MiB", "--slots", "2", "--lost", "1000", "--store",
            str(self._folder / "models"), "--uploads", f"{self._bucket}/datasets", "--ledger",
            str(self._folder / "log"),
        ]  # fmt: skip
        url = self.url.replace(str(self._database.data), str(self._folder)) if number else self.url
        return worker(url, state, *options, artifacts=f"{self._bucket}/artifacts")

    def close(self) -> None:
        self._relay.close()

    def _node(self, chance: random.Random) -> None:
        chance.choice(self._cluster.nodes).kill()
        time.sleep(chance.uniform(0, 3))
        self._cluster.mend()

    def _raylet(self, chance: random.Random) -> None:
        chance.choice(self._cluster.nodes).find("raylet/raylet").kill()
        time.sleep(chance.uniform(2, 5))
        self._cluster.mend()

    def _head(self, chance: random.Random) -> None:
        self._cluster.head.kill()
        time.sleep(chance.uniform(0, 8))
        self._cluster.mend()

    def _postgres(self, chance: random.Random) -> None:
        self._database.kill()
        time.sleep(chance.uniform(0, 3))
        self._database.start()

    def _object_store(self, chance: random.Random) -> None:
        self._objects.kill()
        time.sleep(chance.uniform(0, 3))
        self._objects.start()

    def _hung_up(self, chance: random.Random) -> None:
        self._relay.hang_up()
        time.sleep(chance.uniform(0, 5))
        self._relay.mend()

    def _silent(self, chance: random.Random) -> None:
        self._relay.swallow()
        time.sleep(chance.uniform(0, 10))
        self._relay.mend()


@contextmanager
def ray_ground() -> Iterator[Ground]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        objects = stack.enter_context(seaweed())
        token = new_token(folder)
        os.environ.update(objects.variables | variables(token))  # of this process and the workers
        database = stack.enter_context(stoppable_server())
        running = stack.enter_context(cluster(token, nodes=_NODES))
        ground = RayGround(running, database, objects, folder)
        stack.callback(ground.close)
        yield ground


def main() -> int:
    chosen = arguments(__doc__ or "", 300).parse_args()
    return rampages({"Ray, PostgreSQL, S3": ray_ground()}, chosen.kills, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
