"""The Helm chart, rendered by Helm itself: checked by the schemas of Kubernetes, and against the commands."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import click
import helm_python
import kubernetes_validate
import promql_parser
import pytest
import yaml

from ouzel import secret_files
from ouzel.cli import gateway as gateway_module
from ouzel.cli.gateway import gateway
from ouzel.cli.keys import keys
from ouzel.cli.services import status, up
from ouzel.cli.serving_agent import serving_agent
from ouzel.cli.worker import worker
from ouzel.gateway.access.tenants_file import parse
from ouzel.gateway.rest import paths
from ouzel.worker.options import WorkerOptions
from ouzel.worker.processes import ray_options
from ouzel.worker.store.job import State
from ouzel_protos.local import AGENT
from support.charts import CHART, Manifest, containers, of, rendered, values

ROOT = Path(__file__).parents[2]
TLS = {"gateway": {"tls": {"secret": "certificate"}}}
FULL = values(
    metrics={"secret": "scraping"},
    s3={"tiles": "s3://bucket/log", "secret": "bucket", "endpoint": "https://s3.example.com", "region": "here"},
    gateway={"tls": {"secret": "certificate", "clientCa": True}, "service": {"type": "LoadBalancer"}},
    autoscaling={"enabled": True},
    serving={"gpus": 1, "workers": "auto", "precision": "tf32", "poolMemoryMb": 2048, "nodeSelector": {"gpu": "yes"}},
    worker={
        "gpus": 2,
        "slots": 2,
        "extraArgs": ["--watchdog=900"],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    },
    ray={"cluster": "shared", "namespace": "ray"},
    networkPolicy={"postgres": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "s3": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]},
    storage={"models": {"existingClaim": "store"}, "shared": {"storageClass": "nfs"}},
    imagePullSecrets=["pull"],
)
BUCKETS = values(
    s3={f"{each}": f"s3://bucket/{each}" for each in ("artifacts", "datasets", "models")} | {"secret": "bucket"},
    agents={"quorum": 2},
    metrics={"secret": "scraping"},
    serving={"replicas": 3},
    ray={
        "cluster": "shared",
        "namespace": "ray",
        "executor": True,
        "resources": ["finetune:gpus=1,cpus=4,memory=16GiB", "*:cpus=2"],
        "python": "/opt/ouzel/bin/python",
        "secret": "ray-token",
        "postgresPassword": {"secret": "jobs-password"},
    },
)
CHOICES = {
    "least": values(),
    "full": FULL,
    "tls": values(**TLS),
    "buckets": BUCKETS,
    "agents": values(agents={"enabled": True}),
    "open": values(networkPolicy={"enabled": False}, serving={"replicas": 3, "workers": 2}, worker={"replicas": 0}),
}
COMMANDS: dict[str, click.Command] = {"ouzel-gateway": gateway, "ouzel-worker": worker, "up": up, "status": status}
COMMANDS["serving-agent"] = serving_agent
_OF_OTHERS = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PGPASSWORD"}  # variables that Ray and PostgreSQL's library read
# Where calls go in, by the default port of each command.
_READ_BY_OTHERS = {"OUZEL_LEDGER", "OUZEL_KEYS"}


@pytest.fixture(params=CHOICES)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(CHOICES[request.param])


@pytest.mark.parametrize("name", CHOICES)
def test_helm_lint_has_no_complaint(name: str) -> None:
    report = helm_python.lint(CHART, CHOICES[name], strict=True)
    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}


def test_kubernetes_knows_every_field(manifests: list[Manifest]) -> None:
    for version, manifest in itertools.product(("1.29", kubernetes_validate.latest_version()), manifests):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    """That they are there, and are asked."""
    deployment = of(rendered(values()), "Deployment", "demo-worker")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.33", strict=True)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, "postgres"),
        ({"postgres": {"secret": "jobs-db"}}, "worker"),
        (values(postgres={"url": "postgresql://a:b@c/d"}), "url"),  # secrets are not values
        (values(s3={"endpoint": "https://key:secret@s3"}), "endpoint"),
        (values(worker={"replica": 3}), "replica"),
        (values(serving={"precision": "fp16"}), "precision"),
        (values(worker={"grace": 30}), "grace"),
        (values(agents={"quorum": 0}), "quorum"),
        (values(s3={"models": "/models"}), "models"),
        (values(ray={"executor": True, "secret": "token"}), "ray.cluster or ray.address"),
        (values(ray={"executor": True, "cluster": "shared"}), "ray.secret"),
        (values(ray={"resources": ["gpus=1"]}), "resources"),
        (values(worker={"extraArgs": ["rm -rf"]}), "extraArgs"),
    ],
)
def test_the_schema_of_the_values_refuses(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError) as caught:
        rendered(chosen)
    assert words in str(caught.value)


def test_the_schema_knows_every_value() -> None:
    """Nobody can set what the chart does not have, and everything that it has can be set."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), schema, "")


