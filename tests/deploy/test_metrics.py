"""What dashboards and alert rules ask for is what real parts tell, and is what the documentation lists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import trustme
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from ouzel import serving
from ouzel.agent.metrics import AgentGauges
from ouzel.gateway.access.tls import Tls, TlsFiles
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.options import GatewayOptions
from ouzel.registry.opening import open_registry
from ouzel.registry.reports import AgentReport
from ouzel.telemetry.metrics import MetricsOptions
from support.gateway import gateway
from support.jobs import until, worker
from support.metrics import Metrics
from support.sink import fake_worker, sink, write

ROOT = Path(__file__).parents[2]
PROMETHEUS, DASHBOARD = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana" / "ouzel.json"
# TorchServe's own, which tests of the services look for.
FOREIGN = {"QueueTime"}
OF_PROMETHEUS = {"up"}
_ENDINGS = ("_bucket", "_sum", "_count")


def families(text: str) -> dict[str, str]:
    """Type by name, of everything that is told."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Of a gateway with TLS, a worker and a sink that run, and of the handler what is declared for it."""
    folder = tmp_path_factory.mktemp("parts")
    issued = trustme.CA().issue_cert("localhost")
    (folder / "cert.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    tls = Tls(TlsFiles(folder / "cert.pem", folder / "key.pem"))
    options = GatewayOptions(rest_port=0, grpc_port=0, tls=tls, metrics=MetricsOptions(0))
    store = folder / "store"
    store.mkdir()
    declared = yaml.safe_load(Path(serving.__file__).with_name("metrics.yaml").read_text())["model_metrics"]
    found = {"models": {each["name"]: kind for kind, rows in declared.items() for each in rows}}
    with gateway(lambda: InProcessEngine(store), options) as at:
        numbers = Metrics(at.metrics)
        found["gateway"] = families(numbers.text)
        expires = numbers.value("ouzel_gateway_certificate_expiry_timestamp_seconds")
        assert expires == tls.expires
    shared = folder / "shared"
    shared.mkdir()
    report = AgentReport("node", "1", 1.0, serving=True)
    open_registry(shared).report("node", report.to_json())
    registry = CollectorRegistry()
    registry.register(AgentGauges(lambda: report))
    found["agent"] = families(generate_latest(registry).decode())
    flags = ["--metrics-port", "0", "--no-fork", "--store", str(shared), "--serving-quorum", "1"]
    with worker(f"sqlite://{folder / 'jobs.db'}", folder / "state", *flags) as made:
        until(lambda: "/metrics" in made.log.read_text())
        until(lambda: "_checkpoint_age_" in Metrics(url(made.log)).text)
        found["worker"] = families(Metrics(url(made.log)).text)
    with fake_worker() as fake, sink(write(folder / "sink"), fake) as running:
        found["sink"] = families(running.ask("GET", "/metrics")[1])
    return found


def url(log: Path) -> str:
    match = re.search(r"http://\S+/metrics", log.read_text())
    assert match
    return match[0]


def expressions() -> list[str]:
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked += [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "5m") for each in asked]


def named(tree: Any) -> Iterator[str]:
    """Metrics that an expression selects."""
    if isinstance(tree, promql_parser.VectorSelector):
        yield tree.name
    for name in ("expr", "lhs", "rhs", "args", "vector_selector", "vs", "param"):
        for each in listed(getattr(tree, name, None)):
            yield from named(each)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def test_every_metric_that_is_asked_for_is_told(told: dict[str, dict[str, str]]) -> None:
    known = {name: kind for part in told.values() for name, kind in part.items()}
    series = OF_PROMETHEUS | FOREIGN | set(known)
    for name in FOREIGN | {name for name, kind in known.items() if kind == "histogram"}:
        series |= {name + ending for ending in _ENDINGS}
    asked = {}
    for text in expressions():
        names = set(named(promql_parser.parse(text)))
        assert names, text
        # The tree may hide something from us: every word that looks like one of ours is found in it.
        assert set(re.findall(r"\b(?:ouzel|process)_\w+", re.sub(r'"[^"]*"', "", text))) <= names, text
        asked |= dict.fromkeys(names, text)
    assert not {name: text for name, text in asked.items() if name not in series}
    unused = {name for name in known if name.startswith("ouzel_")}
    unused -= {name.removesuffix(ending) for name in asked for ending in ("", *_ENDINGS)}
    assert not unused, "these are told, and nobody looks at them"


def test_the_documentation_lists_what_is_told(told: dict[str, dict[str, str]]) -> None:
    rows = re.findall(r"^\| (`ouzel_.*?`) \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    listed_ = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    known = {name: kind for part in told.values() for name, kind in part.items() if name.startswith("ouzel_")}
    assert listed_ == known


def test_names_follow_the_scheme(told: dict[str, dict[str, str]]) -> None:
    for part, known in told.items():
        for name, kind in known.items():
            if name.startswith("process_"):
                continue
            own = ("explain", "pool") if part == "models" else (part,)
            assert name.startswith(tuple(f"ouzel_{each}_" for each in own)), name
            assert name.endswith("_total") == (kind == "counter"), name
            if kind == "histogram":
                assert name.endswith(("_seconds", "_rows")), name


def test_alerts_say_what_is_wrong() -> None:
    rules = [
        rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
    ]
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert configured["rule_files"] == ["rules.yml"]


def test_promtool_has_no_complaint() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    for words in (["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"]):
        done = subprocess.run([promtool, *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_need_no_torch() -> None:
    modules = "ouzel.gateway.observing.metrics, ouzel.worker.gauges, ouzel.sink.metrics, ouzel.agent.agent"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
