"""The Prometheus collector: its text parses and is named well, says what a snapshot does, and outlives bad days."""

import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support import run_python, run_together

import wfpsa
import wfpsa.mirror as mirror_module
from wfpsa import (
    CipherType,
    ExpiryPlan,
    Outcome,
    Statistics,
    Traffic,
    TrafficType,
    TransformType,
    _native,
    testing,
)
from wfpsa.metrics import METRIC_FIELDS, TOP_PEERS_MAX, WfpsaCollector
from wfpsa.report import outcome_totals
from wfpsa.statistics import NOW

WAIT = 60.0
"""Seconds for what must come."""
ACCESS_DENIED = 5
FWP_E_TIMEOUT = 0x80320012
Key = tuple[str, frozenset[tuple[str, str]]]
Values = dict[Key, float]


# --- Scraping -------------------------------------------------------------------------------------


def text_of(*collectors: WfpsaCollector) -> str:
    """What a scrape answers."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


def families(collector: WfpsaCollector) -> list[Metric]:
    """The families of a scrape, as prometheus-client's parser reads them."""
    return list(text_string_to_metric_families(text_of(collector)))


def key(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


def scrape(collector: WfpsaCollector) -> Values:
    """The series of a scrape, each of which is there once."""
    samples = [sample for family in families(collector) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


class Calls:
    """How many calls of each kind this process made since, and how many of them failed, as a scrape shows them."""

    def __init__(self) -> None:
        now = _native.calls()
        self._made = Counter({kind: sum(within) for kind, (within, _, _) in now.items()})
        self._failed = Counter({kind: failures for kind, (_, _, failures) in now.items()})

    def grown(self, values: Values) -> Counter[str]:
        return by_call(values, "wfpsa_engine_call_duration_seconds_count") - self._made

    def failed(self, values: Values) -> Counter[str]:
        return by_call(values, "wfpsa_engine_call_failures_total") - self._failed


def by_call(values: Values, name: str) -> Counter[str]:
    return Counter({dict(labels)["call"]: int(value) for (_, labels), value in of(values, name).items()})


def of(values: Values, *names: str) -> Values:
    """Those of the series that have these names."""
    return {each: value for each, value in values.items() if each[0] in names}


UP, AGE = key("wfpsa_up"), key("wfpsa_state_age_seconds")
BY = (
    "wfpsa_contexts",
    "wfpsa_address_family_contexts",
    "wfpsa_traffic_type_contexts",
    "wfpsa_transform_contexts",
    "wfpsa_cipher_contexts",
)
"""The families that count all contexts by something."""
MIRROR = ("changes", "gaps", "lost_events", "resyncs", "reads")


# --- The model ------------------------------------------------------------------------------------


def shown(value: int | None, names: dict[int, str]) -> str:
    return "none" if value is None else names.get(int(value), "other")


def names_of(enumeration: type[TrafficType] | type[TransformType] | type[CipherType]) -> dict[int, str]:
    return {member.value: member.name.lower() for member in enumeration}


SIDES = {(True, True): "both", (True, False): "inbound", (False, True): "outbound", (False, False): "none"}
FAMILIES, TRAFFIC = {4: "ipv4", 6: "ipv6"}, names_of(TrafficType)
TRANSFORMS, CIPHERS = names_of(TransformType), names_of(CipherType)


def modelled(batch: wfpsa.SaBatch) -> Counter[Key]:
    """The series of the families in BY that are not 0, counted row by row."""
    found: Counter[Key] = Counter()
    columns = {name: batch[name].tolist() for name in METRIC_FIELDS}
    for row in (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)):
        found[key("wfpsa_contexts", sas=SIDES[row["has_inbound"], row["has_outbound"]])] += 1
        found[key("wfpsa_address_family_contexts", family=shown(row["ip_version"], FAMILIES))] += 1
        found[key("wfpsa_traffic_type_contexts", type=shown(row["traffic_type"], TRAFFIC))] += 1
        for side in ("in", "out"):
            transform, cipher = row[f"transform_{side}"], row[f"cipher_type_{side}"]
            direction = f"{side}bound"
            found[key("wfpsa_transform_contexts", direction=direction, transform=shown(transform, TRANSFORMS))] += 1
            found[key("wfpsa_cipher_contexts", direction=direction, cipher_type=shown(cipher, CIPHERS))] += 1
    return found


def assert_counts(values: Values, batch: wfpsa.SaBatch) -> None:
    """The series of the families in BY are the batch's; each family counts every context once, or once a direction."""
    found, expected = of(values, *BY), modelled(batch)
    assert {each: value for each, value in found.items() if value} == expected
    assert_sums(found, len(batch))


def assert_sums(values: Values, count: int) -> None:
    sums: Counter[tuple[str, str | None]] = Counter()
    for (name, labels), value in of(values, *BY).items():
        sums[name, dict(labels).get("direction")] += int(value)
    assert sums == {(name, None): count for name in BY[:3]} | {
        (name, direction): count for name in BY[3:] for direction in ("inbound", "outbound")
    }


@pytest.fixture
def mirror(engine: wfpsa.Engine) -> Iterator[wfpsa.Mirror]:
    """A mirror of the engine with no more than what a scrape looks at, which lists nothing by itself."""
    with engine.mirror(fields=METRIC_FIELDS, reconcile_every=None) as opened:
        yield opened


def until(reached: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + WAIT
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)


# --- The text, and how things are named -----------------------------------------------------------


@pytest.fixture
def text(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> str:
    """A scrape with every family that there is."""
    embedded.seed(300, 1, odd=True)
    with engine.mirror(fields=METRIC_FIELDS) as mirror:
        return text_of(WfpsaCollector(mirror, engine=engine, top_peers=5))


def test_the_text_parses_and_names_each_family_and_series_once(text: str) -> None:
    parsed = list(text_string_to_metric_families(text))
    names = [family.name for family in parsed]
    assert len(names) == len(set(names)) > len(Statistics._fields)
    assert {"wfpsa_info", "wfpsa_up", "wfpsa_state_age_seconds", "wfpsa_other_peer_contexts", *BY} <= set(names)
    assert {f"wfpsa_mirror_{name}" for name in MIRROR} <= set(names)
    for line in ("HELP", "TYPE"):
        stated = re.findall(rf"^# {line} (\S+)", text, re.M)
        assert len(stated) == len(set(stated)) == len(names)
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series)) == sum(len(family.samples) for family in parsed)


