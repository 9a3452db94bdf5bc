"""Plans of mass expiries: what they keep and say, their guards and files."""

import json
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import added, outbound

import wfpsa
from wfpsa import Outcome, testing
from wfpsa import plan as plans
from wfpsa.plan import PLAN_FIELDS, ExpiryPlan

# --- What a plan is -------------------------------------------------------------------------------


def test_a_plan_keeps_what_was_seen_and_says_where_when_and_why(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, backend: str
) -> None:
    embedded.seed(200, 7)
    batch = engine.snapshot()
    plan = engine.plan_expiry(batch, reason="a stolen laptop")
    assert plan.contexts.columns == PLAN_FIELDS
    for name in PLAN_FIELDS:
        assert plan.contexts[name].tolist() == batch[name].tolist()
    assert len(plan) == 200 and plan.objections == () and plan.skipped == frozenset()
    assert (plan.engine, plan.backend, plan.reason) == (engine.target, backend, "a stolen laptop")
    assert abs(plan.created.timestamp() - time.time()) < 60
    assert sum(count for _, count in plan.peers) == sum(count for _, count in plan.types) == 200
    said = str(plan)
    assert said.startswith(f"expire 200 contexts of {engine.target} on {plan.host}\n")
    assert "reason: a stolen laptop" in said and "STOPPED" not in said


def test_peers_are_addresses_the_most_frequent_first(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    for remote in ("10.0.0.9", "2001:db8::9", "10.0.0.9"):
        embedded.add("10.0.0.1" if "." in remote else "2001:db8::1", remote)
    plan = engine.plan_expiry(engine.snapshot(fields=wfpsa.CORE_FIELDS))
    assert plan.peers == [(IPv4Address("10.0.0.9"), 2), (IPv6Address("2001:db8::9"), 1)]
    assert "  10.0.0.9: 2\n  2001:db8::9: 1\n" in str(plan)


def test_planning_asks_the_engine_for_nothing(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(50)
    batch = engine.snapshot()
    embedded.stop_service()
    assert len(engine.plan_expiry(batch)) == 50


def test_parts_and_selections_of_a_batch_can_be_planned(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(200, 3)
    batch = engine.snapshot()
    for part in (
        batch[::-3],
        batch[10:20],
        batch[:0],
        batch.where(has_outbound=True),
        batch.where(has_outbound=False)[::2],
    ):
        plan = engine.plan_expiry(part)
        assert [plan.contexts[name].tolist() for name in PLAN_FIELDS] == [part[name].tolist() for name in PLAN_FIELDS]


def test_an_id_that_occurs_twice_is_kept_once_and_that_is_said(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 5)
    batch = engine.snapshot().take([3, 1, 3, 1, 4])
    plan = engine.plan_expiry(batch)
    assert plan.contexts["context_id"].tolist() == batch.take([0, 1, 4])["context_id"].tolist()
    assert plan.repeated == 2 and "ids given again, and kept once: 2" in str(plan)


def test_the_highest_ids_of_each_peer_can_be_spared_and_any_others(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    ids = [embedded.add("10.0.0.1", f"10.0.1.{1 + at % 3}") for at in range(9)]
    batch = engine.snapshot()
    plan = engine.plan_expiry(batch, keep_per_peer=1)
    assert plan.skipped == set(ids[-3:]) and len(plan) == 6
    assert "a guess at the newest" in str(plan)
    plan = engine.plan_expiry(batch, keep_per_peer=1, exclude=[ids[-1], 12345])
    assert plan.skipped == {ids[-1], ids[-2], ids[-3], ids[-4]}
    report = plan.apply(engine)
    assert dict(zip(report.context_id, report.outcome, strict=True)) == {
        number: Outcome.SKIPPED if number in plan.skipped else Outcome.EXPIRED for number in batch["context_id"]
    }
    assert outbound(engine) == plan.skipped
    assert [tries for tries in report.attempts] == [int(o is Outcome.EXPIRED) for o in report.outcome]


@settings(deadline=None)
@given(data=st.data())
def test_whatever_the_order_each_peer_keeps_as_many_of_those_that_are_not_spared_anyway(data: st.DataObject) -> None:
    with testing.EmbeddedEngine() as embedded, embedded.open() as engine:
        for peer in data.draw(st.lists(st.integers(1, 5), max_size=20)):
            embedded.add("10.0.0.1", f"10.0.1.{peer}")
        batch = engine.snapshot()
        batch = batch.take(data.draw(st.permutations(range(len(batch)))))
        keep = data.draw(st.sampled_from([1, 2, 3, 2**63 - 1]))
        ids = batch["context_id"].tolist()
        exclude = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
        kept: set[int] = set()
        for peer in {context.remote_address for context in batch}:
            its = {context.context_id for context in batch if context.remote_address == peer} - exclude
            kept |= set(sorted(its, reverse=True)[:keep])
        plan = engine.plan_expiry(batch, keep_per_peer=keep, exclude=exclude)
        assert (plan.kept, plan.excluded) == (kept, exclude)


def test_guards_stop_a_plan_and_say_why(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    added(embedded, 5)
    batch = engine.snapshot()
    assert not engine.plan_expiry(batch, max_count=5, expect=5).objections
    assert not engine.plan_expiry(batch, max_count=4, exclude=batch[:1]).objections
    plan = engine.plan_expiry(batch, max_count=4, expect=40)
    assert plan.objections == ("5 contexts, where 40 were expected", "5 contexts, where at most 4 are allowed")
    assert str(plan).count("STOPPED by a guard") == 2
    with pytest.raises(ValueError, match="may not be applied: 5 contexts, where 40 were expected; 5 contexts, where"):
        plan.apply(engine)
    assert len(outbound(engine)) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"max_count": -1}, ValueError, "max_count"),
        ({"expect": 1.5}, TypeError, "expect"),
        ({"keep_per_peer": -1}, ValueError, "keep_per_peer"),
        ({"reason": 5}, TypeError, "reason must be a str or None, not int"),
        ({"exclude": "5"}, TypeError, "targets must be context ids"),
        ({"batch": [5]}, TypeError, "batch must be a wfpsa.SaBatch, not list"),
    ],
)
def test_bad_arguments_of_a_plan_are_named(
    engine: wfpsa.Engine, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    batch = arguments.pop("batch", engine.snapshot())
    with pytest.raises(error, match=said):
        engine.plan_expiry(batch, **arguments)  # type: ignore[arg-type]


def test_a_batch_without_what_a_plan_compares_is_refused(engine: wfpsa.Engine) -> None:
    with pytest.raises(ValueError, match=r"the batch lacks traffic_type, local_address, .*cannot be verified"):
        engine.plan_expiry(engine.snapshot(fields=["context_id", "spi_out"]))


# --- Files ----------------------------------------------------------------------------------------


def test_a_loaded_plan_is_the_one_that_was_saved(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(300, 5, odd=True)
    plan = engine.plan_expiry(engine.snapshot(), max_count=1000, keep_per_peer=2, reason="über")
    path = tmp_path / "plan.json"
    plan.save(path)
    loaded = ExpiryPlan.load(path, max_age=60)
    assert str(loaded) == str(plan) and loaded.checksum == plan.checksum and loaded.skipped == plan.skipped
    assert [loaded.contexts[name].tolist() for name in PLAN_FIELDS] == [
        plan.contexts[name].tolist() for name in PLAN_FIELDS
    ]
    with pytest.raises(FileExistsError):
        plan.save(path)
    engine.plan_expiry(engine.snapshot()[:0]).save(path, overwrite=True)
    assert len(ExpiryPlan.load(path)) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document.update(schema_version=2), "its schema version is 2, this wfpsa reads 1"),
        (lambda document: document["contexts"]["context_id"].__setitem__(0, 5), "its checksum is wrong"),
        (lambda document: document.update(host="other"), "its checksum is wrong"),
        (lambda document: document.pop("checksum"), "its checksum is wrong"),
        (lambda document: document.update(format="else"), "it does not say that it is one"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    tmp_path: Path,
    embedded: testing.EmbeddedEngine,
    engine: wfpsa.Engine,
    change: Callable[[dict[str, object]], object],
    said: str,
) -> None:
    added(embedded, 3)
    path = tmp_path / "plan.json"
    engine.plan_expiry(engine.snapshot()).save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match=f"is no plan: {said}"):
        ExpiryPlan.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"format": "wfpsa expiry plan"}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is no plan"):
        ExpiryPlan.load(path)


