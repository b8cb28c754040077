"""Services and commands under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ouzel import serving
from ouzel.serving import Ports, RunningServing, ServingOptions, processes
from support.services import Ouzel, write_archive


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A model store with one model, `toy`."""
    write_archive(tmp_path / "store" / "toy.mar")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServing, ServingOptions]]:
    """Services that the tests of a module share: of the store's models `toy` and `other`, only `toy` is served."""
    folder = tmp_path_factory.mktemp("shared")
    for name in ("toy", "other"):
        write_archive(folder / "store" / f"{name}.mar")
    options = ServingOptions(
        store=folder / "store", models=("toy",), state=folder / "state", ports=Ports.free(), threads=3
    )
    with serving.start(options) as running:
        yield running, options


@pytest.fixture
def ouzel(tmp_path: Path) -> Iterator[Ouzel]:
    command = Ouzel(tmp_path / "state")
    yield command
    processes.stop(command.state, grace=0)  # a test that failed leaves nothing either