UNIT_PARTS = {"seconds", "bytes"}
OTHER_UNITS = {
    *("s", "ms", "us", "ns", "sec", "secs", "min", "mins", "hr", "hrs", "milliseconds", "microseconds", "nanoseconds"),
    *("minutes", "hours", "days", "b", "kb", "mb", "gb", "kib", "mib", "bits", "byte", "kilobytes", "megabytes"),
    *("percent", "percentage", "pct"),
}
TYPE_PARTS = {"counter", "gauge", "histogram", "summary", "metric", "metrics", "untyped"}


def test_the_names_are_those_that_promtool_would_pass(text: str) -> None:
    for family in text_string_to_metric_families(text):
        name, parts = family.name, family.name.split("_")
        assert re.fullmatch(r"wfpsa(_[a-z0-9]+)+", name), name
        assert not OTHER_UNITS & set(parts) and not TYPE_PARTS & set(parts), name
        assert UNIT_PARTS.isdisjoint(parts[:-1]), f"{name}: a unit comes last"
        assert parts[-1] not in ("total", "count", "sum", "bucket"), name
        assert family.type in ("counter", "gauge", "histogram"), name
        allowed = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}[family.type]
        assert {sample.name.removeprefix(name) for sample in family.samples} <= allowed, name
        for sample in family.samples:
            for label in sample.labels:
                assert re.fullmatch(r"[a-z]+(_[a-z]+)*", label), f"{name}: {label}"
                assert label not in ("job", "instance", "quantile"), f"{name}: {label}"
                assert (label == "le") <= (sample.name == f"{name}_bucket")


def test_every_family_has_a_help_text_of_its_own_that_is_a_sentence(text: str) -> None:
    helps = [family.documentation for family in text_string_to_metric_families(text)]
    assert len(helps) == len(set(helps))
    for sentence in helps:
        assert re.fullmatch(r"[A-Z0-9].+\.", sentence), sentence
        assert len(sentence) <= 120 and "  " not in sentence and "\n" not in sentence


def test_every_series_of_a_family_has_the_same_labels(text: str) -> None:
    for family in text_string_to_metric_families(text):
        names = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(names) == 1, family.name


