"""The metrics through OpenTelemetry: the collector's values, one reading an export, and nothing left after close."""

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, MeterProvider, NoOpMeter, NoOpMeterProvider, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Metric, Sum
from prometheus_client import CollectorRegistry
from support import run_python, run_together

import wfpsa
import wfpsa.otel as otel_module
from wfpsa import Statistics, _native, testing
from wfpsa.families import FAMILIES, Reader, Reading
from wfpsa.metrics import WfpsaCollector
from wfpsa.otel import METRIC_FIELDS, TOP_PEERS_MAX, instrument

WAIT = 60.0
"""Seconds for what must come."""
Series = tuple[str, frozenset[tuple[str, str]]]
Values = dict[Series, float]


class Exports:
    """A meter provider of the SDK, and what it exports."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = sdk.MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self) -> list[Metric]:
        """One export."""
        data = self.reader.get_metrics_data()
        return [] if data is None else [each for resource in data.resource_metrics for each in scoped(resource)]

    def values(self) -> Values:
        """The series of one export, each of which is there once."""
        points = [(metric.name, point) for metric in self.metrics() for point in metric.data.data_points]
        found = {(name, frozenset(dict(point.attributes).items())): point.value for name, point in points}
        assert len(found) == len(points)
        return found


def scoped(resource: Any) -> list[Metric]:
    """The metrics of a resource, all of which are wfpsa's."""
    assert [scope.scope.name for scope in resource.scope_metrics] == ["wfpsa"]
    return list(resource.scope_metrics[0].metrics)


@pytest.fixture
def exports() -> Exports:
    return Exports()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export stays one, however busy the machine is."""
    monkeypatch.setattr(otel_module, "MOMENT", WAIT)


@pytest.fixture
def mirror(engine: wfpsa.Engine) -> Iterator[wfpsa.Mirror]:
    """A mirror of the engine with no more than what a scrape looks at, which lists nothing by itself."""
    with engine.mirror(fields=METRIC_FIELDS, reconcile_every=None) as opened:
        yield opened


def series(name: str, **attributes: str) -> Series:
    return name, frozenset(attributes.items())


def of(values: Values, *names: str) -> Values:
    """Those of the series that have these names."""
    return {each: value for each, value in values.items() if each[0] in names}


UP, AGE = series("wfpsa.up"), series("wfpsa.state.age")
FAILURES = "wfpsa.engine.call.failures"
CALLS, SECONDS = "wfpsa.engine.call.duration.count", "wfpsa.engine.call.duration.sum"


def calls(values: Values) -> dict[str, float]:
    return {dict(attributes)["call"]: value for (_, attributes), value in of(values, CALLS).items()}


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a call of the engine's each: what it was asked for."""
    made: list[str] = []
    listed, counted = wfpsa.Engine.snapshot, wfpsa.Engine.statistics

    def snapshot(self: wfpsa.Engine, **options: Any) -> wfpsa.SaBatch:
        made.append("snapshot")
        return listed(self, **options)

    def statistics(self: wfpsa.Engine) -> Statistics:
        made.append("statistics")
        return counted(self)

    monkeypatch.setattr(wfpsa.Engine, "snapshot", snapshot)
    monkeypatch.setattr(wfpsa.Engine, "statistics", statistics)
    return made


# --- The same as the collector --------------------------------------------------------------------


def exporters_name(name: str, unit: str) -> str:
    """What OpenTelemetry's exporters to Prometheus make of a name and a unit."""
    return name.replace(".", "_") + {"s": "_seconds", "By": "_bytes"}.get(unit, "")


def named_by_prometheus(metrics: list[Metric]) -> Values:
    """The series of an export, as such an exporter would show them."""
    found = {}
    for metric in metrics:
        name = exporters_name(metric.name, metric.unit)
        name += "_total" if isinstance(metric.data, Sum) and metric.data.is_monotonic else ""
        for point in metric.data.data_points:
            found[name, frozenset(dict(point.attributes).items())] = point.value
    return found


