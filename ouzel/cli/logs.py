"""`ouzel logs`: what the parts of the services and the jobs of this machine have written."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import click

from ouzel.cli._errors import Command
from ouzel.cli.services import state_option
from ouzel.errors import NotFound
from ouzel.serving import front_door, job_worker, processes, state_folder
from ouzel.serving.supervision import journal

_PARTS = {
    processes.TORCHSERVE: state_folder.LOG,
    processes.WORKER: job_worker.LOG,
    processes.GATEWAY: front_door.LOG,
    processes.SUPERVISOR: journal.LOG,
}
_POLL = 0.3  # s between two looks at the files
_BLOCK = 2**16


@click.command(cls=Command)
@click.argument("part", default="")
@state_option
@click.option("--lines", type=click.IntRange(min=0), default=50, show_default=True, help="Number of lines to show.")
@click.option("--follow", "-f", is_flag=True, help="Print new lines as they are written, until Ctrl-C.")
def logs(part: str, state: Path, lines: int, follow: bool) -> None:
    """Show the last lines of a log.

    PART is torchserve, worker, gateway, supervisor, or the id of a job that ran on this machine. Without PART, the logs
    of all parts are shown.
    """
    files = _files(state, part)
    titled = len(files) > 1
    followed = {title: _Followed(paths[-1]) for title, paths in files.items()}
    for title, paths in files.items():
        if titled:
            click.echo(f"==> {title} <==")
        for line in _last(paths, lines, followed[title].begin):
            click.echo(line)
    if follow:
        _follow(followed, titled)


def _files(state: Path, part: str) -> Mapping[str, Sequence[Path]]:
    """The files of each log by its title, oldest first. Raises NotFound."""
    if part in ("", *_PARTS):
        candidates = {name: _rotated(state / file) for name, file in _PARTS.items() if part in ("", name)}
        there = {name: paths for name, paths in candidates.items() if paths}
        if not there:
            raise NotFound(f"there is no log of {part or 'any part'} in {state}; `ouzel up` starts the services")
        return there
    named = re.compile(rf"{re.escape(part)}-(\d+)\.log")
    attempts = {
        int(match[1]): path for path in (state / "jobs" / "logs").glob("*.log") if (match := named.fullmatch(path.name))
    }
    if not attempts:
        raise NotFound(f"{part!r:.80} is neither {', '.join(_PARTS)} nor a job with a log in {state}")
    return {part: [attempts[attempt] for attempt in sorted(attempts)]}


def _rotated(path: Path) -> list[Path]:
    return [each for each in (path.with_name(f"{path.name}.1"), path) if each.is_file()]


def _last(paths: Sequence[Path], count: int, end: int) -> list[str]:
    """The last lines of files that follow each other, of which the last one is read up to byte `end`."""
    lines = _tail(paths[-1], count, end)
    for path in reversed(paths[:-1]):
        lines = [*_tail(path, count - len(lines), path.stat().st_size), *lines]
    return lines


def _tail(path: Path, count: int, end: int) -> list[str]:
    """The last lines of the first `end` bytes of a file, read from there backwards: logs may be long."""
    with path.open("rb") as file:
        position, data = end, b""
        while position > 0 and data.count(b"\n") <= count:
            step = min(_BLOCK, position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
    lines = data.decode(errors="replace").splitlines()
    return lines[max(0, len(lines) - count) :]


def _follow(followed: Mapping[str, _Followed], titled: bool) -> None:
    """Print new lines. A log file may be replaced by a new one meanwhile. Returns at Ctrl-C."""
    shown = list(followed)[-1]
    try:
        while True:
            for title, each in followed.items():
                if text := each.new():
                    if titled and title != shown:
                        click.echo(f"==> {title} <==")
                    shown = title
                    click.echo(text, nl=False)
            time.sleep(_POLL)
    except KeyboardInterrupt:
        click.echo()


class _Followed:
    """A log file, from its present end on, which is byte `begin`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = self._opened()
        self.begin = 0 if self._file is None else self._file.seek(0, 2)

    def _opened(self) -> IO[bytes] | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def new(self) -> str:
        """What was written since; whole lines and the beginning of one."""
        text = b"" if self._file is None else self._file.read()
        if self._was_replaced():
            if self._file is not None:
                self._file.close()
            self._file = self._opened()
            text += b"" if self._file is None else self._file.read()
        return text.decode(errors="replace")

    def _was_replaced(self) -> bool:
        """Whether the path is another file by now, or the same one was cut off."""
        try:
            present = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        return (mine.st_dev, mine.st_ino) != (present.st_dev, present.st_ino) or present.st_size < self._file.tell()
