"""How the command line reports what went wrong: one line, `Error: ...`, on stderr, exit status 1; never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ouzel.buckets import StorageRefused
from ouzel.errors import OuzelError


@contextmanager
def reported() -> Iterator[None]:
    """Turn an error that a user can understand into click's one-line report. Others are bugs and pass through."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output left (`| head`): click ends quietly
    except (OuzelError, OSError) as error:
        told = error.why if isinstance(error, StorageRefused) else str(error)
        message = told or type(error).__name__
        raise click.ClickException(" ".join(message.split())) from error


class Command(click.Command):
    """A command whose errors are reported in one line: `@click.command(cls=Command)`."""

    def invoke(self, ctx: click.Context) -> Any:
        with reported():
            return super().invoke(ctx)


class Group(click.Group):
    """A group for whose commands the same holds: `@click.group(cls=Group)`."""

    def invoke(self, ctx: click.Context) -> Any:
        with reported():
            return super().invoke(ctx)
