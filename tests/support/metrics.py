"""Metrics of running parts, read as Prometheus reads them."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families


class Metrics:
    """What a port tells at one moment."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=30) as answer:
            self.text = answer.read().decode()
        self.samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.text):
            for each in family.samples:
                self.samples.setdefault(each.name, []).append((each.labels, each.value))

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples with these labels; 0 if there is none."""
        rows = self.samples.get(name, [])
        return sum(value for has, value in rows if labels.items() <= has.items())

    def values_of(self, name: str, label: str) -> set[str]:
        return {has[label] for has, _ in self.samples.get(name, [])}
