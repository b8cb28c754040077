"""The job service of a Ray cluster: submit, look, stop, logs. The one module of the worker that imports Ray.

Ray's `JobSubmissionClient` waits without end for a head that is silent, so each request gets a limit here. And it talks
to any cluster, also to one that starts whatever anybody sends (CVE-2023-48022). Such a cluster is refused each time
that a connection is made: RAY_AUTH_MODE must be "token" here, and the cluster must turn away who has no token.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from ouzel.errors import FailedPrecondition, OuzelError, Unavailable
from ouzel.worker.processes.ray_options import Resources

MODE = "RAY_AUTH_MODE"
OLDEST = (2, 60)
_SECONDS = 5.0  # for each request
_REFUSALS = (401, 403)
_LOG_BYTES = 2**20


class _Answered(Exception):
    """The job service answers with an error."""

    def __init__(self, status: int, text: str) -> None:
        lines = [line for line in text.splitlines() if any(map(str.isalpha, line))]
        super().__init__(f"status {status}: {lines[-1] if lines else ''}"[:400])
        self.status = status


class _Client(JobSubmissionClient):
    """Ray's client, which waits a limited time, and tells one error from another."""

    def _do_request(self, *args: Any, **more: Any) -> requests.Response:
        return super()._do_request(*args, **({"timeout": _SECONDS, "allow_redirects": False} | more))

    def _raise_error(self, r: requests.Response) -> None:
        raise _Answered(r.status_code, r.text)

    def version(self) -> str:
        """Of Ray on the cluster."""
        return str(self._do_request("GET", "/api/version").json()["ray_version"])

    def tail(self, name: str) -> str:
        """The end of a job's log. Ray's own method keeps all of it, however long it is."""
        with self._do_request("GET", f"/api/jobs/{name}/logs", stream=True) as answer:
            if answer.status_code != requests.codes.ok:
                raise _Answered(answer.status_code, answer.text)
            content, whole = b"", True
            for chunk in answer.iter_content(chunk_size=2**16):
                whole = whole and len(content) + len(chunk) <= _LOG_BYTES
                content = (content + chunk)[-_LOG_BYTES:]
        if whole:
            return str(json.loads(content)["logs"])
        # A string of JSON without its beginning: from the first whole line on.
        rest = content.partition(b"\\n")[2].rstrip().removesuffix(b"}").rstrip()
        return str(json.loads(b'"' + rest))


class RayCluster:
    """A Ray cluster, connected when it is first needed, and again after an error.

    Args:
        address: Of its job service.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._client: _Client | None = None
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Makes sure that the cluster is there, and not open to everybody.

        Raises:
            FailedPrecondition: It is open, too old, or refuses our token.
            Unavailable: It does not answer.
        """
        self._ask(lambda client: None)

    def submit(self, name: str, entrypoint: str, variables: Mapping[str, str], resources: Resources) -> None:
        """Submits a job.

        Args:
            name: Never used before.
            entrypoint: A line for the shell of a node.
            variables: Of its environment.
            resources: That Ray reserves.

        Raises:
            FailedPrecondition: Ray refuses it, or as `connect`.
            Unavailable: Whether it was submitted is not known.
        """
        try:
            self._ask(
                lambda client: client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=name,
                    runtime_env={"env_vars": dict(variables)},
                    entrypoint_num_cpus=resources.cpus,
                    entrypoint_num_gpus=resources.gpus or None,
                    entrypoint_memory=resources.memory or None,
                )
            )
        except _Answered as error:
            kind = FailedPrecondition if error.status == requests.codes.bad_request else Unavailable
            raise kind(f"the Ray cluster at {self._address} refuses a job with {error}") from None

    def look(self, name: str) -> tuple[str, int | None, str]:
        """How a job stands.

        Args:
            name: Of the job.

        Returns:
            Ray's status, "" if it does not know the job; the exit status; the type of the error, "" if there is none.

        Raises:
            OuzelError: As `connect`.
        """
        try:
            details = self._ask(lambda client: client.get_job_info(name))
        except _Answered as error:
            if error.status == requests.codes.not_found:
                return "", None, ""
            raise Unavailable(f"the Ray cluster at {self._address} answers with {error}") from None
        kind = getattr(details.error_type, "value", details.error_type)
        return JobStatus(details.status).value, details.driver_exit_code, str(kind or "")

    def stop(self, name: str) -> None:
        """Ends a job, with all its children. One that has ended is left as it is. Raises OuzelError."""
        try:
            self._ask(lambda client: client.stop_job(name))
        except _Answered as error:
            if error.status != requests.codes.not_found:
                raise Unavailable(f"the Ray cluster at {self._address} answers with {error}") from None

    def log(self, name: str) -> str:
        """The end of what a job has written; "" if its node is gone. Raises OuzelError."""
        try:
            return str(self._ask(lambda client: client.tail(name)))
        except (_Answered, UnicodeDecodeError):
            return ""

    def _ask(self, question: Any) -> Any:
        try:
            with self._lock:
                if self._client is None:
                    self._client = self._connected()
                client = self._client
            return question(client)
        except (OuzelError, _Answered):
            raise
        except (requests.RequestException, ConnectionError) as error:
            self._client = None
            message = f"the Ray cluster at {self._address} does not answer ({type(error).__name__})"
            raise Unavailable(message) from None
        except (RuntimeError, ValueError, KeyError) as error:  # Ray's words for a token that is missing or wrong
            self._client = None
            first = str(error).strip().partition("\n")[0][:300]
            raise FailedPrecondition(f"the Ray cluster at {self._address}: {first}") from error

    def _connected(self) -> _Client:
        if os.environ.get(MODE) != "token":
            raise FailedPrecondition(
                f"{MODE} is not 'token': a Ray cluster without it runs whatever anybody sends to it "
                "(CVE-2023-48022). Set it for the cluster and for this worker; docs/cluster.md says how"
            )
        answer = requests.get(f"{self._address}/api/version", timeout=_SECONDS, allow_redirects=False)
        if answer.status_code not in _REFUSALS:
            raise FailedPrecondition(
                f"the Ray cluster at {self._address} does not turn away callers without a token (status "
                f"{answer.status_code}): it runs whatever anybody sends to it (CVE-2023-48022). "
                f"Start it with {MODE}=token"
            )
        client = _Client(self._address)
        version = client.version()
        if tuple(int(each) for each in version.split(".")[:2]) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise FailedPrecondition(
                f"the Ray cluster at {self._address} has version {version}; {oldest} is the oldest"
            )
        return client
