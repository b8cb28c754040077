"""Starts the process of TorchServe, and records it once its models answer."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from dataclasses import fields

import psutil

from ouzel import secret_files
from ouzel.serving import config, front_door, loading, ports, processes, state_folder
from ouzel.serving.forking import launcher
from ouzel.serving.loading import Tell
from ouzel.serving.options import AUTO, HOST, Ports, Resources, ServingOptions, resources
from ouzel.serving.pool import pool_archive
from ouzel.serving.running import RunningServing
from ouzel.serving.worker_count import scaler
from ouzel.torchserve import retention
from ouzel.torchserve.archives import Archive, archives, check_store, unloaded
from ouzel.torchserve.management import Settings
from ouzel_protos.local import Serving

logger = logging.getLogger(__name__)


def restart_torchserve(options: ServingOptions, tell: Tell | None = None) -> None:
    """Clears away what is left of TorchServe, starts it alone, and records it once it is ready.

    Args:
        options: The options of the first start.
        tell: Called when a model begins to load, and when it is ready.

    Raises:
        OuzelError: TorchServe does not start.
    """
    record(start_torchserve(options, tell, lenient=True), options)


def start_torchserve(options: ServingOptions, tell: Tell | None = None, *, lenient: bool = False) -> RunningServing:
    """Starts TorchServe and waits until its models answer; what is left of an earlier run is cleared away first.

    Args:
        options: How and with which models.
        tell: Called when a model begins to load, and when it is ready.
        lenient: Whether it may serve without the models that do not load.

    Returns:
        What runs, without the job worker, and not recorded yet.

    Raises:
        OuzelError: It does not start; nothing is left running.
    """
    ran = state_folder.clear_torchserve(options.state)
    models = _archives(options)
    granted = resources(options)
    _check_ports(options, ports.FREED if ran else 0)
    serving, models = _launch(options, models, granted)
    how = Settings(
        granted.workers,
        granted.batch_size,
        options.max_batch_delay_ms,
        options.response_timeout,
        max(int(options.timeout), 1),
    )
    try:
        retention.record(serving.key_file, options.loaded_versions, how)
        loaded = scaler(serving, options, granted) if options.workers == AUTO and granted.gpus else None
        loading.load(serving, models, how, options.timeout, tell, lenient=lenient, loaded=loaded)
    except BaseException:
        state_folder.clear_torchserve(options.state)
        serving.poll()
        raise
    return serving


def _archives(options: ServingOptions) -> tuple[Archive, ...]:
    """What gets processes of its own."""
    if not options.pool:
        return archives(options.store, options.models, options.loaded_versions)
    check_store(options.store)
    return archives(options.store, options.pins, options.loaded_versions) if options.pins else ()


def _check_ports(options: ServingOptions, patience: float) -> None:
    """Raises FailedPrecondition if one is still in use after `patience` seconds."""
    starts_worker = options.worker and state_folder.running_worker(options.state) is None
    others = front_door.PORTS if starts_worker else ("worker", *front_door.PORTS)
    ports.check(options.ports, [each.name for each in fields(Ports) if each.name not in others], HOST, patience)


def _launch(
    options: ServingOptions, models: tuple[Archive, ...], granted: Resources
) -> tuple[RunningServing, tuple[Archive, ...]]:
    """What was started, and what it is to load."""
    run = state_folder.new_run(options.state)
    if options.pool:
        models = (pool_archive(run), *models)
    log = options.state / state_folder.LOG
    with contextlib.suppress(FileNotFoundError):  # what it says from here on is about this run
        log.replace(log.with_name(f"{log.name}.1"))
    (run / config.CONFIG).write_text(config.render(config.properties(options, granted)), encoding="ascii")
    command = config.command(options, granted, run, log)
    environment = config.environment(options, granted, run, processes=len(models) * granted.workers)
    environment |= {processes.PART: processes.TORCHSERVE}
    modules = launcher.libraries(archive.handler for archive in models)
    with (
        launcher.zygote(run, environment, modules) as zygote,
        secret_files.open_log(run / state_folder.CONSOLE) as console,
    ):
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
    chosen = options.ports
    serving = RunningServing(
        pid=process.pid,
        grpc=f"{HOST}:{chosen.grpc}",
        rest=f"http://{HOST}:{chosen.rest}",
        management=f"http://{HOST}:{chosen.management}",
        metrics=f"http://{HOST}:{chosen.metrics}",
        key_file=run / config.KEY_FILE,
        models=tuple(dict.fromkeys(archive.name for archive in models)),
        versions=tuple((archive.name, archive.version) for archive in models),
        unloaded=() if options.pool else unloaded(options.store, options.models, models),
        log=log,
        worker="",
        _process=process,
    )
    return serving, models


def record(serving: RunningServing, options: ServingOptions) -> None:
    """Writes the record by which clients on this machine find TorchServe."""
    values: Serving = {
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
    state_folder.record(options.state, values)
