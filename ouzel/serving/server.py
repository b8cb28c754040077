"""Starting and stopping TorchServe."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import psutil

from ouzel.errors import FailedPrecondition
from ouzel.serving import config, folder, forking, jobs, loading, processes, retention
from ouzel.serving.loading import Tell
from ouzel.serving.management import Settings
from ouzel.serving.options import HOST, Ports, Resources, ServingOptions, resources
from ouzel.serving.running import RunningServing
from ouzel.serving.store import Archive, archives, unloaded
from ouzel_protos.local import Serving

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def start(options: ServingOptions, tell: Tell | None = None) -> Iterator[RunningServing]:
    """Start services, yield them once every model has answered a request, stop them all at the end.

    tell: called when a model begins to load, and when it is ready.

    Raises OuzelError with one line for the user: NotFound or InvalidArgument for the models, AlreadyRunning,
    FailedPrecondition for ports and installation, StartFailed for the rest. Nothing is left running then.
    """
    with _exclusive(options.state):  # the lock stays with this process: what outlives it is known to be left over
        serving = None
        try:
            serving = _start(options, tell)
            yield serving
        finally:
            folder.clear(options.state, grace=processes.GRACE if serving else 0)
            if serving:
                serving.poll()  # takes the exit status, without which the process stays a zombie


def start_detached(options: ServingOptions, tell: Tell | None = None) -> RunningServing:
    """Like `start`, but the services stay until `stop`, also after this process has ended."""
    with _exclusive(options.state) as lock:
        try:
            return _start(options, tell, keep_open=(lock,))
        except BaseException:
            folder.clear(options.state, grace=0)
            raise


def stop(state: Path) -> bool:
    """Stop whatever runs with the state folder `state`, whoever started it; returns whether anything ran."""
    if not state.is_dir():
        return False
    ran = folder.clear(state)
    folder.wait_unlocked(state)
    return ran


@contextlib.contextmanager
def _exclusive(state: Path) -> Iterator[int]:
    """The lock of the state folder, which is then clear of what a killed run has left."""
    folder.prepare(state)
    with folder.locked(state) as lock:
        if folder.clear(state):
            logger.warning("stopped services that an earlier run had left behind in %s", state)
        yield lock.fileno()


def _start(options: ServingOptions, tell: Tell | None, keep_open: Sequence[int] = ()) -> RunningServing:
    models = archives(options.store, options.models, options.loaded_versions)
    granted = resources(options)
    starts_worker = options.worker and folder.running_worker(options.state) is None
    _check_ports(options.ports, set() if starts_worker else {"worker"})
    serving = _launch(options, models, granted, keep_open)
    how = Settings(
        granted.workers,
        options.batch_size,
        options.max_batch_delay_ms,
        options.response_timeout,
        max(int(options.timeout), 1),
    )
    retention.record(serving.key_file, options.loaded_versions, how)
    loading.load(serving, models, how, options.timeout, tell)
    if options.worker and (worker := jobs.start(options, serving.key_file.parent)) is not None:
        serving = replace(serving, worker=worker["grpc"])
    folder.record(options.state, _record(serving, options))
    return serving


def _check_ports(ports: Ports, unused: set[str]) -> None:
    for each in fields(ports):
        if each.name in unused:
            continue
        port = getattr(ports, each.name)
        with socket.socket() as trial:
            # As the server does, which takes a port whose old connections have not quite ended.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError as error:
                trouble = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                option = each.name.replace("_", "-")
                raise FailedPrecondition(
                    f"port {port} {trouble}; choose another with --{option}-port or OUZEL_{each.name.upper()}_PORT",
                    field=f"ports.{each.name}",
                ) from None


def _launch(
    options: ServingOptions, models: Sequence[Archive], granted: Resources, keep_open: Sequence[int]
) -> RunningServing:
    run = folder.new_run(options.state)
    log = options.state / folder.LOG
    log.unlink(missing_ok=True)  # what it says from here on is about this run
    (run / config.CONFIG).write_text(config.render(config.properties(options, granted)), encoding="ascii")
    command = config.command(options, granted, run, log)
    environment = config.environment(options, granted, run, processes=len(models) * granted.workers)
    with forking.zygote(run, environment) as zygote, (run / folder.CONSOLE).open("wb") as console:
        process = subprocess.Popen(
            command,
            cwd=run,  # where it puts the key file
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            pass_fds=(*keep_open, *zygote),
        )
    logger.info("started TorchServe, process %d, in %s", process.pid, run)
    ports = options.ports
    return RunningServing(
        pid=process.pid,
        grpc=f"{HOST}:{ports.grpc}",
        rest=f"http://{HOST}:{ports.rest}",
        management=f"http://{HOST}:{ports.management}",
        metrics=f"http://{HOST}:{ports.metrics}",
        key_file=run / config.KEY_FILE,
        models=tuple(dict.fromkeys(archive.name for archive in models)),
        versions=tuple((archive.name, archive.version) for archive in models),
        unloaded=unloaded(options.store, options.models, models),
        log=log,
        worker="",
        _process=process,
    )


def _record(serving: RunningServing, options: ServingOptions) -> Serving:
    return {
        "pid": serving.pid,
        "create_time": psutil.Process(serving.pid).create_time(),
        "grpc": serving.grpc,
        "rest": serving.rest,
        "management": serving.management,
        "metrics": serving.metrics,
        "key_file": str(serving.key_file),
        "model_store": str(options.store),
        "models": list(serving.models),
    }
