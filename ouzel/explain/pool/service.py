"""Answers for all models of a store: finds them in memory or loads them, and computes those of one network together."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ouzel import models
from ouzel.errors import DataLoss, FailedPrecondition, NotFound, OuzelError, Unavailable
from ouzel.explain import recording
from ouzel.explain.answering import Answering
from ouzel.explain.faults import internal
from ouzel.explain.limits import Limits
from ouzel.explain.pool.cache import Cache
from ouzel.explain.pool.network import Network
from ouzel.explain.pool.once import Once
from ouzel.explain.pool.statistics import PoolStatistics
from ouzel.explain.reading import Row, refused
from ouzel.explain.requests import RawRequest, Reply
from ouzel.explain.served import Served
from ouzel.explain.service import precision_of, warm_up
from ouzel.model_file import ModelFile
from ouzel.models.split import Content, Split, split
from ouzel.precision_names import Precision
from ouzel_protos.v1 import explain_pb2 as pb

logger = logging.getLogger(__name__)
_SEEN = 10_000  # files whose content is remembered
_ATTEMPTS = 3  # at a file that is replaced while it is read


@dataclass(frozen=True)
class _Stamp:
    """Which file it is: another one, or one that was written to, has another stamp."""

    path: Path
    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        """Raises NotFound."""
        try:
            seen = path.stat()
        except OSError:
            raise NotFound(f"model: there is no archive {path.name} any more", field="model") from None
        return cls(path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


class PoolService:
    """Answers requests for many models. Threads may share it.

    Models whose archives have the same backbone, bit by bit, the same size of input and the same normalisation, and
    that differ in one last linear layer, share a network. Every other model has a network of its own.

    Args:
        device: Where the networks go, as torch names it.
        limits: Of requests.
        threads: How many images are decoded at a time; None is one per processor.
        record: Makes entries of a log; None keeps none.
        precision: What to compute in; None is that of $OUZEL_PRECISION, else that of each model.
        memory_bytes: That networks and heads may take; None is a quarter of the memory of the machine, or of the GPU.
        warm_rows: Sizes of the made-up batches that each network answers once it is loaded.
    """

    def __init__(
        self,
        *,
        device: str | torch.device = "cpu",
        limits: Limits | None = None,
        threads: int | None = None,
        record: recording.Record | None = None,
        precision: Precision | None = None,
        memory_bytes: int | None = None,
        warm_rows: Sequence[int] = (1,),
    ) -> None:
        self.limits = limits or Limits()
        self._device, self._precision, self._warm_rows = device, precision, tuple(warm_rows)
        self._answering = Answering(self.limits, threads, record)
        self._cache = Cache(memory_bytes or default_memory(device))
        self._contents: OrderedDict[_Stamp, Content] = OrderedDict()
        self._paths: dict[Path, _Stamp] = {}
        self._lock = threading.Lock()
        self._single: set[Hashable] = set()  # keys of networks that cannot be shared
        self._models: Once[Served | None] = Once()
        self._networks: Once[Network | None] = Once()

    def find(self, file: ModelFile) -> Served | None:
        """A model if it is in memory. Raises NotFound if its archive is gone."""
        return self._cache.find(_Stamp.of(file.path), missed=False)

    def load(self, file: ModelFile) -> Served:
        """A model, from memory or from its archive.

        Args:
            file: Its archive.

        Raises:
            NotFound: The archive is gone.
            DataLoss: It is damaged, or does not fit its architecture: no fault of who calls.
            Unavailable: It is being replaced.
        """
        for _ in range(_ATTEMPTS):
            stamp = _Stamp.of(file.path)
            served = self._cache.find(stamp)
            if served is not None:
                return served
            try:
                served = self._models.do(stamp, partial(self._loaded, stamp))
            except FailedPrecondition as error:  # whoever calls hears it, and no paths
                words = str(error).replace(str(file.path), f"the archive of {file.name!r} {file.version}")
                raise DataLoss(words, field="model") from error
            if served is not None:
                return served
        raise Unavailable(f"model: the archive of {file.name} {file.version} is being replaced; try again")

    def answer(self, asked: Sequence[tuple[ModelFile, RawRequest]]) -> list[Reply]:
        """Answer a batch.

        Args:
            asked: One or more requests, each of a model. Requests of models that share a network are computed together.

        Returns:
            One reply per request, in order. Neither a request nor an archive raises: each error is that row's answer.
        """
        began = time.monotonic()
        replies: dict[int, Reply] = {}
        found: dict[int, Served] = {}
        for number, (file, _) in enumerate(asked):
            try:
                found[number] = self.load(file)
            except OuzelError as error:
                replies[number] = _unloaded(file, error)
            except Exception as error:  # noqa: BLE001 - one archive is no reason to fail the others
                replies[number] = _unloaded(file, internal(error))
        together: dict[int, list[int]] = {}
        for number, served in found.items():
            together.setdefault(id(served.explainer), []).append(number)
        for numbers in together.values():
            rows = [(found[number], asked[number][1]) for number in numbers]
            replies |= zip(numbers, self._answering.answer(rows, began), strict=True)
        return [replies[number] for number in range(len(asked))]

    def begin(self, served: Served, request: RawRequest) -> Future[Row]:
        """Has a request read ahead, for a model that `load` gave; the model may have made room meanwhile."""
        return self._answering.begin(served, request)

    def answer_begun(self, reading: Sequence[Future[Row]]) -> list[Reply]:
        """Answers what `begin` gave, all of one explainer: one reply per request, in order."""
        return self._answering.answer_begun(reading)

    def statistics(self) -> PoolStatistics:
        """What is in memory, and what was done."""
        return self._cache.statistics()

    def close(self) -> None:
        """Forgets all models."""
        self._cache.clear()
        self._answering.close()

    def _loaded(self, stamp: _Stamp) -> Served | None:
        """Load a model; None if its archive was replaced meanwhile."""
        began = time.perf_counter()
        parts = split(stamp.path, self._contents.get(stamp))
        if _Stamp.of(stamp.path) != stamp:
            return None
        if parts is not None:
            self._remember(stamp, parts.content)
        found = None if parts is None else self._of_shared(stamp, parts)
        if found is None:
            model = models.load(stamp.path, device=self._device)
            precision = self._precision_of(model.precision)
            network = Network.single(model, self.limits, precision)
            found = network.alone(), stamp, network
        served, key, network = found
        if _Stamp.of(stamp.path) != stamp:
            return None
        for rows in self._warm_rows:
            warm_up(
                served.model,
                lambda batch: self._answering.answer([(served, each) for each in batch]),
                rows,
                network.warm,
            )
        seconds = time.perf_counter() - began
        if not self._cache.keep(stamp, served, key, network, seconds):
            return None
        self._replace(stamp)
        told = (served.model.name, served.model.version, served.model.digest, seconds, self._cache.statistics())
        logger.info("loaded %s version %s, weights %s, in %.2f s; %s", *told)
        return served

    def _replace(self, stamp: _Stamp) -> None:
        """What was at this path before is no longer asked for."""
        with self._lock:
            before = self._paths.get(stamp.path)
            self._paths[stamp.path] = stamp
        if before not in (None, stamp):
            self._cache.forget(before)

    def _remember(self, stamp: _Stamp, content: Content) -> None:
        with self._lock:
            self._contents[stamp] = content
            while len(self._contents) > _SEEN:
                self._contents.popitem(last=False)

    def _of_shared(self, stamp: _Stamp, parts: Split) -> tuple[Served, Hashable, Network] | None:
        """The model with a network that others may share, and its key; None if it needs its own."""
        card = parts.card
        way, precision = card.preprocessing, self._precision_of(card.precision)
        normalised = (way.channels, way.input_size, way.mean, way.std)
        key = (card.arch, parts.content.backbone, parts.layer, normalised, precision)
        if key in self._single:
            return None
        network = self._cache.network(key)
        if network is None:
            network = self._networks.do(key, lambda: self._network(key, stamp, parts, precision))
        if network is None:
            self._single.add(key)
            return None
        served = network.served(parts)
        return None if served is None else (served, key, network)

    def _network(self, key: Hashable, stamp: _Stamp, parts: Split, precision: Precision) -> Network | None:
        if (there := self._cache.network(key)) is not None:  # since a moment ago
            return there
        model = models.load(stamp.path, device=self._device)
        if model.digest != parts.content.digest:
            raise Unavailable(f"model: the archive of {model.name} {model.version} is being replaced; try again")
        network = Network.shared(model, parts.layer, self.limits, precision)
        return None if network is None else self._cache.keep_network(key, network)

    def _precision_of(self, own: Precision) -> Precision:
        return self._precision or precision_of(own)


def _unloaded(file: ModelFile, error: OuzelError) -> Reply:
    return refused(pb.Explanation(model=pb.ModelInfo(name=file.name, version=file.version)), error)


def default_memory(device: str | torch.device) -> int:
    """A quarter of the memory of the machine, or of the GPU: methods of many passes need some, too."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // 4
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
