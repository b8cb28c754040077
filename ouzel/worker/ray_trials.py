"""The workers of a job's search on a Ray cluster: one beside the job's process, the others as actors on the nodes.

The one beside it uses what Ray has reserved for the job, whose own process computes no trial. Actors connect to the
job's process, and prove that they know a key that Ray has brought them; what follows is not encrypted, as all that is
sent within the cluster.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import TYPE_CHECKING, Any

from ouzel.finetune.distributed.group import SECONDS
from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.search.processes import LocalWorkers
from ouzel.worker.ray_actors import NodeActors

if TYPE_CHECKING:
    from ouzel.finetune.search.processes import Joined

_WAKE = 1.0  # s
_PAUSE = 0.1  # s


class NodeWorkers:
    """See `Workers`.

    Args:
        count: How many.
        joined: Is given each.
        resources: Of each: cpus, gpus, memory in bytes, threads.
    """

    def __init__(self, count: int, joined: Joined, resources: dict[str, float]) -> None:
        self._others, self._there, self._closed, self._lock = count - 1, 0, False, threading.Lock()
        self._joined, self._until = joined, time.monotonic() + SECONDS
        self._local = LocalWorkers(1, joined)
        self._nodes: NodeActors | None = None
        self._listener: Listener | None = None
        self._serving: dict[Any, int] = {}
        if not self._others:
            return
        key = secrets.token_bytes(32)
        try:
            self._nodes = NodeActors(_TrialActor, [()] * self._others, resources)
            listener = self._listener = Listener((self._nodes.address, 0), backlog=count)
            self._accepting = threading.Thread(target=self._accept, args=(listener, key), name="trials", daemon=True)
            self._accepting.start()
            for number, each in enumerate(self._nodes.actors, 2):
                self._serving[each.serve.remote(listener.address, key)] = number
        except BaseException:
            self.close()
            raise

    def lost(self) -> Exception | None:
        """Why one has ended, or has not begun."""
        if self._nodes is not None and self._serving:
            done, _ = self._nodes.ray.wait(list(self._serving), timeout=0)
            for ref in done:
                who = f"worker {self._serving[ref]} of the search"
                return self._nodes.error(ref, who) or RankLost(f"workers: {who} has ended")
            if self._there < self._others and time.monotonic() > self._until:
                return RankLost(
                    f"workers: the cluster had no room for {self._others - self._there} of {self._others} further "
                    f"workers within {SECONDS:g} s"
                )
        return self._local.lost()

    def close(self) -> None:
        """Ends all of them, and leaves the cluster."""
        with self._lock:
            self._closed = True
        if self._listener is not None:
            with suppress(OSError), socket.create_connection(self._listener.address, _WAKE):
                pass  # an accept that waits does not hear of a close
            self._accepting.join(_WAKE)
            self._listener.close()
        if self._nodes is not None:
            self._nodes.close()
        self._local.close()

    def _accept(self, listener: Listener, key: bytes) -> None:
        while not self._closed:
            try:
                connection = listener.accept()
            except OSError:  # who has called is gone; or there are too many files
                time.sleep(_PAUSE)
                continue
            # In a thread of its own: a stranger who says nothing must keep no worker out.
            threading.Thread(target=self._admit, args=(connection, key), name="trial", daemon=True).start()

    def _admit(self, connection: Connection, key: bytes) -> None:
        try:
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
        except (AuthenticationError, EOFError, OSError):  # of somebody else, or who is gone
            connection.close()
            return
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._there += 1
            self._joined(self._there, connection)


class _TrialActor:
    """A worker of a search, in a process that Ray has started."""

    def serve(self, address: tuple[str, int], key: bytes) -> None:
        from ouzel.finetune.search.worker import Worker

        Worker(Client(address, authkey=key)).serve()
