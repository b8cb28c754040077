"""The numbers of an agent, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ouzel.registry.reports import AgentReport, Serves


class AgentGauges(Collector):
    """What the agent tells now.

    Args:
        report: Gives it.
    """

    def __init__(self, report: Callable[[], AgentReport]) -> None:
        self._report = report

    def describe(self) -> Iterator[Metric]:
        """Nothing: else it would be looked at when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        report = self._report()
        counts = Counter(each.state for versions in report.versions.values() for each in versions.values())
        family = GaugeMetricFamily("ouzel_agent_versions", "Versions of models on this node.", labels=["state"])
        for state in Serves:
            family.add_metric([state.value], counts[state])
        yield family
        yield _gauge("torchserve_up", "Whether TorchServe answers the agent.", report.serving)
        yield _gauge("following", "Whether all is as the store says: nothing keeps the agent from it.", not report.note)


def _gauge(name: str, words: str, value: bool) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ouzel_agent_{name}", words, value=float(value))
