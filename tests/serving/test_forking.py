"""Workers that are forked: what they are given, and that nothing outlives what needs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ouzel.forking import child
from ouzel.model_files import MANIFEST
from ouzel.models import archive
from ouzel.serving.forking import launcher, shim
from ouzel.torchserve.archives import archives

pytestmark = pytest.mark.skipif(not child.supported(), reason="workers are forked on Linux only")

_WORKER = """
import json, os, sys, time
import beside
print(json.dumps({
    "pid": os.getpid(), "arguments": sys.argv[1:], "folder": os.getcwd(), "name": __name__, "beside": beside.__file__,
    "environment": os.environ["GIVEN"], "other": os.environ.get("OTHER"), "imported": "colorsys" in sys.modules,
    "files": sorted(n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
}))
sys.stderr.write("said\\n")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run whose zygote imports one small module."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "beside.py").write_text("")
    with launcher.zygote(tmp_path, dict(os.environ) | {"OTHER": "of the zygote"}, ("no_such_module", "colorsys")):
        yield tmp_path


def start(run: Path, body: str = "", name: str = shim.WORKER, socket: str = "9000") -> subprocess.Popen[str]:
    """A worker, as TorchServe starts it."""
    script = run / name
    script.write_text(_WORKER + body)
    environment = {key: value for key, value in os.environ.items() if key != "OTHER"}
    return subprocess.Popen(
        [launcher.interpreter(run), "-u", str(script), "--sock-name", socket],
        cwd=run / "model",
        env=environment | {"GIVEN": "é and \n", "PYTHONPATH": f"{run}/model"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    answer: dict[str, object] = json.loads(process.stdout.readline())
    return answer


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: object) -> Callable[[], bool]:
    return lambda: not psutil.pid_exists(int(str(pid)))


def zygote_of(pid: object) -> psutil.Process:
    parent = psutil.Process(int(str(pid))).parent()
    assert parent is not None
    return parent


def test_a_worker_is_what_an_interpreter_would_have_made_it(run: Path) -> None:
    process = start(run, "sys.exit(7)")
    answer = said(process)
    assert (process.wait(20), process.communicate()[1]) == (7, "said\n")
    assert answer["pid"] != process.pid
    assert answer["imported"] is True  # before it began
    expected = {
        "arguments": ["--sock-name", "9000"],
        "folder": str(run / "model"),
        "name": "__main__",
        "beside": str(run / "model" / "beside.py"),
        "environment": "é and \n",
        "other": None,
    }
    assert {key: answer[key] for key in expected} == expected
    assert answer["files"] == ["0", "1", "2"]
    assert "no_such_module cannot be imported" in (run / launcher.LOG).read_text()


def test_other_programs_are_not_forked(run: Path) -> None:
    process = start(run, name="metric_collector.py")
    answer = said(process)
    assert process.wait(20) == 0
    assert (answer["pid"], answer["imported"]) == (process.pid, False)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_with_who_stands_for_it_and_its_siblings_live(run: Path, how: signal.Signals) -> None:
    first, second = start(run, "time.sleep(60)"), start(run, "time.sleep(60)")
    workers = [said(each)["pid"] for each in (first, second)]
    first.send_signal(how)
    first.wait(20)
    until(gone(workers[0]))
    assert psutil.pid_exists(int(str(workers[1])))
    os.kill(int(str(workers[1])), signal.SIGKILL)  # and the other way round
    assert second.wait(20) == 128 + signal.SIGKILL


def test_a_killed_zygote_takes_its_workers_along_and_later_ones_start_by_themselves(run: Path) -> None:
    process = start(run, "time.sleep(60)")
    worker = said(process)["pid"]
    zygote_of(worker).kill()
    assert process.wait(20) == 1
    until(gone(worker))
    later = start(run)
    assert (said(later)["pid"], later.wait(20)) == (later.pid, 0)


def test_the_zygote_outlives_a_request_to_stop_and_ends_with_torchserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "beside.py").write_text("")
    with launcher.zygote(tmp_path, dict(os.environ), ()) as held:
        torchserve = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held)
    process = start(tmp_path, "time.sleep(60)")
    worker = said(process)["pid"]
    zygote = zygote_of(worker)
    zygote.terminate()
    torchserve.kill()
    torchserve.wait()
    until(gone(worker))
    assert process.wait(20) != 0
    until(lambda: not zygote.is_running() or zygote.status() == psutil.STATUS_ZOMBIE)


def test_only_models_with_a_handler_of_ouzel_make_the_zygote_import_its_libraries(store: Path) -> None:
    def imported() -> set[str]:
        return set(launcher.libraries(each.handler for each in archives(store)))

    assert imported() == {"torch"}  # TorchServe's own worker imports it
    with zipfile.ZipFile(store / "ours.mar", "w") as ours:
        model = {"modelName": "ours", "modelVersion": "1", "handler": archive.HANDLER}
        ours.writestr(MANIFEST, json.dumps({"runtime": "python", "model": model}))
    assert imported() > {"torch", "timm"}


def test_a_worker_that_is_asked_for_again_knows_that_callers_wait(run: Path) -> None:
    body = f"print(json.dumps({{'again': os.environ.get({child.AGAIN!r})}}), file=sys.stderr)"
    told = []
    for socket in ("9000", "9001", "9000"):
        process = start(run, body, socket=socket)
        said(process)
        process.wait(20)
        told.append(json.loads(process.communicate()[1].splitlines()[-1])["again"])
    assert told == [None, None, "1"]
