"""`python -m ouzel.cli.supervisor`: keeps up what `ouzel up --detach` has started. Not for users to call."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import click

from ouzel import secret_files
from ouzel.cli._errors import Command
from ouzel.serving import Stopped, saved_options, state_folder, stop_on_signals
from ouzel.serving.supervision import journal, supervisor
from ouzel.serving.supervision.supervisor import Patience, parts, supervising
from ouzel.telemetry import logs

FORMAT = "%(asctime)s %(levelname)s %(message)s"


@click.command(cls=Command)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), required=True)
def supervise(state: Path) -> None:
    """Restart parts that die or hang, until SIGTERM. Then stop all parts."""
    logs.configure(FORMAT)
    options = saved_options.read(state)
    if options is None:
        raise click.ClickException(f"no services are recorded in {state}")
    try:
        with stop_on_signals(), supervising(state, parts(options), Patience(hung_after=options.hung_after)):
            logging.info("watching %s", ", ".join(part.name for part in parts(options)))
            threading.Event().wait()
    except Stopped as signal:
        logging.info("asked to end by %s: all parts are stopped", signal)
    state_folder.clear(state)


def stay(state: Path) -> None:
    """The same in the foreground, in `ouzel up` itself: never returns, ended by a signal that raises Stopped."""
    options = saved_options.read(state)
    if options is None:
        raise click.ClickException(f"the services of {state} were stopped")
    log = logging.getLogger(supervisor.__name__)
    secret_files.open_log(state / journal.LOG, append=True).close()  # with its mode
    handlers = (logging.FileHandler(state / journal.LOG), logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(logs.formatter(FORMAT))
        log.addHandler(handler)
    try:
        with supervising(state, parts(options), Patience(hung_after=options.hung_after)):
            threading.Event().wait()
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    supervise(prog_name="ouzel-supervisor")
