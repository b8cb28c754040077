"""Starting and stopping TorchServe."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import psutil

from ouzel.errors import FailedPrecondition
from ouzel.serving import config, job_worker, loading, processes, saved_options, state_folder
from ouzel.serving.forking import launcher
from ouzel.serving.loading import Tell
from ouzel.serving.options import HOST, Ports, Resources, ServingOptions, resources
from ouzel.serving.running import RunningServing
from ouzel.serving.supervision import journal
from ouzel.torchserve import retention
from ouzel.torchserve.archives import Archive, archives, unloaded
from ouzel.torchserve.management import Settings
from ouzel_protos.local import Serving

logger = logging.getLogger(__name__)
_PORTS_FREE = 5.0  # s in which the kernel takes the ports back from a process that was killed


@contextlib.contextmanager
def start(options: ServingOptions, tell: Tell | None = None, *, take_over: bool = False) -> Iterator[RunningServing]:
    """Start services, yield them once every model has answered a request, stop them all at the end.

    tell: called when a model begins to load, and when it is ready. take_over: what a killed run has left and is alive
    is kept, with the options it was started with, and only what is missing is started; else all of it is stopped first.

    Raises OuzelError with one line for the user: NotFound or InvalidArgument for the models, AlreadyRunning,
    FailedPrecondition for ports and installation, StartFailed for the rest. Nothing is left running then, but for what
    ran before.
    """
    with _exclusive(options, take_over=take_over) as (_, holding, left):
        serving = None
        try:
            serving = _start(holding, tell)
            yield serving
        finally:
            if serving or not left:
                state_folder.clear(options.state, grace=processes.GRACE if serving else 0)
            if serving:
                serving.poll()  # takes the exit status, without which the process stays a zombie


def start_detached(options: ServingOptions, tell: Tell | None = None) -> RunningServing:
    """As `start` that takes over, but the services stay until `stop`, also after this process has ended.

    A supervisor in the background starts again what dies or hangs.
    """
    with _exclusive(options, take_over=True) as (lock, holding, left):
        try:
            serving = _start(holding, tell)
            journal.spawn(options.state, lock)
            return serving
        except BaseException:
            if not left:
                state_folder.clear(options.state, grace=0)
            raise


def stop(state: Path) -> bool:
    """Stop whatever runs with the state folder `state`, whoever started it; returns whether anything ran.

    The supervisor ends first, lest it start again what is being stopped.
    """
    if not state.is_dir():
        return False
    supervised = journal.end(state)
    ran = state_folder.clear(state)
    state_folder.wait_unlocked(state)
    return ran or supervised


@contextlib.contextmanager
def _exclusive(options: ServingOptions, *, take_over: bool) -> Iterator[tuple[int, ServingOptions, bool]]:
    """The lock of the state folder, the options that hold, and whether services are left that are to be kept; else
    the folder is clear of what a killed run has left.
    """
    state = options.state
    state_folder.prepare(state)
    with state_folder.locked(state) as lock:
        kept = saved_options.read(state) if take_over and _left(state) else None
        if kept is None and state_folder.clear(state):
            logger.warning("stopped services that an earlier run had left behind in %s", state)
        yield lock.fileno(), kept or options, kept is not None


def _left(state: Path) -> bool:
    worker = state_folder.running_worker(state)
    ours = worker and worker["pid"] in {each.pid for each in processes.belonging_to(state, processes.WORKER)}
    return state_folder.running(state) is not None or bool(ours)


def _start(options: ServingOptions, tell: Tell | None) -> RunningServing:
    """What does not run yet."""
    state, recorded = options.state, state_folder.running(options.state)
    kept: tuple[str, ...] = (processes.TORCHSERVE,) if recorded else ()
    serving = RunningServing.found(recorded, state / state_folder.LOG) if recorded else _torchserve(options, tell)
    try:
        if options.worker:
            kept += (processes.WORKER,) if state_folder.running_worker(state) else ()
            worker = job_worker.start(options)
            serving = replace(serving, worker=worker["grpc"] if worker else "")
        saved_options.write(replace(options, worker=bool(serving.worker)))
        if not recorded:
            state_folder.record(state, _record(serving, options))
    except BaseException:
        if not recorded:
            state_folder.clear_torchserve(state)
        raise
    return replace(serving, kept=kept)


def restart_torchserve(options: ServingOptions, tell: Tell | None = None) -> None:
    """Clear away what is left of TorchServe, start it alone, and record it once it is ready."""
    state_folder.record(options.state, _record(_torchserve(options, tell, lenient=True), options))


def _torchserve(options: ServingOptions, tell: Tell | None = None, lenient: bool = False) -> RunningServing:
    ran = state_folder.clear_torchserve(options.state)
    models = archives(options.store, options.models, options.loaded_versions)
    granted = resources(options)
    _check_ports(options, _PORTS_FREE if ran else 0)
    serving = _launch(options, models, granted)
    how = Settings(
        granted.workers,
        options.batch_size,
        options.max_batch_delay_ms,
        options.response_timeout,
        max(int(options.timeout), 1),
    )
    try:
        retention.record(serving.key_file, options.loaded_versions, how)
        loading.load(serving, models, how, options.timeout, tell, lenient=lenient)
    except BaseException:
        state_folder.clear_torchserve(options.state)
        serving.poll()
        raise
    return serving


def _check_ports(options: ServingOptions, patience: float) -> None:
    """Raises FailedPrecondition if one is still in use after `patience` seconds."""
    starts_worker = options.worker and state_folder.running_worker(options.state) is None
    unused = set() if starts_worker else {"worker"}
    deadline = time.monotonic() + patience
    while True:
        try:
            return _try_ports(options.ports, unused)
        except FailedPrecondition:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


def _try_ports(ports: Ports, unused: set[str]) -> None:
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


def _launch(options: ServingOptions, models: Sequence[Archive], granted: Resources) -> RunningServing:
    run = state_folder.new_run(options.state)
    log = options.state / state_folder.LOG
    with contextlib.suppress(FileNotFoundError):  # what it says from here on is about this run
        log.replace(log.with_name(f"{log.name}.1"))
    (run / config.CONFIG).write_text(config.render(config.properties(options, granted)), encoding="ascii")
    command = config.command(options, granted, run, log)
    environment = config.environment(options, granted, run, processes=len(models) * granted.workers)
    environment |= {processes.PART: processes.TORCHSERVE}
    with launcher.zygote(run, environment) as zygote, (run / state_folder.CONSOLE).open("wb") as console:
        process = subprocess.Popen(
            command,
            cwd=run,  # where it puts the key file
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            umask=0o077,
            start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            pass_fds=zygote,
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