def test_a_plan_with_a_right_checksum_and_wrong_pieces_is_refused(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 3)
    path = tmp_path / "plan.json"
    engine.plan_expiry(engine.snapshot()).save(path)
    for name, value in (
        ("spi_out", [1]),
        ("spi_out", [-1, 2, 3]),
        ("presence", [1, 2]),
        ("remote_address", ["", "", ""]),
    ):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["contexts"][name] = value
        del document["checksum"]
        document["checksum"] = plans._checksum(document)
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(ValueError, match="is no plan"):
            ExpiryPlan.load(broken)


def test_a_plan_that_is_too_old_is_refused(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    added(embedded, 1)
    plan = engine.plan_expiry(engine.snapshot())
    plan.save(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=r"the plan is \d+ s old, and at most 0 s are allowed"):
        ExpiryPlan.load(tmp_path / "plan.json", max_age=0)


def test_a_plan_of_another_host_boot_or_engine_is_refused(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(embedded, 2)
    plan = engine.plan_expiry(engine.snapshot())
    with (
        testing.EmbeddedEngine() as control,
        control.open() as other,
        pytest.raises(ValueError, match="the plan was made for 'embedded:"),
    ):
        plan.apply(other)
    with monkeypatch.context() as patch:
        patch.setattr(plans.platform, "node", lambda: "elsewhere")
        with pytest.raises(ValueError, match=r"the plan was made on the host .*, this is 'elsewhere'"):
            plan.apply(engine)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "boot_time", lambda: plan.boot_time + 121)
        with pytest.raises(ValueError, match="before this machine was last started"):
            plan.apply(engine)
    assert len(outbound(engine)) == 2
