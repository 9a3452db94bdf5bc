"""The controls of the embedded engine: populations, clock, faults, latency, rights, and what is counted."""

import inspect

import pytest
from support import os_functions, values

import wfpsa
from wfpsa import Outcome, testing


def population(count: int, seed: int, odd: bool) -> dict[str, list[object]]:
    with testing.EmbeddedEngine() as control:
        control.seed(count, seed, odd=odd)
        with control.open() as engine:
            return values(engine.snapshot())


# --- Populations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [False, True])
def test_the_same_numbers_make_the_same_population_and_others_another(odd: bool) -> None:
    for seed in (0, 1, 2**64 - 1):
        assert population(200, seed, odd) == population(200, seed, odd)
    seen = [str(population(200, seed, odd)) for seed in (0, 1, 2, 2**63, 2**64 - 1)]
    assert len(set(seen)) == 5
    assert population(200, 0, odd) != population(200, 0, not odd)


def test_a_population_is_plausible_and_varied() -> None:
    found = population(3000, 1, False)
    assert len(set(found["context_id"])) == 3000 and min(found["context_id"]) > 2**32
    assert set(found["ip_version"]) == {4, 6, None} and set(found["traffic_type"]) == {0, 1, None}
    for side in ("in", "out"):
        assert set(found[f"transform_{side}"]) == {None, 1, 2, 3, 4, 5}
        assert set(found[f"sa_count_{side}"]) == {None, 1, 2}
        assert max(value for value in found[f"pfs_group_{side}"] if value is not None) < 253
        for name in ("udp_local_port", "peer_private_address", "virtual_tunnel_id", "lookup_context", "key_module"):
            assert None in found[f"{name}_{side}"] and len(set(found[f"{name}_{side}"])) > 1
        names = [name for name in found[f"main_mode_target_{side}"] if name]
        assert any(not name.isascii() for name in names) and any(name.isascii() for name in names)
    assert {(i, o) for i, o in zip(found["has_inbound"], found["has_outbound"], strict=True)} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    assert True in found["traffic_differs"]


def test_an_odd_population_has_what_no_sane_engine_returns() -> None:
    found = population(3000, 1, True)
    assert {253, 254} <= set(found["traffic_type"]) and 254 in found["ip_version"]
    assert {253, 254} <= set(found["transform_out"]) & set(found["pfs_group_out"])
    assert 254 in found["sa_count_out"] and 0 in found["sa_count_out"]
    assert max(found["context_id"]) > 2**63
    assert "" in found["main_mode_target_out"] and any(
        "\ufffd" in (name or "") for name in found["main_mode_target_out"]
    )
    plain = zip(found["has_outbound"], found["transform_out"], found["sa_count_out"], strict=True)
    assert any(there and transform is None and count for there, transform, count in plain)


