"""Networks and the models that they answer for, in the order of their use, within a bound in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import dataclass

from ouzel.explain.pool.network import Network, head_bytes
from ouzel.explain.pool.statistics import PoolStatistics
from ouzel.explain.served import Served


@dataclass(frozen=True)
class _Held:
    """A model in memory, and the key of its network."""

    served: Served
    network: Hashable
    bytes: int


class Cache:
    """What is in memory. Threads share it.

    What makes room is forgotten here. Whoever works with it goes on; its memory is free when they have finished.

    Args:
        most_bytes: That all may take. One network with one model is kept in any case.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._networks: dict[Hashable, Network] = {}
        self._models: dict[Hashable, _Held] = {}
        self._used: OrderedDict[tuple[bool, Hashable], None] = OrderedDict()  # (whether it is a network, key)
        self._hits = self._misses = self._evictions = 0
        self._seconds = 0.0
        self._lock = threading.Lock()

    def find(self, key: Hashable, *, missed: bool = True) -> Served | None:
        """A model in memory, which is now the one used last. missed: whether it counts as a miss if it is not there."""
        with self._lock:
            held = self._models.get(key)
            if held is None:
                self._misses += missed
                return None
            self._hits += 1
            self._touch(key, held.network)
            return held.served

    def network(self, key: Hashable) -> Network | None:
        """A network in memory."""
        with self._lock:
            return self._networks.get(key)

    def keep_network(self, key: Hashable, network: Network) -> Network:
        """Take in a network whose first model is about to follow; gives the one that counts."""
        with self._lock:
            kept = self._networks.setdefault(key, network)
            self._used[True, key] = None
            self._used.move_to_end((True, key))
            self._make_room({(True, key)})
            return kept

    def forget(self, key: Hashable) -> None:
        """Let a model go whose archive is another one now. Its network stays."""
        with self._lock:
            if (False, key) in self._used:
                self._evict(False, key)
                self._evictions -= 1  # it has made room for nobody

    def keep(self, key: Hashable, served: Served, network_key: Hashable, network: Network, seconds: float) -> bool:
        """Take in a model with its network, which others may have too; what was used the longest ago makes room.

        Args:
            key: Of the model.
            served: The model.
            network_key: Of its network.
            network: Its network.
            seconds: That it took to load.

        Returns:
            False if another copy of its network has come meanwhile: the model should be made with that one.
        """
        with self._lock:
            if self._networks.setdefault(network_key, network) is not network:
                return False
            self._models[key] = _Held(served, network_key, head_bytes(served))
            self._seconds += seconds
            self._touch(key, network_key)
            self._make_room({(False, key), (True, network_key)})
            return True

    def statistics(self) -> PoolStatistics:
        """As it is now."""
        with self._lock:
            return PoolStatistics(
                networks=len(self._networks),
                heads=len(self._models),
                bytes=self._bytes(),
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                load_seconds=self._seconds,
            )

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._networks.clear()
            self._models.clear()
            self._used.clear()

    def _touch(self, key: Hashable, network: Hashable) -> None:
        for unit in ((False, key), (True, network)):  # the network last: it outlives its models
            self._used[unit] = None
            self._used.move_to_end(unit)

    def _make_room(self, spared: Collection[tuple[bool, Hashable]]) -> None:
        while self._bytes() > self._most and (oldest := next(iter(self._used))) not in spared:
            self._evict(*oldest)

    def _evict(self, is_network: bool, key: Hashable) -> None:
        del self._used[is_network, key]
        self._evictions += 1
        if not is_network:
            held = self._models.pop(key)
            if held.served.head is None:  # its network is nobody else's
                del self._networks[held.network], self._used[True, held.network]
            return
        del self._networks[key]
        for model, held in list(self._models.items()):
            if held.network == key:
                del self._models[model], self._used[False, model]
                self._evictions += 1

    def _bytes(self) -> int:
        networks = sum(network.bytes for network in self._networks.values())
        return networks + sum(held.bytes for held in self._models.values())
