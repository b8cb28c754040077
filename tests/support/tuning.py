"""Where jobs that tune are run: a model store, data sets, and a runner with the real kinds; no model server."""

from __future__ import annotations

from pathlib import Path

from ouzel.forking.client import ForkServer
from ouzel.ledger import VerifierKey
from ouzel.models.store import ModelStore
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.isolated import Isolated
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.runner.runner import Runner
from ouzel.worker.runner.supervisor import Slot
from ouzel.worker.store.job import Job, State
from ouzel.worker.store.open import open_store
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import stored, two_colours
from support.jobs import QUICK, ended, environment, submit


class Place:
    """A model store with one model, "base"; data sets of "me"; a runner."""

    def __init__(self, folder: Path, base: Path, forks: ForkServer, checkpoint: float = 0.0, slots: int = 1) -> None:
        self.folder = folder
        url = f"sqlite://{folder / 'jobs.db'}"
        (folder / "store").mkdir()
        (folder / "store" / "base.mar").write_bytes(base.read_bytes())
        self.models = ModelStore(folder / "store")
        isolated = Isolated(forks)
        self.datasets = Datasets(folder / "datasets", isolated=isolated)
        self.catalogue = Catalogue(
            folder / "store", folder / "known", uploads=self.datasets, owner="me", isolated=isolated
        )
        self.store = open_store(url, retries=Retries(lost=50))
        self.artifacts = FolderArtifacts(folder / "artifacts")
        told = environment(
            url,
            folder,
            models=folder / "store",
            checkpoint_seconds=checkpoint,
            retries=self.store.retries,
            ledger=str(folder / "ledger"),
        )
        places = [Slot(f"cpu{number}", {"OMP_NUM_THREADS": "1"}) for number in range(slots)]
        self.runner = Runner(self.store, LocalExecutor(folder / "logs", forks), places, told, options=QUICK)
        self.runner.start()

    def close(self) -> None:
        self.runner.stop()
        self.store.close()

    def upload(self, files: dict[str, bytes] | None = None) -> str:
        return stored(self.datasets, "me", files or two_colours()).id

    def run(self, spec: pb.JobSpec) -> Job:
        done = ended(self.store, submit(self.store, spec), 120)
        assert done.state is State.SUCCEEDED, done.error
        return done

    def ledger_key(self) -> VerifierKey:
        return VerifierKey.parse((self.folder / "ledger" / "tiles" / "vkey").read_text().strip())

    def file(self, job: Job, name: str) -> bytes:
        return self.artifacts.get(self.store.artifact("me", job.id, name).sha256)


def value(given: float | bool) -> explain_pb2.Parameter:
    if isinstance(given, bool):
        return explain_pb2.Parameter(flag=given)
    return explain_pb2.Parameter(integer=given) if isinstance(given, int) else explain_pb2.Parameter(number=given)