def test_seeding_again_adds_to_what_is_there(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    assert len(embedded) == 0
    embedded.seed(10)
    first = engine.snapshot()
    embedded.seed(0)
    embedded.seed(15, 3)
    assert len(embedded) == 25
    assert list(engine.snapshot()[:10]) == list(first)
    assert len(set(engine.snapshot()["context_id"])) == 25


# --- One engine, several hands --------------------------------------------------------------------


def test_a_target_opens_the_same_engine_and_so_does_the_name(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(7)
    assert embedded.target == f"embedded:{embedded.server_name}"
    with wfpsa.open_engine(embedded.target) as engine, testing.EmbeddedEngine(embedded.server_name) as again:
        assert len(engine.snapshot()) == len(again) == 7
        assert again.target == embedded.target
    with testing.EmbeddedEngine() as other:
        assert other.target != embedded.target and len(other) == 0


def test_an_engine_lives_until_control_and_sessions_let_go() -> None:
    control = testing.EmbeddedEngine("short-lived")
    control.seed(3)
    engine = control.open()
    control.close()
    assert testing.live_counters()["stores"] == 1 and len(engine.snapshot()) == 3
    with testing.EmbeddedEngine("short-lived") as again:
        assert len(again) == 3
    engine.close()
    del engine
    assert testing.live_counters()["stores"] == 0
    with testing.EmbeddedEngine("short-lived") as anew:
        assert len(anew) == 0


def test_a_closed_control_refuses_everything_and_closes_again() -> None:
    control = testing.EmbeddedEngine()
    with control as entered:
        assert entered is control
    control.close()
    for call in (
        lambda: control.open(),
        lambda: control.seed(1),
        lambda: len(control),
        lambda: control.stop_clock(),
        lambda: control.advance(1),
        lambda: control.fail("IPsecSaContextEnum1"),
        lambda: control.latency(),
        lambda: control.rights("everyone"),
    ):
        with pytest.raises(ValueError, match="this embedded engine was closed"):
            call()
    assert testing.live_counters()["stores"] == 0


def test_a_name_that_no_target_can_spell_is_refused() -> None:
    for wrong in ("x" * 64, "a b", "é", "#1", "a?b"):
        with pytest.raises(ValueError):
            testing.EmbeddedEngine(wrong).open()


# --- The clock ------------------------------------------------------------------------------------


def test_a_stopped_clock_moves_by_advance_only(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(20)
    there = engine.snapshot()
    engine.expire(there)
    left = len(embedded)
    assert left == there["has_inbound"].count(True)
    for _ in range(59):
        embedded.advance(1)
        assert len(embedded) == left
    embedded.advance(1)
    assert len(embedded) == 0


def test_a_running_clock_can_be_advanced_too() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.seed(5)
        engine.expire(engine.snapshot())
        control.advance(60)
        assert len(control) == 0


def test_a_clock_stops_where_it_stood() -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.seed(5)
        engine.expire(engine.snapshot())
        left = len(control)
        control.stop_clock()
        control.stop_clock()
        assert len(control) == left
        control.advance(60)
        assert len(control) == 0


# --- Faults, latency, rights ----------------------------------------------------------------------


def test_a_planned_failure_happens_once_at_its_call(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.fail("IPsecSaContextGetById1", 3)
    for _ in range(2):
        with pytest.raises(wfpsa.NotFound):
            engine.get(1)
    with pytest.raises(wfpsa.EngineTimeout):
        engine.get(1)
    with pytest.raises(wfpsa.NotFound):
        engine.get(1)


def test_a_planned_failure_can_be_replaced_and_cancelled(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.fail("IPsecSaContextEnum1", 1, 5)
    embedded.fail("IPsecSaContextEnum1", 2, 87)
    assert len(engine.snapshot()) == 0
    with pytest.raises(wfpsa.WfpError, match="ERROR_INVALID_PARAMETER"):
        engine.snapshot()
    embedded.fail("IPsecSaContextEnum1")
    embedded.fail("IPsecSaContextEnum1", 0)
    assert len(engine.snapshot()) == 0


def test_failures_belong_to_one_engine(embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("IPsecSaContextEnum1")
    with wfpsa.open_engine("embedded:") as other:
        assert len(other.snapshot()) == 0
    embedded.fail("IPsecSaContextEnum1", 0)


def test_an_unknown_function_or_profile_is_a_value_error(embedded: testing.EmbeddedEngine) -> None:
    for wrong in ("", "IPsecSaContextEnum", "IPsecSaContextEnum2", "ipsecsacontextenum1"):
        with pytest.raises(ValueError, match=f"function must be one of the engine table's, not {wrong!r}"):
            embedded.fail(wrong)
    for wrong in ("", "root", "Administrator"):
        with pytest.raises(ValueError, match=f"profile must be one of administrator, .*everyone, not {wrong!r}"):
            embedded.rights(wrong)


def test_numbers_out_of_range_are_refused(embedded: testing.EmbeddedEngine) -> None:
    for call in (
        lambda: embedded.seed(-1),
        lambda: embedded.seed(1, -1),
        lambda: embedded.advance(-1),
        lambda: embedded.latency(per_call_us=-1),
        lambda: embedded.fail("IPsecSaContextEnum1", -1),
        lambda: embedded.fail("IPsecSaContextEnum1", 1, 2**32),
        lambda: testing.fail_allocation(-1),
    ):
        with pytest.raises((ValueError, OverflowError)):
            call()
    assert len(embedded) == 0


def test_a_population_beyond_all_memory_is_a_memory_error(embedded: testing.EmbeddedEngine) -> None:
    with pytest.raises(MemoryError):
        embedded.seed(2**62)
    assert len(embedded) == 0


def test_latency_changes_no_answer(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(20)
    expected = values(engine.snapshot())
    embedded.latency(per_call_us=50, per_entry_us=0.5)
    assert values(engine.snapshot(page_size=7)) == expected
    embedded.latency()
    assert engine.expire(engine.snapshot()).counts[Outcome.EXPIRED] == 20


def test_the_nth_allocation_fails_once_and_0_cancels(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    testing.fail_allocation(1)
    with pytest.raises(MemoryError):
        embedded.seed(1)
    embedded.seed(1)
    testing.fail_allocation(1)
    testing.fail_allocation(0)
    assert len(engine.snapshot()) == 1


# --- Counters, functions, drain -------------------------------------------------------------------


def test_live_counters_count_what_is_alive() -> None:
    counted = ("stores", "engines", "enum_handles", "pages", "subscriptions", "transactions", "allocations", "misuses")
    assert testing.live_counters() == dict.fromkeys(counted, 0)
    with testing.EmbeddedEngine() as control:
        control.seed(10)
        with control.open() as engine, control.open():
            pages = engine.pages(page_size=3, prefetch=False)
            next(pages)
            batch = engine.snapshot()
            alive = testing.live_counters()
            assert (alive["stores"], alive["engines"], alive["enum_handles"], alive["pages"]) == (1, 2, 1, 0)
            assert alive["allocations"] > 70
            before = testing.live_counters()["allocations"]
            del batch
            assert testing.live_counters()["allocations"] < before - 70


def test_the_functions_are_those_of_the_engine_table_by_the_os_names() -> None:
    functions = testing.functions()
    assert {"FwpmEngineOpen0", "IPsecSaContextEnum1", "IPsecSaContextExpire0"} <= set(functions)
    assert all(isinstance(address, int) and address for address in functions.values())
    assert set(os_functions()) <= set(functions)
    with pytest.raises(wfpsa.EngineUnavailable, match='this build of wfpsa has no "nothing:" engine'):
        testing.functions("nothing")


@pytest.mark.parametrize("version", [0, 1])
def test_drain_counts_what_a_listing_lists(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, version: int
) -> None:
    embedded.seed(50, odd=True)
    for page_size in (1, 10, 49, 50, 51, 2**32 - 1):
        assert testing.drain(engine, version=version, page_size=page_size) == 50
    assert testing.drain(engine) == 50
    for nth in range(1, 7):
        embedded.fail(f"IPsecSaContextEnum{version}", nth)
        with pytest.raises(wfpsa.EngineTimeout):
            testing.drain(engine, version=version, page_size=10)
        assert testing.live_counters()["enum_handles"] == testing.live_counters()["pages"] == 0


def test_everything_that_the_module_exports_is_there_and_documented() -> None:
    for name in testing.__all__:
        thing = getattr(testing, name)
        assert name == "KEY_MARK" or inspect.getdoc(thing), name
    assert len(testing.KEY_MARK) == 16 and isinstance(testing.KEY_MARK, bytes)
