"""A Prometheus collector over a mirror or an engine: contexts, what became of them, and how fresh that is."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from wfpsa.engine import Engine
from wfpsa.families import FAMILIES, METRIC_FIELDS, TOP_PEERS_MAX, Family, Reader, Reading
from wfpsa.mirror import Mirror

__all__ = ["METRIC_FIELDS", "TOP_PEERS_MAX", "WfpsaCollector"]

_UNITS = {"s": "_seconds", "By": "_bytes"}
"""How names end, by the unit; what is counted is in a name anyway."""


class WfpsaCollector(Collector):
    """Collects from a mirror, which costs no enumeration, or from an engine, which is listed at each scrape.

    A mirror needs the columns `METRIC_FIELDS`; `engine` beside it is asked for the counters of IPsecGetStatistics1 (an
    engine as source is asked anyway). `top_peers` names that many remote addresses with the most contexts (0: none,
    `TOP_PEERS_MAX` at most); the contexts of all others are a metric, too. Where the engine does not answer, the last
    state is shown, `wfpsa_up` is 0 and `wfpsa_state_age_seconds` grows.

    Raises TypeError or ValueError for bad arguments.
    """

    def __init__(self, source: Mirror | Engine, *, engine: Engine | None = None, top_peers: int = 0) -> None:
        self._reader = Reader(source, engine=engine, top_peers=top_peers)

    def describe(self) -> Iterable[Metric]:
        """The families without a series, so that one may be asked for by name; registering it calls no engine."""
        for family in FAMILIES:
            yield Metric(_name(family), "", family.kind)

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        yield from map(_shown, self._reader.read())


def _name(family: Family) -> str:
    return family.name.removesuffix(".info").replace(".", "_") + _UNITS.get(family.unit, "")


def _shown(reading: Reading) -> Metric:
    family = reading.family
    if family.kind == "info":
        info = InfoMetricFamily(_name(family), family.text)
        for point in reading.points:
            info.add_metric((), dict(zip(family.labels, point.labels, strict=True)))
        return info
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(_name(family), family.text, labels=family.labels)
        for point in reading.points:
            histogram.add_metric(point.labels, point.buckets, point.value)
        return histogram
    of_kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = of_kind(_name(family), family.text, labels=family.labels)
    for point in reading.points:
        metric.add_metric(point.labels, point.value)
    return metric