def compare(schema: Manifest, default: Any, root: Manifest, path: str) -> None:
    if "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema or schema["type"] != "object":
        return
    assert schema["additionalProperties"] is False, path
    assert set(schema["properties"]) - {"global"} == set(default), path
    for key, value in default.items():
        compare(schema["properties"][key], value, root, f"{path}.{key}")


def test_pods_may_do_next_to_nothing(manifests: list[Manifest]) -> None:
    ran = 0
    for deployment in (each for each in manifests if each["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001  # as docker/Dockerfile
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"readinessProbe", "livenessProbe"} <= container.keys() or container["name"] == "models"
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]}
            ran += container in pod["containers"]
        used = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert used == {volume["name"] for volume in pod["volumes"]}
    assert ran == len(containers(manifests)) >= 3


def test_secrets_are_named_and_never_told(manifests: list[Manifest]) -> None:
    assert not [each for each in manifests if each["kind"] == "Secret"]
    secret = re.compile(r"SECRET|TOKEN$|KEYS$|WORKER_JOBS$|ACCESS_KEY")
    for container in containers(manifests).values():
        for variable in container["env"]:
            if secret.search(variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable
                assert "value" not in variable
    for deployment in (each for each in manifests if each["kind"] == "Deployment"):
        for volume in deployment["spec"]["template"]["spec"]["volumes"]:
            if "secret" in volume:
                # Files of Secrets are root's; with fsGroup its group can read them.
                assert volume["secret"]["defaultMode"] & secret_files._GROUP == 0


def test_commands_take_what_they_are_given(manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command line is read by the command itself, with the variables that the pod sets."""
    monkeypatch.setattr(gateway_module.secret_files, "check", lambda *_: None)
    for container in (*containers(manifests).values(), *first(manifests)):
        name, *words = container["args"]
        command = COMMANDS[words.pop(0) if name == "ouzel" else name]
        known = {param.envvar: param for param in command.params if param.envvar}
        flags = {flag for param in command.params for flag in param.opts}
        assert {word.partition("=")[0] for word in words} <= flags
        own = {variable["name"]: variable.get("value") for variable in container["env"]}
        foreign = {each for each in own if not each.startswith("OUZEL_")}
        assert foreign <= bucket_variables() | _OF_OTHERS
        assert own.keys() - foreign - known.keys() <= _READ_BY_OTHERS
        with monkeypatch.context() as there:
            for variable, value in own.items():
                there.setenv(variable, value or "postgresql://user@host/database")
            if "OUZEL_AGENT_NODE" in own:  # the name of the pod
                there.setenv("OUZEL_AGENT_NODE", "demo-serving-1234")
            # Files are looked for at once by some options, and are not here.
            for param in command.params:
                if isinstance(param.type, click.Path):
                    there.setattr(param.type, "exists", False)
            context = command.make_context(name, list(words))
        assert not context.args
        given = {param for variable, param in known.items() if variable in own}
        assert all(context.params[param.name] not in (None, "") for param in given)


def first(manifests: list[Manifest]) -> list[Manifest]:
    """The containers that run before the others of their pods."""
    pods = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"]
    return [container for pod in pods for container in pod.get("initContainers", ())]


def bucket_variables() -> set[str]:
    text = (ROOT / "ouzel" / "buckets.py").read_text(encoding="utf-8")
    return set(re.findall(r"\bAWS_[A-Z_]+\b", text))


def test_other_commands_read_the_rest() -> None:
    makes = keys.commands["create"]
    assert {"OUZEL_KEYS", "OUZEL_GATEWAY_TENANTS"} <= {param.envvar for param in makes.params}


def test_ports_are_those_of_the_commands(manifests: list[Manifest]) -> None:
    found = containers(manifests)
    told = {
        name: {port["name"]: port["containerPort"] for port in each.get("ports", ())} for name, each in found.items()
    }
    assert told["torchserve"] == {}  # its callers are in the pod
    for name, flags in (
        ("gateway", {"rest": "rest-port", "grpc": "grpc-port", "gateway-metrics": "metrics-port"}),
        ("worker", {"grpc": "port", "worker-metrics": "metrics-port"}),
        ("agent", {"agent-metrics": "metrics-port"}),
    ):
        if name not in found:
            continue
        words = dict(word.partition("=")[::2] for word in found[name]["args"])
        given = {port: words.get(f"--{flag}") for port, flag in flags.items()}
        assert told[name] == {port: int(value) for port, value in given.items() if value is not None}
    for service in (each for each in manifests if each["kind"] == "Service"):
        name = service["metadata"]["name"].removeprefix("demo-")
        pods = of(manifests, "Deployment", "demo-serving" if name == "gateway" else "demo-worker")
        assert service["spec"]["selector"].items() <= pods["spec"]["template"]["metadata"]["labels"].items()
        for port in service["spec"]["ports"]:
            assert told[name][port["targetPort"]] == port["port"]
    target = next(word for word in found["gateway"]["args"] if word.startswith("--worker="))
    host, _, port = target.partition("=")[2].partition(":")
    assert of(manifests, "Service", host)["spec"]["ports"][0]["port"] == int(port)


def test_probes_ask_what_is_there(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        ports = {port["name"] for port in container.get("ports", ())}
        numbers = {port["containerPort"] for port in container.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in paths.PATHS
                assert probe["httpGet"]["port"] in ports
                tls = any(word.startswith("--tls-certificate") for word in container["args"])
                assert probe["httpGet"]["scheme"] == ("HTTPS" if tls else "HTTP")
            elif "grpc" in probe:
                assert probe["grpc"]["port"] in numbers
                assert name == "worker"  # whose health service needs no token
            elif "tcpSocket" in probe:
                assert probe["tcpSocket"]["port"] in ports
            elif "exec" in probe:
                asked = ["test", "-f", f"/state/{AGENT}"] if name == "agent" else ["ouzel", status.name]
                assert probe["exec"]["command"] == asked


def test_only_the_gateway_can_be_called() -> None:
    manifests = rendered(FULL)
    for component, ports in (("serving", {8000, 8001, 8003}), ("worker", {7090, 8092})):
        policy = of(manifests, "NetworkPolicy", f"demo-{component}")["spec"]
        labels = of(manifests, "Deployment", f"demo-{component}")["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
        assert all(rule.get("from") for rule in policy["ingress"])
        exposed = {port["containerPort"] for name in containers(manifests).values() for port in name.get("ports", ())}
        assert ports <= exposed
    serving = of(manifests, "Deployment", "demo-serving")["spec"]["template"]["metadata"]["labels"]
    calls = [
        rule
        for rule in of(manifests, "NetworkPolicy", "demo-worker")["spec"]["ingress"]
        if rule["ports"] == [{"port": 7090}]
    ]
    (peer,) = calls[0]["from"]
    assert peer["podSelector"]["matchLabels"].items() <= serving.items()
    egress = of(manifests, "NetworkPolicy", "demo-worker")["spec"]["egress"]
    (ray,) = [rule for rule in egress if {"port": 8265} in rule["ports"]]
    assert ray["to"][0]["podSelector"]["matchLabels"]["ray.io/cluster"] == "shared"
    assert ray["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ray"}


def test_budgets_are_of_the_pods(manifests: list[Manifest]) -> None:
    for component in ("serving", "worker"):
        budget = of(manifests, "PodDisruptionBudget", f"demo-{component}")
        labels = of(manifests, "Deployment", f"demo-{component}")["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_workers_follow_the_queue() -> None:
    manifests = rendered(FULL)
    scaler = of(manifests, "HorizontalPodAutoscaler")["spec"]
    deployment = of(manifests, scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert "replicas" not in deployment["spec"]  # else each upgrade would undo what it has chosen
    (rule,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "adapter.yml").read_text())["rules"]["external"]
    assert scaler["metrics"][0]["external"]["metric"]["name"] == rule["name"]["as"]
    listed = set(re.findall(r"`(ouzel_\w+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    for text in (rule["seriesQuery"], rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="ouzel"')):
        promql_parser.parse(text)
        assert re.findall(r'\bstate="(\w+)"', text) == [State.QUEUED.name]
        assert set(re.findall(r"\bouzel_\w+", text)) <= listed


def test_what_is_kept_survives_and_is_shared() -> None:
    least, full = rendered(values()), rendered(FULL)
    claims = {each["metadata"]["name"]: each for each in least if each["kind"] == "PersistentVolumeClaim"}
    assert set(claims) == {"demo-models", "demo-shared"}
    for claim in claims.values():
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert of(full, "PersistentVolumeClaim")["metadata"]["name"] == "demo-shared"
    for chosen, models in ((least, "demo-models"), (full, "store")):
        for deployment in (each for each in chosen if each["kind"] == "Deployment"):
            volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
            assert volumes["models"]["persistentVolumeClaim"]["claimName"] == models
            assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == "demo-shared"
    # What workers share lies on the claim that they share.
    places = dict(word.partition("=")[::2] for word in containers(least)["worker"]["args"])
    assert all(places[flag].startswith("/shared/") for flag in ("--artifacts", "--uploads", "--ledger"))


@pytest.mark.parametrize(
    ("chosen", "source", "claims"),
    [(BUCKETS, "s3://bucket/models", {"shared"}), (CHOICES["agents"], "/models", {"shared", "models"})],
    ids=["bucket", "claim"],
)
def test_agents_fill_what_torchserve_serves(chosen: dict[str, Any], source: str, claims: set[str]) -> None:
    manifests = rendered(chosen)
    (once,), found = first(manifests), containers(manifests)
    assert once["args"][1:4] == ["serving-agent", "--once", f"--from={source}"]
    assert f"--from={source}" in found["agent"]["args"]
    served = {
        name: {each["name"]: each.get("value") for each in container["env"]}["OUZEL_MODEL_STORE"]
        for name, container in {**found, "models": once}.items()
    }
    own = {name: place for name, place in served.items() if name != "worker"}
    assert own == dict.fromkeys(("torchserve", "agent", "gateway", "models"), "/served")
    assert served["worker"] == source  # what a job publishes is what the agents follow
    pod = of(manifests, "Deployment", "demo-serving")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["served"] == {"name": "served", "emptyDir": {}}  # of one pod alone
    for container in (once, found["agent"], found["torchserve"], found["gateway"]):
        mounts = {each["name"]: each for each in container["volumeMounts"]}
        assert mounts["served"]["mountPath"] == "/served"
        assert ("models" in mounts) == (source == "/models" and container in (once, found["agent"]))
    found_claims = {each["metadata"]["name"] for each in manifests if each["kind"] == "PersistentVolumeClaim"}
    assert found_claims == {f"demo-{each}" for each in claims}
    assert f"--serving-quorum={chosen['agents'].get('quorum', 1)}" in found["worker"]["args"]


def test_jobs_on_ray_see_what_the_worker_sees() -> None:
    """What the worker itself would refuse is not rendered: its own options are made of the flags."""
    given = [word.partition("=")[::2] for word in containers(rendered(BUCKETS))["worker"]["args"]]
    words = dict(given)
    assert words["--ray-address"] == "http://shared-head-svc.ray:8265"
    texts = [value for name, value in given if name == "--ray-resources"]
    ray = ray_options.RayOptions(
        address=words["--ray-address"],
        python=words["--ray-python"],
        resources=ray_options.resources(texts, ["finetune"]),
    )
    options = WorkerOptions(
        store="postgresql://user@host/database",
        artifacts=words["--artifacts"],
        uploads=words["--uploads"],
        ledger=Path(words["--ledger"]),
        models="s3://bucket/models",
        serving_quorum=int(words["--serving-quorum"]),
        ray=ray,
    )
    assert options.environment.quorum == 2
    assert (options.artifact_place, options.upload_place) == ("s3://bucket/artifacts", "s3://bucket/datasets")


def test_a_stop_leaves_time_for_checkpoints(manifests: list[Manifest]) -> None:
    pod = of(manifests, "Deployment", "demo-worker")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 30  # s that the worker gives its jobs
    serving = of(manifests, "Deployment", "demo-serving")["spec"]["template"]["spec"]
    grace = next(param.default for param in gateway.params if param.name == "grace")
    assert serving["terminationGracePeriodSeconds"] > grace


def test_tenants_can_be_read(manifests: list[Manifest]) -> None:
    text = of(manifests, "ConfigMap")["data"]["tenants.toml"]
    assert parse(text.encode(), Path("tenants.toml")).tenants.keys() == {"acme"}


def test_two_releases_do_not_meet() -> None:
    """Names and selectors of one release are not those of another in the same namespace."""
    one, two = rendered(values(), "one"), rendered(values(), "two")
    names = [{(each["kind"], each["metadata"]["name"]) for each in release} for release in (one, two)]
    assert not names[0] & names[1]
    for name in ("serving", "worker"):
        labels = of(two, "Deployment", f"two-{name}")["spec"]["template"]["metadata"]["labels"]
        assert not of(one, "Deployment", f"one-{name}")["spec"]["selector"]["matchLabels"].items() <= labels.items()
