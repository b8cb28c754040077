"""Values that nobody may read in a log: kept as the place where they are, and read when they are sent."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ouzel import secret_files
from ouzel.errors import FailedPrecondition, InvalidArgument

_MOST_BYTES = 16 * 2**10  # of a secret; tokens have a few hundred
_VISIBLE = re.compile(r"[\x20-\x7e]+")  # what a header may hold


@dataclass(frozen=True)
class Secret:
    """A value, or the place of one. Its representation shows the place only.

    The value is read anew for each request, so that a token that is replaced while a long job runs is taken up.

    Attributes:
        literal: The value itself; empty if `env` or `file` is its place.
        env: Name of an environment variable.
        file: A file; spaces and line breaks around its content are taken off.
        prefix: Written before the value, as in "Bearer ".
    """

    literal: str = field(default="", repr=False)
    env: str = ""
    file: Path | None = None
    prefix: str = field(default="", repr=False)

    def reveal(self) -> str:
        """The value.

        Raises:
            FailedPrecondition: The place holds nothing, or what no header can hold, or others may read the file.
                The message names the place.
        """
        if self.env:
            where, value = f"the environment variable {self.env}", os.environ.get(self.env, "")
        elif self.file is not None:
            where, value = f"the file {self.file}", self._content(self.file)
        else:
            where, value = "the value", self.literal
        value = value.strip()
        if not value:
            raise FailedPrecondition(f"{where} is not set or empty")
        if len(value) > _MOST_BYTES or not _VISIBLE.fullmatch(self.prefix + value):
            raise FailedPrecondition(f"{where} holds more than {_MOST_BYTES} characters, or some that no header has")
        return self.prefix + value

    @staticmethod
    def _content(path: Path) -> str:
        try:
            return secret_files.read(path)
        except OSError as error:
            raise FailedPrecondition(f"the file {path} cannot be read ({error.strerror})") from None
        except InvalidArgument as error:
            raise FailedPrecondition(f"the file {error}") from None
