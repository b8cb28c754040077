"""One machine that serves: what its TorchServe has to serve of a model, and what became of each try."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ouzel.agent.fetched import Fetched
from ouzel.buckets import StorageAway
from ouzel.errors import OuzelError
from ouzel.registry.record import ModelRecord, StoredVersion
from ouzel.registry.reports import Serves, VersionReport
from ouzel.torchserve import management, pool, publication, retention
from ouzel.torchserve.errors import ServerUnreachable
from ouzel.torchserve.server import Server

_log = logging.getLogger(__name__)
_LEAST_LOADED = 2  # the default, and a version that may become it: else no new one could be tried
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 900.0  # s before what failed is tried again


@dataclass(frozen=True)
class Try:
    """What became of the last try of an archive.

    Attributes:
        sha256: Of the archive.
        error: Why it failed; "" if it is served.
        again: When it may be tried again, by the monotonic clock.
        pause: How long that is after the try, in seconds.
    """

    sha256: str
    error: str = ""
    again: float = 0.0
    pause: float = 0.0


class Node:
    """See the module.

    Args:
        fetched: The folder that TorchServe serves.

    Attributes:
        problems: What keeps a model from being as its record says, by name.
    """

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched
        self._tries: dict[tuple[str, str], Try] = {}
        self._spare: dict[str, tuple[str, str]] = {}  # the default before, until the record changes again
        self.problems: dict[str, str] = {}

    def forget_served(self) -> None:
        """To be called when another TorchServe runs than before: what it serves is to be seen."""
        self._tries = {key: each for key, each in self._tries.items() if each.error}

    def check_served(self, served: frozenset[tuple[str, str]]) -> set[str]:
        """Forgets what is not served any more. served: what TorchServe says. Returns the models that are concerned."""
        if pool.is_among(served):
            return set()
        gone = {key for key, each in self._tries.items() if not each.error and key not in served}
        for key in gone:
            del self._tries[key]
        return {name for name, _ in gone}

    def settled(self, name: str) -> bool:
        """Whether nothing of a model is to be done until its record changes."""
        now = time.monotonic()
        return not any(each.error and now >= each.again for (of, _), each in self._tries.items() if of == name)

    def follow(self, server: Server | None, record: ModelRecord, *, clear: bool = False) -> None:
        """Makes a model what its record says, as far as it can be done here.

        The default comes first, and stays the one from before while the new one cannot be served here. Without
        TorchServe, archives are put where it will look when it starts, and none is removed: it may be starting now.

        Args:
            server: TorchServe; None while it does not run.
            record: Of the model; one without versions if it is gone.
            clear: Whether archives may be removed although TorchServe does not run: it is not being started.

        Raises:
            ServerUnreachable: TorchServe has gone.
            StorageAway: The store does not answer.
        """
        name = record.name
        self.problems.pop(name, None)
        try:
            self._follow(server, record, clear=clear)
        except (ServerUnreachable, StorageAway):
            raise
        except OuzelError as error:
            self.problems[name] = str(error)
            _log.error("%s: %s", name, error)

    def versions(self, record: ModelRecord, *, serving: bool) -> Mapping[str, VersionReport]:
        """What is to be told of the versions of a model."""
        told = {}
        for each in record.versions:
            tried = self._tries.get((record.name, each.version))
            if tried is not None and tried.sha256 == each.sha256:
                if tried.error:
                    told[each.version] = VersionReport(Serves.FAILED, each.sha256, tried.error)
                    continue
                if serving:
                    told[each.version] = VersionReport(Serves.SERVED, each.sha256)
                    continue
            if self._fetched.sha256(record.name, each) == each.sha256:
                told[each.version] = VersionReport(Serves.STORED, each.sha256)
        return told

    def default(self, name: str) -> str:
        """The version that callers get here who name none; "" if there is none."""
        return self._fetched.default(name)

    def _follow(self, server: Server | None, record: ModelRecord, *, clear: bool) -> None:
        name = record.name
        before = self._fetched.default(name)
        kept: set[str] = set()
        if record.versions:
            pooled = server is not None and pool.answers_for(server, name)
            default = self._default(server, record, before, pooled=pooled)
            if record.default and not default:
                self.problems[name] = f"{name} {record.default}, the default, cannot be served here, and no other is"
            else:
                kept = {each for each in self._others(server, record, pooled=pooled) if self._try(server, record, each)}
                kept |= {default} - {""}
                if default != record.default:
                    self.problems[name] = f"{name} {record.default}, the default, cannot be served: {default} still is"
        if server is not None or clear:
            self._drop(server, record, kept)

    def _default(self, server: Server | None, record: ModelRecord, before: str, *, pooled: bool) -> str:
        """Makes the default that of the record, if that can be served; returns what the default now is."""
        name, chosen = record.name, record.default
        if not chosen:
            return ""
        if self._try(server, record, chosen):
            if server is not None and not pooled and management.default_of(server, name) != chosen:
                management.set_default(server, name, chosen)
            if before != chosen:
                self._fetched.files.promote(name, chosen)
                self._spare[name] = record.tag, before
                _log.info("%s: version %s is the default", name, chosen)
            return chosen
        return before if record.find(before) and self._try(server, record, before) else ""

    def _others(self, server: Server | None, record: ModelRecord, *, pooled: bool) -> list[str]:
        """The versions beside the default that are to be served."""
        names = [each.version for each in record.versions if each.version != record.default]
        if server is None:  # what was tried here stays
            return [each for each in names if self._here(record, each)]
        if pooled:
            return names
        most = max(retention.most_of(server) or _LEAST_LOADED, _LEAST_LOADED)
        newest = names[-(most - 1) :] if record.default else []
        tag, spare = self._spare.get(record.name, ("", ""))
        return [each for each in names if each in {*newest, *record.wanted} or (each == spare and tag == record.tag)]

    def _here(self, record: ModelRecord, version: str) -> bool:
        found = record.find(version)
        return found is not None and self._fetched.have(record.name, found)

    def _try(self, server: Server | None, record: ModelRecord, version: str) -> bool:
        """Whether a version is served, after a try if it is not known; without TorchServe, whether it is here."""
        stored = record.find(version)
        if stored is None:
            return False
        key, now = (record.name, version), time.monotonic()
        known = self._tries.get(key)
        if known is not None and known.sha256 != stored.sha256:
            known = None
        if known is not None and known.error and now < known.again:
            return False
        try:
            if not self._fetched.have(record.name, stored):
                self._replace(server, record.name, stored)
            elif known is not None and not known.error:
                return True
            if server is None:
                return True
            publication.serve_version(server, self._fetched.files, self._fetched.file(record.name, version))
        except (ServerUnreachable, StorageAway):
            raise
        except OuzelError as error:
            pause = min(2 * known.pause, _LONGEST_PAUSE) if known is not None and known.error else _FIRST_PAUSE
            self._tries[key] = Try(stored.sha256, str(error), now + pause, pause)
            _log.error("%s %s cannot be served: %s", record.name, version, error)
            self._discard(record.name, stored)
            return False
        self._tries[key] = Try(stored.sha256)
        _log.info("%s %s is served", record.name, version)
        return True

    def _replace(self, server: Server | None, name: str, stored: StoredVersion) -> None:
        """Fetches an archive; another one that was served under its version goes first."""
        if server is not None and self._fetched.sha256(name, stored):
            management.forget(server, name, stored.version)
        self._fetched.fetch(name, stored)

    def _discard(self, name: str, stored: StoredVersion) -> None:
        """TorchServe would not start with an archive that it cannot load. The default from before stays."""
        if self._fetched.default(name) != stored.version:
            for file in self._fetched.files.of(name):
                if file.version == stored.version:
                    self._fetched.drop(file)

    def _drop(self, server: Server | None, record: ModelRecord, kept: set[str]) -> None:
        """Has TorchServe unload the versions that are not kept, the default last, and removes their archives."""
        name = record.name
        if server is not None:
            loaded = {str(each["modelVersion"]) for each in management.versions(server, name)}
            default = management.default_of(server, name) if loaded else ""
            for version in sorted(loaded - kept, key=lambda each: (each == default, each)):
                management.unregister(server, name, version)
                if not self._failed(name, version):
                    self._tries.pop((name, version), None)
                _log.info("%s %s is not served any more", name, version)
        for file in self._fetched.files.of(name):
            if file.version not in kept:
                self._fetched.drop(file)
        for key in [key for key in self._tries if key[0] == name and record.find(key[1]) is None]:
            del self._tries[key]

    def _failed(self, name: str, version: str) -> bool:
        found = self._tries.get((name, version))
        return found is not None and bool(found.error)
