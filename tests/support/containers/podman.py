"""podman with a store of its own, so that nothing of the machine's other containers is touched."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOMY = 16384  # some machines refuse more of processes than they say that they allow


@dataclass(frozen=True)
class Podman:
    """A store of images and containers.

    Attributes:
        folder: Where it is. It should be on a disk: it holds images of several GB.
        runtime: What runs containers. crun refuses machines whose cgroups are of both versions.
    """

    folder: Path
    runtime: str = "runc"

    @property
    def _flags(self) -> list[str]:
        root, run = self.folder / "storage", self.folder / "run"
        return ["--root", str(root), "--runroot", str(run), "--runtime", self.runtime]

    def __call__(self, *words: str | Path, timeout: float = 120, check: bool = True) -> str:
        """Output of `podman WORDS`; its errors are shown."""
        command = ["podman", *self._flags, *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            sys.exit(f"podman {' '.join(map(str, words[:3]))} ... ended with {done.returncode}")
        return done.stdout.strip()

    def succeeds(self, *words: str | Path, timeout: float = 120) -> bool:
        """Whether `podman WORDS` does; nothing is shown."""
        command = ["podman", *self._flags, *map(str, words)]
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0

    def build(self, target: str, base: str, mounts: Sequence[Path], root: Path) -> None:
        """Builds one image of docker/Dockerfile, `ouzel-TARGET`. Mounts leave nothing in it but empty files."""
        volumes = [word for path in mounts for word in ("-v", f"{path}:{path}:ro")]
        command = ["podman", *self._flags, "build", "--isolation", "chroot", "--layers", "--build-arg", f"BASE={base}"]
        command += [*volumes, "-f", "docker/Dockerfile", "--target", target, "-t", f"localhost/ouzel-{target}", "."]
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, cwd=root, env=os.environ | {"TMPDIR": str(temporary)}, check=True)

    def wrapper(self) -> Path:
        """A program that is this podman, for podman-compose."""
        path = self.folder / "podman"
        settings = self.folder / "containers.conf"
        limits = [f"nofile={_most(resource.RLIMIT_NOFILE)}", f"nproc={_most(resource.RLIMIT_NPROC)}"]
        settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n", encoding="utf-8")
        words = " ".join(self._flags)
        path.write_text(f'#!/bin/sh\nCONTAINERS_CONF={settings} exec podman {words} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return path


@dataclass(frozen=True)
class Compose:
    """docker-compose.yml on a podman.

    Attributes:
        podman: Whose.
        program: podman-compose.
        root: The checkout.
        environment: Variables that the file takes.
    """

    podman: Podman
    program: Path
    root: Path
    environment: Mapping[str, str]

    def __call__(self, *words: str | Path, timeout: float = 300) -> str:
        """Output of `podman-compose WORDS`."""
        command = [self.program, "--podman-path", self.podman.wrapper(), *words]
        environment = os.environ | dict(self.environment)
        done = subprocess.run(
            list(map(str, command)),
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"podman-compose {' '.join(map(str, words[:4]))} ... ended with {done.returncode}")
        return done.stdout.strip()


def _most(which: int) -> str:
    """podman asks for more than the machine allows unless it is told."""
    hard = resource.getrlimit(which)[1]
    most = _ROOMY if hard == resource.RLIM_INFINITY else min(hard, _ROOMY)
    return f"{most}:{most}"
