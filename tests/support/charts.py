"""Helm's own engine, which comes in a wheel, on the chart of this checkout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "ouzel"
Manifest = dict[str, Any]
NEEDED: Mapping[str, Any] = {"postgres": {"secret": "jobs-db"}, "worker": {"tokens": {"secret": "owners"}}}


def values(**more: Any) -> dict[str, Any]:
    """What the chart cannot do without, and `more`, merged as Helm merges values."""
    return _merged(NEEDED, more)


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(first)
    for key, value in second.items():
        mine = both.get(key)
        both[key] = _merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both


def rendered(chosen: Mapping[str, Any], name: str = "demo", namespace: str = "ouzel") -> list[Manifest]:
    """The manifests that `helm install` would send, in no order. Values that the schema refuses raise."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(dict(chosen))
        texts = chart.render(dict(chosen), name=name, namespace=namespace)
    files = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [each for text in files for each in yaml.safe_load_all(text) if each]


def of(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of a kind, or of a kind and a name."""
    found = [each for each in manifests if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    assert len(found) == 1, [(each["kind"], each["metadata"]["name"]) for each in manifests]
    return found[0]


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Containers of all deployments by their names."""
    pods = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "Deployment"]
    found = [container for pod in pods for container in pod["containers"]]
    by_name = {each["name"]: each for each in found}
    assert len(by_name) == len(found)
    return by_name
