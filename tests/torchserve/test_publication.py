"""Tuned models come into the real TorchServe while it runs, and the default changes under load."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ouzel import models, serving
from ouzel.cli.models import models as commands
from ouzel.cli.services import status
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.models.card import Card
from ouzel.models.store import ModelStore
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.torchserve import publication, rest
from ouzel.torchserve.publication import PublicationFailed, Server, Settings
from support.tuned import ARCH, LABELS, publish

pytestmark = pytest.mark.e2e


class Site:
    """A model store with one version of the model `tuned`, and a TorchServe that serves it."""

    def __init__(self, folder: Path) -> None:
        self.store = ModelStore(folder / "store")
        publish(self.store, "first", seed=1)
        self.options = ServingOptions(
            store=self.store.folder, state=folder / "state", ports=Ports.free(), threads=1, batch_size=4
        )

    @property
    def server(self) -> Server:
        server = Server.local(self.options.state)
        assert server is not None
        return server

    def answers(self, running: RunningServing, model: str = "tuned") -> str:
        """The digest of the weights that answer a real request."""
        options = {"saliency": ["gradient"]}
        code, body = rest.explain(running.rest, running.inference_token, model, options, 60)
        assert code == 200, body
        return str(json.loads(body)["model"]["weights_digest"])

    def digests(self) -> dict[str, str]:
        return {entry.version: entry.digest for entry in self.store.versions("tuned")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[RunningServing]:
    with serving.start(site.options) as services:
        yield services


def served(site: Site) -> list[str]:
    return sorted(version for _, version in publication.served(site.server))


@pytest.fixture
def second(site: Site, running: RunningServing) -> str:
    """Another version that is served, not the default."""
    version = publish(site.store, "second", seed=2)
    publication.publish_model(site.server, site.store, "tuned", version, base="tuned")
    publication.promote_served(site.server, site.store, "tuned", "1")
    return version


def test_versions_answer_by_number(site: Site, running: RunningServing, second: str) -> None:
    assert served(site) == ["1", "2"]
    digests = site.digests()
    assert digests["1"] != digests["2"]
    for version, digest in digests.items():
        assert site.answers(running, f"tuned/{version}") == digest
    assert site.answers(running) == digests["1"]
    assert publication.settings_of(site.server, "tuned", second) == Settings(1, 4, 1, 120, 120)
    assert publication.workers_of(site.server, "tuned") == 1
    assert rest.call("POST", f"{running.rest}/predictions/tuned/9", running.inference_token, body=b"x")[0] == 404
    services = serving.status(site.options.state)
    assert services is not None
    assert [(model.version, model.is_default) for model in services.models] == [("1", True), ("2", False)]


def test_everything_may_be_repeated(site: Site, running: RunningServing, second: str) -> None:
    pids = running.worker_pids()
    for _ in range(2):
        publication.publish_model(site.server, site.store, "tuned", second, base="tuned")
        assert not publication.register(site.server, "tuned", second, "tuned@2.mar")
    assert running.worker_pids() == pids
    more = replace(Settings(), workers=2)
    assert not publication.register(site.server, "tuned", second, "tuned@2.mar", more)
    assert publication.workers_of(site.server, "tuned", second) == 2
    publication.unregister(site.server, "tuned", second)
    publication.unregister(site.server, "tuned", second)
    publication.unregister(site.server, "none", "1")
    assert served(site) == ["1"]


def test_versions_beyond_those_that_stay_are_unloaded(site: Site, running: RunningServing, second: str) -> None:
    def command(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(commands, list(words), env={"OUZEL_STATE": str(site.options.state)})
        assert result.exit_code == code, result.output
        return result.output

    third = publish(site.store, "third", seed=6)
    try:
        publication.publish_model(site.server, site.store, "tuned", third, base="tuned")
        assert served(site) == ["1", third]  # two of each model, unless told otherwise: the default and the newest
        assert command("load", "tuned@2") == "tuned 2 is loaded.\n"
        assert command("load", "tuned@2") == "tuned 2 was loaded already.\n"
        assert site.answers(running, "tuned/2") == site.digests()["2"]
        assert publication.settings_of(site.server, "tuned", "2") == Settings(1, 4, 1, 120, 120)
        assert "tuned 1 is the default; promote another version first" in command("unload", "tuned@1", code=1)
        assert command("unload", f"tuned@{third}") == f"Unloaded tuned {third}.\n"
        assert f"tuned {third} is not loaded; loaded are 1, 2" in command("unload", f"tuned@{third}", code=1)
        assert "no version '9'" in command("load", "tuned@9", code=1)
        # A default that is not loaded is loaded first; the one before stays for those who still ask it.
        publication.promote_served(site.server, site.store, "tuned", third)
        assert site.answers(running) == site.digests()[third]
        assert served(site) == ["1", "2", third]
        publication.promote_served(site.server, site.store, "tuned", "1")
        assert served(site) == ["1", third]
    finally:
        publication.promote_served(site.server, site.store, "tuned", "1")
        publication.unregister(site.server, "tuned", third)
        site.store.withdraw("tuned", third)


def test_promotion_under_load(site: Site, running: RunningServing, second: str) -> None:
    wrong: list[str] = []
    seen: set[str] = set()
    enough, over = threading.Semaphore(0), threading.Event()

    def ask() -> None:
        while not over.is_set():
            code, body = rest.explain(running.rest, running.inference_token, "tuned", {"saliency": ["gradient"]}, 60)
            if code == 200:
                seen.add(json.loads(body)["model"]["weights_digest"])
            else:
                wrong.append(f"{code}: {body!r:.200}")
            enough.release()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            for version in (second, "1"):
                publication.promote_served(site.server, site.store, "tuned", version)
                assert site.store.default("tuned") == publication.default_of(site.server, "tuned") == version
                for _ in range(8):
                    assert enough.acquire(timeout=60)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert seen == set(site.digests().values())


def test_what_does_not_load_is_rolled_back(site: Site, running: RunningServing, second: str) -> None:
    version = publish(site.store, "broken", seed=3)
    path = site.store.find(f"tuned@{version}")
    whole = path.read_bytes()
    try:
        with zipfile.ZipFile(path) as held:
            members = {each: held.read(each) for each in held.namelist()}
        place = whole.index(members["weights.safetensors"]) + 4000
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InvalidArgument, match=r"checksum of 'weights\.safetensors' is wrong"):
            publication.publish_model(site.server, site.store, "tuned", version, base="tuned")
        members["weights.safetensors"] = members["weights.safetensors"][:-4] + bytes(4)
        with zipfile.ZipFile(path, "w") as changed:
            for each, content in members.items():
                changed.writestr(each, content)
        for promote in (False, True):
            with pytest.raises(PublicationFailed, match=f"tuned {version} does not load: .*digest differs") as caught:
                publication.publish_model(site.server, site.store, "tuned", version, base="tuned", promote=promote)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(PublicationFailed, match=r"cannot be served: .* not a zip"):
            publication.publish_model(site.server, site.store, "tuned", version, base="tuned")
        with pytest.raises(NotFound, match="no version '9'"):
            publication.publish_model(site.server, site.store, "tuned", "9", base="tuned")
    finally:
        site.store.withdraw("tuned", version)
    assert served(site) == ["1", "2"]
    assert site.answers(running) == site.digests()["1"]


def test_an_archive_that_was_replaced_is_served_anew(site: Site, running: RunningServing, second: str) -> None:
    version = publish(site.store, "old", seed=4)
    publication.publish_model(site.server, site.store, "tuned", version, base="tuned")
    old = site.answers(running, f"tuned/{version}")
    site.store.withdraw("tuned", version)
    assert publish(site.store, "new", seed=5) == version
    try:
        publication.publish_model(site.server, site.store, "tuned", version, base="tuned")
        assert site.answers(running, f"tuned/{version}") == site.digests()[version] != old
    finally:
        publication.unregister(site.server, "tuned", version)
        site.store.withdraw("tuned", version)


def test_a_version_that_answers_nonsense_is_rolled_back(site: Site, running: RunningServing) -> None:
    """Weights that are finite and so large that their results are not."""

    def make(version: str) -> tuple[Card, dict[str, torch.Tensor]]:
        state = models.build(ARCH, num_classes=len(LABELS)).state_dict()
        state = {name: value * 0 + 3e38 if value.is_floating_point() else value for name, value in state.items()}
        card = Card("huge", version, ARCH, LABELS, models.default_preprocessing(ARCH), lineage={"owner": "ann"})
        return card, state

    site.store.publish("huge", make, "huge")
    try:
        with pytest.raises(PublicationFailed, match=r"huge 1 (fails on a trial picture|does not load): .+"):
            publication.publish_model(site.server, site.store, "huge", "1", base="tuned", promote=True)
    finally:
        site.store.remove("huge@1")
    assert publication.versions(site.server, "huge") == []


def test_a_default_that_cannot_be_stored_is_not_served(
    site: Site, running: RunningServing, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FailedPrecondition("the model store cannot be written: no space")

    monkeypatch.setattr(ModelStore, "promote", fail)
    with pytest.raises(FailedPrecondition, match="no space"):
        publication.promote_served(site.server, site.store, "tuned", second)
    assert publication.default_of(site.server, "tuned") == site.store.default("tuned") == "1"


def test_the_command_that_promotes(site: Site, running: RunningServing, second: str) -> None:
    places = {"OUZEL_MODEL_STORE": str(site.store.folder), "OUZEL_STATE": str(site.options.state), "COLUMNS": "120"}

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(commands, list(words), env=places)
        assert result.exit_code == code, result.output
        return result.output

    assert "tuned: version 2 is the default" in run("promote", "tuned", "--version", second)
    assert site.answers(running) == site.digests()[second]
    rows = [line.split()[:3] for line in run("list").splitlines()[1:]]
    assert rows == [["tuned", "1", ARCH], ["tuned", "2", "yes"]]
    shown = CliRunner().invoke(status, ["--state", str(site.options.state)]).output
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith("tuned")] == [
        ["tuned", "1", "up"],
        ["tuned", "2", "up"],
    ]
    assert "the default" in shown.splitlines()[-1]
    assert "no version '9'" in run("promote", "tuned", "--version", "9", code=1)
    run("promote", "tuned", "--version", "1")
    assert site.answers(running) == site.digests()["1"]


def test_another_start_keeps_the_default(site: Site, running: RunningServing, tmp_path: Path) -> None:
    """Of what is promoted while it is served; a TorchServe of its own, whose folder has seen nothing before."""
    versions = [publish(site.store, f"kept {seed}", seed=seed, name="kept") for seed in (1, 2)]
    digests = {entry.version: entry.digest for entry in site.store.versions("kept")}
    for version in versions:
        publication.publish_model(site.server, site.store, "kept", version, base="tuned")
    publication.promote_served(site.server, site.store, "kept", "2")
    assert site.answers(running, "kept") == digests["2"]
    options = replace(site.options, models=("kept",), state=tmp_path / "state", ports=Ports.free())
    assert Server.local(options.state) is None
    with serving.start(options) as other:
        assert other.versions == (("kept", "2"), ("kept", "1"))
        assert site.answers(other, "kept") == digests["2"]
        for version, digest in digests.items():
            assert site.answers(other, f"kept/{version}") == digest
    assert Server.local(options.state) is None


def test_nobody_there(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"management": {"key": "x"}, "inference": {"key": "x"}}')
    port = Ports.free().management
    server = Server(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}", key)
    with pytest.raises(PublicationFailed, match="does not answer"):
        publication.workers_of(server, "tuned")
    assert Server.found(None) is None
    assert Server.found({"state": str(tmp_path)}) is None
    place = {"rest": server.rest, "management": server.management, "key_file": str(key)}
    assert Server.found(place) == server