def scraped(collector: WfpsaCollector) -> Values:
    registry = CollectorRegistry()
    registry.register(collector)
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def comparable(values: Values) -> Values:
    """What two views that read one after the other must agree on: no times."""
    return {
        each: value for each, value in values.items() if not re.search(r"call_duration|state_age|_created", each[0])
    }


@pytest.mark.parametrize("over", ["engine", "mirror", "mirror alone"])
@pytest.mark.parametrize("top_peers", [0, 5, TOP_PEERS_MAX])
@pytest.mark.parametrize(("count", "odd"), [(0, False), (700, False), (2_000, True)])
def test_the_values_are_the_collectors(
    mirror: wfpsa.Mirror,
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    exports: Exports,
    over: str,
    top_peers: int,
    count: int,
    odd: bool,
) -> None:
    embedded.seed(count, 3, odd=odd)
    engine.expire(engine.snapshot()[: count // 10])
    mirror.reconcile(WAIT)
    count = len(engine.snapshot())  # an expired one without an inbound SA is gone
    source = engine if over == "engine" else mirror
    beside = engine if over == "mirror" else None
    end = time.monotonic() + WAIT
    while True:  # until nothing happened meanwhile: the mirror reads what it was told at a time of its own
        expected = scraped(WfpsaCollector(source, engine=beside, top_peers=top_peers))
        with instrument(source, engine=beside, top_peers=top_peers, meter_provider=exports.provider):
            metrics = exports.metrics()
        if comparable(scraped(WfpsaCollector(source, engine=beside, top_peers=top_peers))) == comparable(expected):
            break
        assert time.monotonic() < end
    found = named_by_prometheus(metrics)
    assert comparable(found) == comparable(expected)
    assert sum(value for (name, _), value in found.items() if name == "wfpsa_contexts") == count
    counts, sums = "wfpsa_engine_call_duration_count_total", "wfpsa_engine_call_duration_sum_seconds_total"
    for (_, labels), before in of(expected, "wfpsa_engine_call_duration_seconds_count").items():
        assert found[counts, labels] >= before
        assert found[sums, labels] >= expected["wfpsa_engine_call_duration_seconds_sum", labels] > 0


def test_what_adds_up_is_a_sum_and_an_age_is_a_gauge(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, exports: Exports
) -> None:
    with instrument(mirror, engine=engine, top_peers=3, meter_provider=exports.provider):
        found = {metric.name: metric for metric in exports.metrics()}
    kinds = {family.name: family.kind for family in FAMILIES if family.kind != "histogram"}
    assert {name for name, metric in found.items() if isinstance(metric.data, Gauge)} == {"wfpsa.state.age"}
    for name, metric in found.items():
        assert isinstance(metric.data, Gauge) or metric.data.is_monotonic == (kinds.get(name, "counter") == "counter")
    assert set(found) == {*kinds, CALLS, SECONDS} - {"wfpsa.peer.contexts"}, "an empty engine has no peers"


def test_names_and_units_are_by_the_conventions(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    embedded.seed(50, 1)
    mirror.reconcile(WAIT)
    with instrument(mirror, engine=engine, top_peers=3, meter_provider=exports.provider):
        metrics = exports.metrics()
    names = [metric.name for metric in metrics]
    assert len(names) == len(set(names)) > len(Statistics._fields)
    texts = [metric.description for metric in metrics]
    assert len(texts) == len(set(texts))
    for metric in metrics:
        assert re.fullmatch(r"wfpsa(\.[a-z][a-z0-9_]*)+", metric.name)
        assert not {"total", "seconds", "bytes", "byte", "s", "gauge", "counter"} & set(re.split(r"[._]", metric.name))
        assert metric.unit in ("s", "By") or re.fullmatch(r"\{[a-z]+\}", metric.unit), metric.name
        assert re.fullmatch(r"[A-Z0-9].+\.", metric.description) and len(metric.description) <= 120
    units = {metric.name: metric.unit for metric in metrics}
    assert units["wfpsa.contexts"] == units["wfpsa.expired_contexts"] == "{context}"
    assert units["wfpsa.state.age"] == units[SECONDS] == "s"
    assert units["wfpsa.engine.active_sas"] == "{sa}"
    assert units["wfpsa.engine.inbound_encrypted"] == "By"
    assert units["wfpsa.engine.drop_packets_inbound"] == "{packet}"


def test_no_name_is_another_ones_namespace() -> None:
    names = [family.name for family in FAMILIES]
    assert [each for each in names if any(other.startswith(f"{each}.") for other in names)] == []


def test_the_scope_is_the_package_and_its_version(
    engine: wfpsa.Engine, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel_module, "wfpsa_version", lambda: "9.8")
    with instrument(engine, meter_provider=exports.provider):
        data = exports.reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("wfpsa", "9.8")


# --- Peers ----------------------------------------------------------------------------------------


def peers(values: Values) -> dict[str, float]:
    return {dict(attributes)["peer"]: value for (_, attributes), value in of(values, "wfpsa.peer.contexts").items()}


def test_peers_are_named_only_where_that_was_asked_for(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    embedded.seed(100, 1)
    with instrument(engine, meter_provider=exports.provider):
        assert not [name for name, _ in exports.values() if "peer" in name]
    with instrument(engine, top_peers=2, meter_provider=exports.provider):
        values = exports.values()
        assert len(peers(values)) == 2
        assert sum(peers(values).values()) + values[series("wfpsa.other_peer.contexts")] == 100


def test_a_peer_that_is_not_among_the_first_any_more_is_not_shown_any_more(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    ids = [embedded.add("10.0.0.1", "10.0.0.9") for _ in range(3)]
    embedded.add("10.0.0.1", "10.0.0.8")
    with instrument(engine, top_peers=1, meter_provider=exports.provider):
        assert peers(exports.values()) == {"10.0.0.9": 3}
        for number in ids:
            engine.delete(number)
        assert peers(exports.values()) == {"10.0.0.8": 1}


# --- One reading an export ------------------------------------------------------------------------


def test_an_export_lists_once_and_instrumenting_lists_nothing(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports, readings: list[str]
) -> None:
    before = {kind: sum(within) for kind, (within, _, _) in _native.calls().items()}
    with instrument(engine, top_peers=5, meter_provider=exports.provider):
        assert readings == []
        for turn in (1, 2, 3):
            embedded.add()
            values = exports.values()
            assert readings == ["snapshot", "statistics"] * turn
            assert sum(of(values, "wfpsa.contexts").values()) == turn, "an export shows what is, not what was"
            assert calls(values)["statistics"] - before.get("statistics", 0) == turn
            assert calls(values)["enumerate"] - before.get("enumerate", 0) == 3 * turn, "a handle, a page, its end"


def test_an_export_over_a_mirror_lists_nothing(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports, readings: list[str]
) -> None:
    embedded.seed(50, 1)
    mirror.reconcile(WAIT)
    with instrument(mirror, engine=engine, top_peers=3, meter_provider=exports.provider):
        for turn in (1, 2):
            assert sum(of(exports.values(), "wfpsa.contexts").values()) == 50
            assert readings == ["statistics"] * turn


def test_each_reader_of_a_provider_gets_a_reading_of_its_own(engine: wfpsa.Engine, readings: list[str]) -> None:
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    provider = sdk.MeterProvider(readers, shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider):
        for reader in (*readers, *readers):
            assert reader.get_metrics_data() is not None
    assert readings == ["snapshot", "statistics"] * 4


def test_threads_may_export_at_once(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports, readings: list[str]
) -> None:
    embedded.seed(300, 1)
    elsewhere = Exports()
    with (
        instrument(engine, meter_provider=exports.provider),
        instrument(engine, meter_provider=elsewhere.provider),
    ):

        def several(each: Exports) -> None:
            for _ in range(5):
                assert sum(of(each.values(), "wfpsa.contexts").values()) == 300

        run_together(lambda: several(exports), lambda: several(exports), lambda: several(elsewhere))
    assert readings.count("snapshot") == readings.count("statistics") == 15


class Meter(NoOpMeter):
    """Keeps the callbacks of the instruments that are created, which a test then calls in an order of its own."""

    def __init__(self) -> None:
        super().__init__("of a test")
        self.callbacks: dict[str, Callable[[CallbackOptions], list[Observation]]] = {}

    def create_observable_gauge(self, name: str, callbacks: Any = None, unit: str = "", description: str = "") -> Any:
        (self.callbacks[name],) = callbacks
        return super().create_observable_gauge(name, callbacks, unit, description)

    create_observable_counter = create_observable_up_down_counter = create_observable_gauge


class Provider(MeterProvider):
    """Of one such meter."""

    def __init__(self) -> None:
        self.meter = Meter()

    def get_meter(self, *_: Any, **__: Any) -> Meter:
        return self.meter

    def ask(self, *names: str) -> list[float | None]:
        """What the instruments show first, in that order."""
        answers = [self.meter.callbacks[name](CallbackOptions()) for name in names]
        return [answer[0].value if answer else None for answer in answers]


def test_any_order_of_the_callbacks_is_one_reading(engine: wfpsa.Engine, readings: list[str]) -> None:
    provider = Provider()
    with instrument(engine, meter_provider=provider):
        for turn, names in enumerate((list(provider.meter.callbacks), sorted(provider.meter.callbacks)), 1):
            provider.ask(*names)
            assert readings.count("snapshot") == turn


def test_an_export_that_was_given_up_or_began_before_does_not_leave_the_next_one_old_values(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, readings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider()
    with instrument(engine, meter_provider=provider):
        embedded.add()
        assert provider.ask("wfpsa.up", "wfpsa.contexts") == [1, 1]
        embedded.add()
        assert provider.ask("wfpsa.up", "wfpsa.contexts") == [1, 2], "who asks again is in the next export"
        monkeypatch.setattr(otel_module, "MOMENT", 0.01)
        embedded.add()
        time.sleep(0.02)
        assert provider.ask("wfpsa.engine.active_sas") == [6], "so is who asks later"
        assert readings.count("snapshot") == 3


def test_what_was_asked_of_one_source_is_not_taken_for_an_export_of_the_next(engine: wfpsa.Engine) -> None:
    provider = Provider()
    for _ in range(2):
        with instrument(engine, meter_provider=provider):
            assert provider.ask("wfpsa.contexts", "wfpsa.up") == [0, 1]
        assert provider.ask("wfpsa.up") == [None]
    with instrument(engine, meter_provider=provider):
        assert provider.ask("wfpsa.engine.active_sas") == [0]


def test_what_cannot_be_read_at_all_fails_once_an_export(
    engine: wfpsa.Engine, exports: Exports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def read(self: Reader) -> list[Reading]:
        tried.append(self)
        raise RuntimeError("no reading")

    with instrument(engine, meter_provider=exports.provider):
        before = exports.values()
        with monkeypatch.context() as patched:
            patched.setattr(Reader, "read", read)
            assert exports.values() == {}
            assert exports.values() == {}
        assert len(tried) == 2 and caplog.text.count("Callback failed") == 2
        assert exports.values().keys() == before.keys()
    tried.clear()
    caplog.clear()


# --- Bad days -------------------------------------------------------------------------------------


def test_the_last_state_and_its_age_are_shown_where_the_engine_is_gone(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    def lasting(values: Values) -> Values:
        return {each: value for each, value in values.items() if not re.search(r"call|\.up|age", each[0])}

    embedded.seed(200, 1, odd=True)
    with instrument(engine, top_peers=5, meter_provider=exports.provider):
        before = exports.values()
        embedded.stop_service()
        time.sleep(0.05)
        after = exports.values()
        assert before[UP] == 1 and after[UP] == 0
        assert lasting(before) == lasting(after) and before[AGE] + 0.02 < after[AGE] < WAIT
        failures = {dict(each)["call"]: count for (_, each), count in of(after, FAILURES).items()}
        grown = {
            call: count - of(before, FAILURES)[FAILURES, frozenset({("call", call)})]
            for call, count in failures.items()
        }
        assert {call: count for call, count in grown.items() if count} == {"enumerate": 1, "statistics": 1}


def test_an_engine_that_never_answered_has_no_state_and_no_age(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.stop_service()
    with instrument(engine, top_peers=5, meter_provider=exports.provider):
        values = exports.values()
    assert values[UP] == 0 and AGE not in values
    assert of(values, "wfpsa.contexts", "wfpsa.other_peer.contexts", "wfpsa.engine.active_sas") == {}
    assert caplog.text == "", "the SDK has nothing to complain of"


# --- Close ----------------------------------------------------------------------------------------


def test_after_close_nothing_is_shown_and_nothing_is_read(
    engine: wfpsa.Engine, exports: Exports, readings: list[str]
) -> None:
    shown = instrument(engine, meter_provider=exports.provider)
    assert exports.values()
    shown.close()
    readings.clear()
    assert exports.values() == {} and readings == []
    shown.close()
    with instrument(engine, meter_provider=exports.provider):
        shown.close()
        assert exports.values(), "closing again does not close another one"


def test_after_close_neither_the_source_nor_the_last_state_is_held(
    embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    embedded.seed(100, 1)
    engine = embedded.open()
    mirror = engine.mirror(fields=METRIC_FIELDS)
    shown = instrument(mirror, engine=engine, top_peers=3, meter_provider=exports.provider)
    exports.values()
    gone = [weakref.ref(engine), weakref.ref(mirror), weakref.ref(shown._reader)]
    mirror.close()
    engine.close()
    shown.close()
    del mirror, engine
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert testing.live_counters()["engines"] == 0
    assert exports.values() == {}


def test_a_source_is_held_until_then_though_nobody_keeps_what_was_returned(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, exports: Exports
) -> None:
    embedded.seed(10, 1)
    instrument(engine, meter_provider=exports.provider)
    gc.collect()
    assert sum(of(exports.values(), "wfpsa.contexts").values()) == 10


def test_a_meter_provider_that_is_gone_holds_nothing(embedded: testing.EmbeddedEngine) -> None:
    exports = Exports()
    engine = embedded.open()
    instrument(engine, meter_provider=exports.provider)
    exports.values()
    gone = weakref.ref(engine), weakref.ref(exports.provider)
    exports.provider.shutdown()
    del exports, engine
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_provider_shows_one_source_at_a_time_and_any_number_one_after_the_other(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, mirror: wfpsa.Mirror, exports: Exports
) -> None:
    embedded.seed(30, 1)
    mirror.reconcile(WAIT)
    elsewhere = Exports()
    with instrument(engine, meter_provider=exports.provider):
        with pytest.raises(ValueError, match=r"meter_provider shows a source of wfpsa's already: close\(\) that"):
            instrument(mirror, meter_provider=exports.provider)
        with instrument(mirror, meter_provider=elsewhere.provider):
            assert series("wfpsa.mirror.gaps") in elsewhere.values()
        assert series("wfpsa.mirror.gaps") not in exports.values()
    for _ in range(2):
        with instrument(mirror, top_peers=1, meter_provider=exports.provider):
            values = exports.values()
            assert series("wfpsa.mirror.gaps") in values and sum(of(values, "wfpsa.contexts").values()) == 30
            assert series("wfpsa.engine.active_sas") not in values


def test_close_waits_for_a_reading_that_goes_on(
    engine: wfpsa.Engine, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    listed = wfpsa.Engine.snapshot

    def snapshot(self: wfpsa.Engine, **options: Any) -> wfpsa.SaBatch:
        began.set()
        assert go_on.wait(WAIT)
        return listed(self, **options)

    monkeypatch.setattr(wfpsa.Engine, "snapshot", snapshot)
    shown = instrument(engine, meter_provider=exports.provider)
    exporting = threading.Thread(target=exports.values)
    closing = threading.Thread(target=shown.close)
    exporting.start()
    assert began.wait(WAIT)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    closing.join(WAIT)
    exporting.join(WAIT)
    assert not closing.is_alive() and not exporting.is_alive()
    assert exports.values() == {}


def test_a_signal_handler_may_close_what_its_own_thread_reads(
    engine: wfpsa.Engine, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader.read

    def interrupted(self: Reader) -> list[Reading]:
        found = read(self)
        shown.close()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "read", interrupted)
        shown = instrument(engine, meter_provider=exports.provider)
        assert exports.values() == {}
    with instrument(engine, meter_provider=exports.provider):
        assert exports.values()[UP] == 1


# --- The global meter provider, and what is not installed -----------------------------------------

GLOBAL = """
import wfpsa
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from wfpsa.otel import instrument

reader = InMemoryMetricReader()

def contexts():
    data = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics[0].metrics if data else []
    return sum(point.value for each in found if each.name == "wfpsa.contexts" for point in each.data.data_points)

with wfpsa.open_engine("embedded:?contexts=7") as engine:
    first = instrument(engine)  # before there is a provider
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    shown = [contexts()]
    try:
        instrument(engine)
    except ValueError as error:
        shown.append("already" in str(error))
    first.close()
    shown.append(contexts())
    with instrument(engine):
        shown.append(contexts())
    with instrument(engine, meter_provider=metrics.get_meter_provider()):
        shown.append(contexts())
print(shown)
"""
NO_SDK = """
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["prometheus_client"] = None
import wfpsa
from wfpsa.otel import instrument
with wfpsa.open_engine("embedded:") as engine, instrument(engine):
    print("nobody looks")
"""
NO_API = """
import sys
sys.modules["opentelemetry"] = None
try:
    import wfpsa.otel
except ImportError as error:
    print(error, error.name)
"""


def test_the_global_meter_provider_may_be_set_afterwards() -> None:
    assert run_python(GLOBAL) == "[7, True, 0, 7, 7]\n"


def test_neither_the_sdk_nor_prometheus_client_is_needed() -> None:
    assert run_python(NO_SDK) == "nobody looks\n"


def test_without_the_api_it_says_what_to_install() -> None:
    printed = "wfpsa.otel needs opentelemetry-api: python -m pip install 'wfpsa[otel]' opentelemetry\n"
    assert run_python(NO_API) == printed


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "embedded:", 1, object])
def test_what_is_no_source_is_a_type_error_that_says_what_would_be(wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"source must be a wfpsa\.Mirror or .*Engine, not {type(wrong).__name__}"):
        instrument(wrong)


@pytest.mark.parametrize("wrong", ["global", 0, sdk.MeterProvider, NoOpMeter("a meter")])
def test_what_is_no_meter_provider_is_a_type_error_that_says_so(engine: wfpsa.Engine, wrong: Any) -> None:
    pattern = rf"meter_provider must be an .*MeterProvider or None, not {type(wrong).__name__}"
    with pytest.raises(TypeError, match=pattern):
        instrument(engine, meter_provider=wrong)


def test_other_arguments_are_refused_as_the_collector_refuses_them(engine: wfpsa.Engine, mirror: wfpsa.Mirror) -> None:
    provider = NoOpMeterProvider()
    with pytest.raises(TypeError, match=r"engine must be a wfpsa\.Engine or None, not str"):
        instrument(mirror, engine="embedded:", meter_provider=provider)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="top_peers must be an int, not bool"):
        instrument(engine, top_peers=True, meter_provider=provider)
    with pytest.raises(ValueError, match=f"top_peers must be 0 to {TOP_PEERS_MAX}, not {TOP_PEERS_MAX + 1}"):
        instrument(engine, top_peers=TOP_PEERS_MAX + 1, meter_provider=provider)
    with (
        engine.mirror(fields=["context_id", "spi_in"]) as lacking,
        pytest.raises(ValueError, match=f"the mirror lacks the columns {', '.join(METRIC_FIELDS[1:])}$"),
    ):
        instrument(lacking, meter_provider=provider)
    with pytest.raises(TypeError):
        instrument(engine, None)  # type: ignore[misc]
    instrument(engine, meter_provider=provider).close()  # what was refused is not in the way