def test_values_are_numbers_none_below_0_and_counters_are_whole_ones(text: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert math.isfinite(sample.value) and sample.value >= 0, sample
            assert family.type != "counter" or sample.value == int(sample.value), sample


def test_histograms_are_cumulative_and_end_with_the_count(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    collector = WfpsaCollector(engine)
    since = Calls()
    before = histogram(collector, "statistics")
    for slow in (0, 0, 2_000, 20_000):
        embedded.latency(per_call_us=slow)
        scrape(collector)
    embedded.latency()
    after = histogram(collector, "statistics")
    bounds = [float(bound) for bound in after.buckets]
    assert bounds == [0.00001, 0.0001, 0.001, 0.01, 0.1, 1, math.inf]
    assert list(after.buckets.values()) == sorted(after.buckets.values())
    assert after.buckets["+Inf"] == after.count == before.count + 5
    assert after.seconds - before.seconds >= 0.022, "of two calls it is known how long they took at least"
    assert after.buckets["0.001"] - before.buckets["0.001"] <= 3, "2 ms are not within 1"
    assert after.buckets["0.01"] - before.buckets["0.01"] <= 4, "20 ms are not within 10"
    assert since.grown(scrape(collector))["enumerate"] == 3 * 7, "a handle, a page and its end for each listing"


class Histogram(NamedTuple):
    buckets: dict[str, float]
    count: float
    seconds: float


def histogram(collector: WfpsaCollector, call: str) -> Histogram:
    """What a scrape shows of the calls of a kind."""
    (family,) = [each for each in families(collector) if each.type == "histogram"]
    samples = [sample for sample in family.samples if sample.labels["call"] == call]
    buckets = {sample.labels["le"]: sample.value for sample in samples if sample.name.endswith("_bucket")}
    (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
    (seconds,) = [sample.value for sample in samples if sample.name.endswith("_sum")]
    return Histogram(buckets, count, seconds)


def test_calls_of_all_kinds_are_shown_once_there_was_one(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    WfpsaCollector(engine)
    since = Calls()
    with embedded.open() as other, other.subscribe():
        number = embedded.add()
        with pytest.raises(wfpsa.NotFound):
            other.get(number + 1)
        other.expire([number])
        with suppress(wfpsa.NotFound):
            other.delete(number)
        with other.transaction():
            pass
    values = scrape(WfpsaCollector(engine))
    made = {"session": 6, "enumerate": 3, "get": 1, "expire": 1, "change": 1, "statistics": 1}
    assert since.grown(values) == made
    assert since.failed(values) == {}, "that there is nothing of that id is an answer"


# --- The same as a snapshot says ------------------------------------------------------------------

POPULATIONS = [(0, 0, False), (1, 2, False), (700, 3, False), (2_000, 4, True), (30, 5, True)]


@pytest.mark.parametrize(("count", "seed", "odd"), POPULATIONS)
def test_an_engine_is_counted_as_a_snapshot_says(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, count: int, seed: int, odd: bool
) -> None:
    embedded.seed(count, seed, odd=odd)
    values = scrape(WfpsaCollector(engine))
    assert_counts(values, engine.snapshot())
    assert values[UP] == 1 and 0 <= values[AGE] < WAIT
    assert not [name for name, _ in values if name.startswith("wfpsa_mirror") or "peer" in name]


@pytest.mark.parametrize(("count", "seed", "odd"), POPULATIONS)
def test_a_mirror_is_counted_as_a_snapshot_says(
    mirror: wfpsa.Mirror,
    engine: wfpsa.Engine,
    embedded: testing.EmbeddedEngine,
    count: int,
    seed: int,
    odd: bool,
) -> None:
    embedded.seed(count, seed, odd=odd)
    mirror.reconcile(WAIT)
    values = scrape(WfpsaCollector(mirror, engine=engine))
    assert_counts(values, engine.snapshot())
    assert values[UP] == 1 and 0 <= values[AGE] < WAIT


def test_numbers_without_a_name_are_other_and_what_is_absent_is_none(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(2_000, 3, odd=True)
    engine.create(Traffic("10.0.0.1", "10.0.0.2"))
    values = scrape(WfpsaCollector(engine))
    batch = engine.snapshot()

    def unnamed(column: str, *known: int) -> int:
        return sum(value is not None and int(value) not in known for value in batch[column])

    others = {
        key("wfpsa_address_family_contexts", family="other"): unnamed("ip_version", 4, 6),
        key("wfpsa_traffic_type_contexts", type="other"): unnamed("traffic_type", *TrafficType),
        key("wfpsa_transform_contexts", direction="inbound", transform="other"): unnamed(
            "transform_in", *TransformType
        ),
        key("wfpsa_cipher_contexts", direction="outbound", cipher_type="other"): unnamed(
            "cipher_type_out", *CipherType
        ),
    }
    assert all(others.values()), "or this population is not odd enough"
    assert {each: values.get(each) for each in others} == others
    absent = key("wfpsa_contexts", sas="none"), key("wfpsa_traffic_type_contexts", type="none")
    assert [values[each] for each in absent] == [sum(value is None for value in batch["traffic_type"])] * 2


def test_every_member_is_shown_where_nothing_has_it(engine: wfpsa.Engine) -> None:
    values = scrape(WfpsaCollector(engine))
    found = {(name, *sorted(labels)) for name, labels in of(values, *BY)}
    expected = {("wfpsa_contexts", ("sas", name)) for name in SIDES.values()}
    expected |= {("wfpsa_traffic_type_contexts", ("type", name)) for name in (*TRAFFIC.values(), "other", "none")}
    expected |= {("wfpsa_address_family_contexts", ("family", name)) for name in (*FAMILIES.values(), "other", "none")}
    for direction in ("inbound", "outbound"):
        for family, label, names in (("transform", "transform", TRANSFORMS), ("cipher", "cipher_type", CIPHERS)):
            for name in (*names.values(), "other", "none"):
                labels = sorted([("direction", direction), (label, name)])
                expected.add((f"wfpsa_{family}_contexts", *labels))
    assert found == expected and not any(of(values, *BY).values())


def test_half_built_and_expired_contexts_count_by_the_sas_that_they_have(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    whole = [embedded.add() for _ in range(5)]
    embedded.add(outbound=False)
    engine.create(Traffic("2001:db8::1", "2001:db8::2"))
    engine.expire(whole[:2])
    values = scrape(WfpsaCollector(engine))
    found = {side: values[key("wfpsa_contexts", sas=side)] for side in SIDES.values()}
    assert found == {"both": 3, "inbound": 3, "outbound": 0, "none": 1}
    assert_counts(values, engine.snapshot())


def test_the_info_says_who_answers_and_which_wfpsa_asks(engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(wfpsa), "__version__", "9.8")
    info = key("wfpsa_info", backend=engine.backend, version="9.8")
    assert of(scrape(WfpsaCollector(engine)), "wfpsa_info") == {info: 1}
    with engine.mirror() as mirror:
        assert of(scrape(WfpsaCollector(mirror)), "wfpsa_info") == {info: 1}


def test_a_mirror_with_all_columns_will_do(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(100, 1, odd=True)
    with engine.mirror() as mirror:
        assert_counts(scrape(WfpsaCollector(mirror)), engine.snapshot())


def test_one_scrape_is_of_one_moment_while_contexts_come_and_go(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(2_000, 1, odd=True)
    embedded.start_clock()
    embedded.churn(20_000, 1)
    with engine.mirror(fields=METRIC_FIELDS) as mirror:
        for source in (mirror, engine):
            collector = WfpsaCollector(source, top_peers=3)
            for _ in range(10):
                values = scrape(collector)
                count = int(sum(of(values, "wfpsa_contexts").values()))
                assert_sums(values, count)
                assert sum(of(values, "wfpsa_peer_contexts", "wfpsa_other_peer_contexts").values()) == count > 1_000
        embedded.churn(0)
        mirror.reconcile(WAIT)


def test_what_a_mirror_did_is_what_it_says(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(50, 1)
    mirror.reconcile(WAIT)
    ids = engine.snapshot()["context_id"].tolist()
    for number in ids[:7]:
        engine.delete(number)
    mirror.reconcile(WAIT)
    until(lambda: mirror.reads >= 50 and mirror.lag == 0)  # once where a context came and went before it was read
    least = mirror.reads
    values = scrape(WfpsaCollector(mirror))
    changes = {dict(labels)["kind"]: value for (_, labels), value in of(values, "wfpsa_mirror_changes_total").items()}
    assert changes == mirror.totals and changes["added"] == 50 and changes["removed"] == 7
    assert least <= values[key("wfpsa_mirror_reads_total")] <= mirror.reads
    until(lambda: scrape(WfpsaCollector(mirror))[key("wfpsa_mirror_lag_contexts")] == 0)
    for name in ("gaps", "lost_events", "resyncs"):
        assert values[key(f"wfpsa_mirror_{name}_total")] == 0


def test_lost_events_and_contexts_that_wait_to_be_read_show(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with engine.mirror(fields=METRIC_FIELDS, reconcile_every=None, capacity=8) as mirror:
        embedded.latency(per_call_us=5_000)
        embedded.seed(500, 1)  # while it reads the first ones the others do not find room
        until(lambda: mirror.gaps > 0 and len(mirror) == 500)
        mirror.reconcile(WAIT)
        values = scrape(WfpsaCollector(mirror))
        assert values[key("wfpsa_mirror_gaps_total")] == mirror.gaps >= 1
        assert values[key("wfpsa_mirror_lost_events_total")] == mirror.lost >= 1
        embedded.latency()
        mirror.catch_up(WAIT)
        with engine.transaction():  # until its end the mirror cannot read
            embedded.add()
            until(lambda: mirror.lag == 1)
            assert scrape(WfpsaCollector(mirror))[key("wfpsa_mirror_lag_contexts")] == 1


# --- Peers ----------------------------------------------------------------------------------------


def with_peers(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    """Three of 10.0.0.9, two each of two others, one each of four, and one without an address."""
    for peer, count in (("10.0.0.9", 3), ("10.0.0.8", 2)):
        for _ in range(count):
            embedded.add("10.0.0.1", peer)
    for last in (2, 2, 3, 4):
        embedded.add("2001:db8::1", IPv6Address(f"2001:db8::{last}"))
    for last in (1, 2):
        embedded.add("10.0.0.1", f"10.9.0.{last}")
    for _ in range(9):
        engine.create(Traffic("10.0.0.1", "10.0.0.250"))


def test_the_peers_with_most_contexts_are_named_and_the_others_are_counted(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    with_peers(embedded, engine)
    mirror.reconcile(WAIT)
    ranked = {"10.0.0.9": 3, "10.0.0.8": 2, "2001:db8::2": 2, "10.9.0.1": 1, "10.9.0.2": 1, "2001:db8::3": 1}
    ranked["2001:db8::4"] = 1
    for source in (engine, mirror):
        for top in (1, 2, 3, 4, 7, TOP_PEERS_MAX):
            values = scrape(WfpsaCollector(source, top_peers=top))
            found = {dict(labels)["peer"]: value for (_, labels), value in of(values, "wfpsa_peer_contexts").items()}
            assert found == dict(list(ranked.items())[:top]), "what has no address yet is never named"
            assert values[key("wfpsa_other_peer_contexts")] == len(engine.snapshot()) - sum(found.values()) >= 9


def test_peers_are_named_only_where_that_was_asked_for(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    with_peers(embedded, engine)
    for collector in (WfpsaCollector(engine), WfpsaCollector(engine, top_peers=0)):
        assert "peer" not in text_of(collector)


def test_an_engine_without_contexts_has_no_peers_and_no_others(engine: wfpsa.Engine) -> None:
    values = scrape(WfpsaCollector(engine, top_peers=5))
    assert of(values, "wfpsa_peer_contexts") == {} and values[key("wfpsa_other_peer_contexts")] == 0


def test_odd_peers_are_counted_as_a_plain_count_does(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3_000, 7, odd=True)
    values = scrape(WfpsaCollector(engine, top_peers=TOP_PEERS_MAX))
    found = sorted(of(values, "wfpsa_peer_contexts").values(), reverse=True)
    counts = Counter(cell for cell in engine.snapshot()["remote_address"].tolist() if cell is not None)
    assert found == sorted(counts.values(), reverse=True)[:TOP_PEERS_MAX]
    assert values[key("wfpsa_other_peer_contexts")] == 3_000 - sum(found)


def test_100_000_contexts_and_50_peers_are_at_most_200_series(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(100_000, 1, odd=True)
    with engine.mirror(fields=METRIC_FIELDS, reconcile_every=None) as mirror:
        values = scrape(WfpsaCollector(mirror, engine=engine, top_peers=TOP_PEERS_MAX))
        assert len(of(values, "wfpsa_peer_contexts")) == TOP_PEERS_MAX
        assert sum(of(values, "wfpsa_contexts").values()) == 100_000
        assert len(values) <= 200
    assert len(scrape(WfpsaCollector(engine, top_peers=TOP_PEERS_MAX))) <= 200


# --- What is asked of the engine ------------------------------------------------------------------

LISTING, COUNTING = "IPsecSaContextCreateEnumHandle0", "IPsecGetStatistics1"


def assert_not_called(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, *functions: str) -> None:
    """The failures that were ordered for the next calls of these functions are still to come."""
    calls: dict[str, Callable[[], object]] = {LISTING: engine.snapshot, COUNTING: engine.statistics}
    for function in functions:
        with pytest.raises(wfpsa.EngineTimeout, match=function):
            calls[function]()


def test_a_scrape_over_a_mirror_lists_nothing(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(50, 1)
    mirror.reconcile(WAIT)
    embedded.fail(LISTING, 1, FWP_E_TIMEOUT)
    collector = WfpsaCollector(mirror, engine=engine, top_peers=3)
    since = Calls()
    for turn in (1, 2, 3):
        values = scrape(collector)
        assert values[UP] == 1 and sum(of(values, "wfpsa_contexts").values()) == 50
        assert since.grown(values)["statistics"] == turn and since.grown(values)["enumerate"] == 0
    assert_not_called(embedded, engine, LISTING)


def test_a_scrape_over_a_mirror_alone_calls_nothing(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.fail(LISTING, 1, FWP_E_TIMEOUT)
    embedded.fail(COUNTING, 1, FWP_E_TIMEOUT)
    since = Calls()
    values = scrape(WfpsaCollector(mirror))
    assert values[UP] == 1 and not [name for name, _ in values if name.startswith("wfpsa_engine_active")]
    assert not {"enumerate", "statistics"} & set(since.grown(values))
    assert_not_called(embedded, engine, LISTING, COUNTING)


def test_registering_calls_nothing(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail(LISTING, 1, FWP_E_TIMEOUT)
    embedded.fail(COUNTING, 1, FWP_E_TIMEOUT)
    for automatic in (False, True):
        CollectorRegistry(auto_describe=automatic).register(WfpsaCollector(engine, top_peers=3))
    assert_not_called(embedded, engine, LISTING, COUNTING)


def test_a_scrape_may_ask_for_one_family_by_name(engine: wfpsa.Engine) -> None:
    registry = CollectorRegistry()
    registry.register(WfpsaCollector(engine))
    text = generate_latest(registry.restricted_registry(["wfpsa_up", "wfpsa_engine_sas_added_total"])).decode()
    found = [family.name for family in text_string_to_metric_families(text)]
    assert found == ["wfpsa_up", "wfpsa_engine_sas_added"]


def test_what_it_describes_is_what_it_collects(mirror: wfpsa.Mirror, engine: wfpsa.Engine) -> None:
    collector = WfpsaCollector(mirror, engine=engine, top_peers=1)
    collected = [(metric.name, metric.type) for metric in collector.collect()]
    described = [(metric.name, metric.type) for metric in collector.describe()]
    assert sorted(described) == sorted(collected)


def test_a_registry_refuses_a_second_one_whose_series_would_be_the_same(engine: wfpsa.Engine) -> None:
    registry = CollectorRegistry()
    registry.register(WfpsaCollector(engine))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(WfpsaCollector(engine))


def test_an_engine_is_listed_with_the_columns_that_a_scrape_looks_at(
    engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    listed = wfpsa.Engine.snapshot

    def snapshot(self: wfpsa.Engine, **options: Any) -> wfpsa.SaBatch:
        asked.append(options)
        return listed(self, **options)

    monkeypatch.setattr(wfpsa.Engine, "snapshot", snapshot)
    scrape(WfpsaCollector(engine, top_peers=5))
    assert asked == [{"fields": METRIC_FIELDS}]


# --- The engine's counters ------------------------------------------------------------------------


def engine_families(collector: WfpsaCollector) -> list[Metric]:
    """The families of IPsecGetStatistics1."""
    return [
        family
        for family in families(collector)
        if family.name.startswith("wfpsa_engine_") and not family.name.startswith("wfpsa_engine_call_")
    ]


def test_each_counter_of_the_engine_is_a_family_with_its_value(
    engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = Statistics(*range(1, len(Statistics._fields) + 1))
    monkeypatch.setattr(wfpsa.Engine, "statistics", lambda self: statistics)
    found = engine_families(WfpsaCollector(engine))
    assert [[sample.value for sample in family.samples] for family in found] == [[value] for value in statistics]
    for field, family in zip(Statistics._fields, found, strict=True):
        assert family.type == ("gauge" if field in NOW else "counter"), field
        assert family.samples[0].labels == {}
        assert set(family.name.removeprefix("wfpsa_engine_").split("_")) <= {*field.split("_"), "bytes"}, field
        assert ("byte_count" in field) == family.name.endswith("_bytes")


def test_the_engines_counters_have_names_that_stay(engine: wfpsa.Engine) -> None:
    names = {sample.name for family in engine_families(WfpsaCollector(engine)) for sample in family.samples}
    assert names >= {
        "wfpsa_engine_active_sas",
        "wfpsa_engine_pending_sa_negotiations",
        "wfpsa_engine_active_tunnels",
        "wfpsa_engine_offloaded_sas",
        "wfpsa_engine_sas_added_total",
        "wfpsa_engine_sas_deleted_total",
        "wfpsa_engine_successful_rekeys_total",
        "wfpsa_engine_drop_packets_inbound_total",
        "wfpsa_engine_esp_replay_check_failures_on_inbound_total",
        "wfpsa_engine_inbound_encrypted_bytes_total",
        "wfpsa_engine_outbound_successful_packets_total",
    }


def test_the_engines_counters_follow_the_engine(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    collectors = WfpsaCollector(engine), WfpsaCollector(mirror, engine=engine)
    for change in (
        lambda: embedded.seed(40, 1),
        lambda: engine.expire(engine.snapshot()),
        lambda: embedded.advance(60),
    ):
        change()
        statistics = engine.statistics()
        for values in map(scrape, collectors):
            assert values[key("wfpsa_engine_active_sas")] == statistics.active_sas
            assert values[key("wfpsa_engine_sas_added_total")] == statistics.total_sas_added > 0
            assert values[key("wfpsa_engine_sas_deleted_total")] == statistics.total_sas_deleted
    assert statistics.total_sas_deleted > 0


# --- Expiries -------------------------------------------------------------------------------------


def expired() -> dict[str, int]:
    """The totals of this process, by outcome, as any collector shows them."""
    with testing.EmbeddedEngine() as control, control.open() as engine:
        found = of(scrape(WfpsaCollector(engine)), "wfpsa_expired_contexts_total")
    return {dict(labels)["outcome"]: int(value) for (_, labels), value in found.items()}


class Since:
    """What the totals grew by since it was made."""

    def __init__(self) -> None:
        self.before = expired()

    def grown(self) -> dict[str, int]:
        return {name: count - self.before[name] for name, count in expired().items() if count != self.before[name]}


def test_every_outcome_is_shown_but_that_of_what_was_not_attempted() -> None:
    outcomes = {outcome.name.lower() for outcome in Outcome if outcome is not Outcome.NOT_ATTEMPTED}
    assert set(expired()) == outcomes


@pytest.mark.parametrize("options", [{}, {"sessions": 3}, {"max_failures": 1_000}])
def test_a_mass_expiry_counts_by_outcome(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, options: dict[str, Any]
) -> None:
    ids = [embedded.add() for _ in range(20)]
    engine.delete(ids[0])
    since = Since()
    embedded.fail("IPsecSaContextExpire0", 4, ACCESS_DENIED)
    engine.expire(ids, **options)
    assert since.grown() == {"expired": 18, "already_gone": 1, "denied": 1}
    embedded.fail("IPsecSaContextExpire0", 1, 0x80320009)
    engine.expire(ids[-1:])
    assert since.grown() == {"expired": 18, "already_gone": 1, "denied": 1, "failed": 1}
    engine.expire([])
    assert since.grown() == {"expired": 18, "already_gone": 1, "denied": 1, "failed": 1}


def test_a_plan_counts_what_was_spared_and_what_had_changed(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.1.0.{at + 1}") for at in range(12)]
    plan = engine.plan_expiry(engine.snapshot(), exclude=ids[:3])
    engine.expire(ids[4:5])
    engine.delete(ids[5])
    since = Since()
    report = plan.apply(engine)
    assert report.counts[Outcome.SKIPPED] == 3 and report.counts[Outcome.CHANGED] == 1
    assert since.grown() == {"expired": 7, "already_gone": 1, "changed": 1, "skipped": 3}


def test_what_was_not_attempted_is_not_counted_before_it_is(
    tmp_path: Path, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.1.0.{at + 1}") for at in range(40)]
    plan = engine.plan_expiry(engine.snapshot(), exclude=ids[:2])
    since = Since()
    first = plan.apply(engine, journal=tmp_path / "journal", max_rate=100, timeout=0.05)
    done = first.counts[Outcome.EXPIRED]
    assert first.counts[Outcome.NOT_ATTEMPTED] == 38 - done > 0
    assert since.grown().get("expired", 0) == done


def test_a_resumed_plan_counts_only_what_it_did_itself(
    tmp_path: Path, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.1.0.{at + 1}") for at in range(40)]
    plan = engine.plan_expiry(engine.snapshot(), exclude=ids[:2])
    embedded.fail("IPsecSaContextExpire0", 2, ACCESS_DENIED)
    since = Since()
    first = plan.apply(engine, journal=tmp_path / "journal", max_failures=0)
    assert first.counts[Outcome.NOT_ATTEMPTED]
    once = since.grown()
    assert once["denied"] == 1 and once["expired"] == first.counts[Outcome.EXPIRED]
    ExpiryPlan.resume(tmp_path / "journal").apply(engine, sessions=2)
    assert since.grown() == {"expired": 37, "denied": 1, "skipped": 2}, "both runs together did each once"
    ExpiryPlan.resume(tmp_path / "journal").apply(engine)
    assert since.grown() == {"expired": 37, "denied": 1, "skipped": 2}, "there was nothing left to do"


def test_an_expiry_that_ends_with_an_exception_counts_what_it_did(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    ids = [embedded.add() for _ in range(40)]

    def press(report: wfpsa.ExpiryReport) -> None:
        raise KeyboardInterrupt

    since = Since()
    with pytest.raises(wfpsa.ExpiryInterrupted) as caught:
        engine.expire(ids, max_rate=1_000, on_progress=press)
    assert since.grown().get("expired", 0) == caught.value.report.counts[Outcome.EXPIRED]


def test_no_total_is_ever_below_0(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    for _ in range(3):
        embedded.add()
    engine.plan_expiry(engine.snapshot()).apply(engine)
    totals = outcome_totals()
    assert min(totals.values()) >= 0, totals


# --- Bad days -------------------------------------------------------------------------------------


def lasting(values: Values) -> Values:
    """What must not change when the engine is gone: the state, and its counters."""
    return {
        each: value
        for each, value in values.items()
        if not each[0].startswith(("wfpsa_engine_call", "wfpsa_mirror", "wfpsa_up", "wfpsa_state_age"))
    }


def test_the_last_state_and_its_age_are_shown_where_the_engine_is_gone(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(200, 1, odd=True)
    collector = WfpsaCollector(engine, top_peers=5)
    since = Calls()
    before = scrape(collector)
    embedded.stop_service()
    time.sleep(0.05)
    after = scrape(collector)
    time.sleep(0.05)
    later = scrape(collector)
    assert before[UP] == 1 and after[UP] == later[UP] == 0
    assert lasting(before) == lasting(after) == lasting(later)
    assert before[AGE] + 0.02 < after[AGE] and after[AGE] + 0.02 < later[AGE] < WAIT
    assert [since.failed(values) for values in (before, after, later)] == [
        Counter(enumerate=count, statistics=count) for count in (0, 1, 2)
    ]


def test_an_engine_that_reconnects_is_up_again_after_a_restart(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(20, 1)
    with embedded.open(reconnect=True) as engine:
        collector = WfpsaCollector(engine)
        embedded.stop_service()
        assert scrape(collector)[UP] == 0
        embedded.start_service()
        embedded.seed(30, 2)
        values = scrape(collector)
        assert values[UP] == 1 and values[AGE] < WAIT
        assert_counts(values, engine.snapshot())
        assert values[key("wfpsa_engine_active_sas")] == engine.statistics().active_sas


def test_an_engine_that_was_opened_again_is_up_again(engine: wfpsa.Engine, embedded: testing.EmbeddedEngine) -> None:
    collector = WfpsaCollector(engine)
    embedded.restart_service()
    assert [scrape(collector)[UP] for _ in range(2)] == [0, 0], "an engine from before is dead for ever"
    engine.reopen()
    assert scrape(collector)[UP] == 1
    engine.close()
    assert scrape(collector)[UP] == 0


def test_an_engine_that_never_answered_has_no_state_and_an_age_that_is_no_number(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(20, 1)
    collector = WfpsaCollector(engine, top_peers=3)
    embedded.stop_service()
    since = Calls()
    values = scrape(collector)
    assert values[UP] == 0 and math.isnan(values[AGE])
    assert of(values, *BY, "wfpsa_peer_contexts", "wfpsa_other_peer_contexts") == {}
    assert since.failed(values) == {"enumerate": 1, "statistics": 1}
    assert of(values, "wfpsa_expired_contexts_total")


@pytest.mark.parametrize("function", [LISTING, COUNTING, "IPsecSaContextEnum1"])
def test_one_call_that_fails_is_one_scrape_that_is_not_up(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, function: str
) -> None:
    embedded.seed(20, 1)
    collector = WfpsaCollector(engine)
    scrape(collector)
    since = Calls()
    embedded.seed(20, 2)
    embedded.fail(function, 1, FWP_E_TIMEOUT)
    values = scrape(collector)
    call = "statistics" if function == COUNTING else "enumerate"
    assert values[UP] == 0 and since.failed(values) == {call: 1}
    assert sum(of(values, "wfpsa_contexts").values()) == (40 if function == COUNTING else 20)
    values = scrape(collector)
    assert values[UP] == 1 and since.failed(values) == {call: 1}
    assert_counts(values, engine.snapshot())


def test_memory_that_is_short_is_a_scrape_that_is_not_up(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(20, 1)
    collector = WfpsaCollector(engine)
    before = scrape(collector)
    testing.fail_allocation(1)
    values = scrape(collector)
    testing.fail_allocation(0)
    assert values[UP] == 0 and lasting(values) == lasting(before)
    assert scrape(collector)[UP] == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that soon sees that its session is dead, and soon tries again."""
    monkeypatch.setattr(mirror_module, "PROBED_AFTER", 0.02)
    monkeypatch.setattr(mirror_module, "BACK_OFF", (0.01,))


def test_a_mirror_shows_its_last_state_and_is_up_again_after_a_restart(
    impatient: None, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(200, 1, odd=True)
    with embedded.open(reconnect=True) as engine, engine.mirror(fields=METRIC_FIELDS) as mirror:
        collector, alone = WfpsaCollector(mirror, engine=engine, top_peers=5), WfpsaCollector(mirror)
        before, before_alone = scrape(collector), scrape(alone)
        since = Calls()
        embedded.stop_service()
        until(lambda: mirror.error is not None)
        after, after_alone = scrape(collector), scrape(alone)
        assert (before[UP], before_alone[UP], after[UP], after_alone[UP]) == (1, 1, 0, 0)
        assert lasting(after) == lasting(before) and lasting(after_alone) == lasting(before_alone)
        assert since.failed(after)["statistics"] == 1
        time.sleep(0.05)
        assert after[AGE] + 0.02 < scrape(collector)[AGE] < WAIT
        embedded.start_service()
        embedded.seed(70, 2)
        until(lambda: mirror.error is None)
        mirror.reconcile(WAIT)
        for values in (scrape(collector), scrape(alone)):
            assert values[UP] == 1 and values[key("wfpsa_mirror_resyncs_total")] == 1
            assert_counts(values, engine.snapshot())
        assert since.failed(scrape(collector))["statistics"] == 3, (
            "two while it was gone, and one that ended the dead session"
        )


def test_a_dead_engine_beside_a_live_mirror_is_not_up_and_the_mirror_is_shown(
    mirror: wfpsa.Mirror, embedded: testing.EmbeddedEngine
) -> None:
    beside = embedded.open()
    collector = WfpsaCollector(mirror, engine=beside)
    statistics = [family.samples for family in engine_families(collector)]
    beside.close()
    embedded.seed(25, 1)
    mirror.reconcile(WAIT)
    values = scrape(collector)
    assert values[UP] == 0 and sum(of(values, "wfpsa_contexts").values()) == 25
    assert [family.samples for family in engine_families(collector)] == statistics


def test_a_scrape_during_a_resync_shows_the_last_good_state(impatient: None, embedded: testing.EmbeddedEngine) -> None:
    """The restart keeps the contexts under new ids: a state that is neither the old nor the new one would have more."""
    embedded.switch(contexts_after_restart="kept")
    embedded.seed(20_000, 1)
    with embedded.open(reconnect=True) as engine, engine.mirror(fields=METRIC_FIELDS) as mirror:
        collector = WfpsaCollector(mirror)
        before = scrape(collector)
        embedded.latency(per_call_us=20_000)
        embedded.restart_service()
        seen: list[tuple[float, float]] = []
        mixed = {len(mirror)}
        while mirror.resyncs == 0 or mirror.error is not None:
            values = scrape(collector)
            seen.append((values[UP], values[AGE]))
            mixed.add(len(mirror))
            assert_sums(values, 20_000)
            assert of(values, *BY) == of(before, *BY)
        assert 0.0 in dict(seen), "it was scraped while it was listed anew"
        assert mixed == {20_000}
        embedded.latency()
        mirror.reconcile(WAIT)
        values = scrape(collector)
        assert values[UP] == 1 and values[key("wfpsa_mirror_resyncs_total")] == 1
        assert_counts(values, engine.snapshot())


def test_a_closed_mirror_shows_its_last_state_and_is_not_up(
    engine: wfpsa.Engine, embedded: testing.EmbeddedEngine
) -> None:
    embedded.seed(20, 1)
    with engine.mirror(fields=METRIC_FIELDS) as mirror:
        collector = WfpsaCollector(mirror)
        before = scrape(collector)
    values = scrape(collector)
    assert lasting(values) == lasting(before)
    assert values[UP] == 0


# --- Threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["engine", "mirror"])
def test_threads_may_scrape_one_collector_at_once(
    mirror: wfpsa.Mirror, engine: wfpsa.Engine, embedded: testing.EmbeddedEngine, over: str
) -> None:
    embedded.seed(500, 1, odd=True)
    mirror.reconcile(WAIT)
    collector = WfpsaCollector(mirror if over == "mirror" else engine, engine=engine, top_peers=5)
    since = Calls()
    expected = lasting(scrape(collector))

    def several() -> None:
        for _ in range(5):
            values = scrape(collector)
            assert values[UP] == 1 and lasting(values) == expected

    run_together(several, several, several)
    values = scrape(collector)
    made = since.grown(values)
    assert made["statistics"] == 17 and made["enumerate"] == (3 * 17 if over == "engine" else 0), "none twice or lost"


def test_scrapes_that_come_at_once_list_one_after_the_other(
    engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, most = 0, 0
    listed = wfpsa.Engine.snapshot

    def snapshot(self: wfpsa.Engine, **options: Any) -> wfpsa.SaBatch:
        nonlocal listing, most
        listing += 1
        most = max(most, listing)
        time.sleep(0.02)
        listing -= 1
        return listed(self, **options)

    monkeypatch.setattr(wfpsa.Engine, "snapshot", snapshot)
    collector = WfpsaCollector(engine)
    run_together(*[lambda: scrape(collector)] * 4)
    assert (most, listing) == (1, 0)


def test_a_reader_that_stops_in_the_middle_of_a_scrape_keeps_no_one_waiting(engine: wfpsa.Engine) -> None:
    collector = WfpsaCollector(engine)
    half_read = iter(collector.collect())
    next(half_read)
    done = threading.Event()
    worker = threading.Thread(target=lambda: (scrape(collector), done.set()), daemon=True)
    worker.start()
    assert done.wait(WAIT)
    worker.join()
    half_read.close()  # type: ignore[attr-defined]


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "embedded:", 1, object])
def test_what_is_no_source_is_a_type_error_that_says_what_would_be(wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"source must be a wfpsa\.Mirror or .*Engine, not {type(wrong).__name__}"):
        WfpsaCollector(wrong)


def test_what_is_no_engine_is_a_type_error_that_says_so(mirror: wfpsa.Mirror, engine: wfpsa.Engine) -> None:
    for wrong in ("embedded:", mirror, 0, False):
        with pytest.raises(TypeError, match=rf"engine must be a wfpsa\.Engine or None, not {type(wrong).__name__}"):
            WfpsaCollector(mirror, engine=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [True, "10", 1.0, None])
def test_a_number_of_peers_that_is_none_is_a_type_error(engine: wfpsa.Engine, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"top_peers must be an int, not {type(wrong).__name__}"):
        WfpsaCollector(engine, top_peers=wrong)


@pytest.mark.parametrize("wrong", [-1, TOP_PEERS_MAX + 1, 2**70])
def test_more_peers_than_may_be_named_are_a_value_error(engine: wfpsa.Engine, wrong: int) -> None:
    with pytest.raises(ValueError, match=f"top_peers must be 0 to {TOP_PEERS_MAX}, not {wrong}"):
        WfpsaCollector(engine, top_peers=wrong)


def test_options_are_named(engine: wfpsa.Engine) -> None:
    with pytest.raises(TypeError):
        WfpsaCollector(engine, None)  # type: ignore[misc]


@pytest.mark.parametrize("lacking", [name for name in METRIC_FIELDS if name != "context_id"])
def test_a_mirror_without_a_column_that_is_needed_is_refused(engine: wfpsa.Engine, lacking: str) -> None:
    with (
        engine.mirror(fields=[name for name in METRIC_FIELDS if name != lacking]) as mirror,
        pytest.raises(ValueError, match=f"the mirror lacks the columns {lacking}$"),
    ):
        WfpsaCollector(mirror, engine=engine)


def test_all_columns_that_a_mirror_lacks_are_named(engine: wfpsa.Engine) -> None:
    with (
        engine.mirror(fields=["context_id", "spi_in"]) as mirror,
        pytest.raises(ValueError, match=f"the mirror lacks the columns {', '.join(METRIC_FIELDS[1:])}$"),
    ):
        WfpsaCollector(mirror)


FORKED = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that it has threads is what this is about
import wfpsa
from wfpsa.metrics import METRIC_FIELDS, WfpsaCollector

with wfpsa.open_engine("embedded:?contexts=50") as engine, engine.mirror(fields=METRIC_FIELDS) as mirror:
    collector = WfpsaCollector(mirror)
    list(collector.collect())
    child = os.fork()
    if child == 0:
        found = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
        os._exit(found["wfpsa_up"] != 0 or found["wfpsa_contexts"] is None or "wfpsa_mirror_gaps_total" in found)
    assert os.waitpid(child, 0)[1] == 0
print("fine")
"""


@pytest.mark.fork
def test_in_a_forked_child_the_last_state_of_a_mirror_is_shown_and_it_is_not_up() -> None:
    assert run_python(FORKED) == "fine\n"
