"""The pytest plugin: its fixtures, its marker, what it finds left behind, and the worked example of the docs."""

import os
import re
import tomllib
from pathlib import Path

import pytest
from support import ROOT

import wfpsa

PLUGIN = ("-p", "wfpsa.pytest_plugin")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a user's suite, whose runs find this wfpsa and, unless told otherwise, no plugin by itself."""
    home = str(Path(wfpsa.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")])))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """A run of the suite with the plugin, in a process of its own."""
    return suite.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider", "--strict-markers", "-rA", *arguments)


# --- The fixtures ---------------------------------------------------------------------------------


def test_the_fixtures_give_an_empty_engine_and_a_session_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os
        import pytest
        import wfpsa
        from wfpsa import testing

        def test_engine(wfpsa_engine):
            assert isinstance(wfpsa_engine, testing.EmbeddedEngine) and len(wfpsa_engine) == 0
            assert os.environ["WFPSA_ENGINE"] == wfpsa_engine.target
            number = wfpsa_engine.add()
            with wfpsa.open_engine() as engine:
                assert engine.backend == "embedded"
                engine.expire([number])
                wfpsa_engine.advance(59.999)  # by a stopped clock, to the millisecond
                assert len(engine.snapshot()) == 1
                wfpsa_engine.advance(0.001)
                assert len(engine.snapshot()) == 0

        def test_session(wfpsa_session, wfpsa_engine):
            wfpsa_engine.add()
            assert isinstance(wfpsa_session, wfpsa.Engine) and len(wfpsa_session.snapshot()) == 1

        def test_session_alone(wfpsa_session):
            assert len(wfpsa_session.snapshot()) == 0  # another engine for each test

        def test_session_that_is_dead_or_closed(wfpsa_session, wfpsa_engine):
            wfpsa_engine.restart_service()
            with pytest.raises(wfpsa.SessionAborted):
                wfpsa_session.snapshot()
            wfpsa_session.close()

        def test_neither():
            assert os.environ["WFPSA_ENGINE"] == "embedded:mine"
            assert testing.live_counters()["engines"] == testing.live_counters()["stores"] == 0
        """
    )
    suite.makeconftest('import os; os.environ["WFPSA_ENGINE"] = "embedded:mine"')
    run(suite).assert_outcomes(passed=5)


def test_the_fixtures_are_listed_with_what_they_are(suite: pytest.Pytester) -> None:
    shown = run(suite, "--fixtures").stdout
    shown.fnmatch_lines(["*wfpsa_engine*", "*An embedded engine under the test's control*"])
    shown.fnmatch_lines(["*wfpsa_session*", "*An open session*"])


def test_a_suite_that_does_not_use_it_imports_nothing_more_than_the_package(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import subprocess, sys

        PACKAGE = "import sys, wfpsa; print(*(name for name in sys.modules if name.split('.')[0] == 'wfpsa'))"

        def test_modules():
            alone = set(subprocess.run([sys.executable, "-c", PACKAGE], capture_output=True, text=True).stdout.split())
            loaded = {name for name in sys.modules if name.split(".")[0] == "wfpsa"}
            assert "wfpsa._native" in alone
            assert loaded == alone | {"wfpsa.pytest_plugin"}
        """
    )
    run(suite).assert_outcomes(passed=1)


# --- The marker -----------------------------------------------------------------------------------


def test_the_marker_shapes_the_engine(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import time
        import pytest
        import wfpsa
        from wfpsa import testing

        pytestmark = pytest.mark.wfpsa(contexts=40, seed=7)

        def everything(control):
            with control.open() as engine:
                return list(engine.snapshot())

        def test_module(wfpsa_engine):
            with testing.EmbeddedEngine() as same:
                same.seed(40, 7)
                assert everything(wfpsa_engine) == everything(same)

        @pytest.mark.wfpsa(contexts=20)
        class TestNearest:
            def test_class(self, wfpsa_engine):
                assert len(wfpsa_engine) == 20

            @pytest.mark.wfpsa(odd=True, seed=3)
            def test_function(self, wfpsa_engine):
                with testing.EmbeddedEngine() as same:
                    same.seed(20, 3, odd=True)
                    assert everything(wfpsa_engine) == everything(same)

        @pytest.mark.wfpsa(rights="read_only")
        def test_rights(wfpsa_session):
            assert wfpsa_session.expire(wfpsa_session.snapshot()).counts[wfpsa.Outcome.DENIED] == 40

        @pytest.mark.wfpsa(switches={"second_expiry": "not_found", "lifetimes": "off"})
        def test_switches(wfpsa_session, wfpsa_engine):
            number = wfpsa_engine.add()
            wfpsa_engine.advance(10**6)
            report = wfpsa_session.expire([number, number])
            assert list(report.outcome) == [wfpsa.Outcome.EXPIRED, wfpsa.Outcome.ALREADY_GONE]

        @pytest.mark.wfpsa(clock="real", contexts=0)
        def test_clock(wfpsa_session, wfpsa_engine):
            wfpsa_session.expire([wfpsa_engine.add()])
            wfpsa_engine.advance(59.9)
            end = time.monotonic() + 30
            while len(wfpsa_engine):
                assert time.monotonic() < end
                time.sleep(0.01)
        """
    )
    run(suite).assert_outcomes(passed=6)


BAD = {
    'pytest.mark.wfpsa("everyone")': "it takes its arguments by name (contexts, seed, *), not 'everyone'",
    "pytest.mark.wfpsa(context=3)": "unknown argument 'context'; known: contexts, seed, odd, rights, clock, switches",
    "pytest.mark.wfpsa(contexts=-1)": "contexts must be a number of contexts up to 10000000, not -1",
    "pytest.mark.wfpsa(contexts=True)": "contexts must be a number of contexts up to 10000000, not True",
    "pytest.mark.wfpsa(contexts='9')": "contexts must be a number of contexts up to 10000000, not '9'",
    "pytest.mark.wfpsa(seed=2**64)": "seed must be a number from 0 to 2[*][*]64 - 1, not 18446744073709551616",
    "pytest.mark.wfpsa(odd=1)": "odd must be True or False, not 1",
    "pytest.mark.wfpsa(clock='stopped')": 'clock must be "manual" or "real", not \'stopped\'',
    "pytest.mark.wfpsa(rights='root')": "profile must be one of administrator, network_operator, *, not 'root'",
    "pytest.mark.wfpsa(rights=None)": "rights must be the name of a profile, not None",
    "pytest.mark.wfpsa(switches=['idle'])": "switches must be a dict of names and choices of *, not *'idle'*",
    "pytest.mark.wfpsa(switches={'idle': True})": "switches must be a dict of names and choices of *, not *",
    "pytest.mark.wfpsa(switches={'idler': 'on'})": "unknown switch 'idler'; known: enumeration, *",
    "pytest.mark.wfpsa(switches={'idle': 'yes'})": "switch idle must be one of off, on, not 'yes'",
}


def test_a_bad_marker_is_an_error_that_says_what_is_wrong(suite: pytest.Pytester) -> None:
    lines = ["import pytest"]
    for number, marker in enumerate(BAD):
        lines += [f"@{marker}", f"def test_{number}(wfpsa_session): pass"]
    suite.makepyfile("\n".join(lines))
    result = run(suite, "--tb=short")
    result.assert_outcomes(errors=len(BAD))
    result.stdout.fnmatch_lines([f"bad @pytest.mark.wfpsa: {message}" for message in BAD.values()])
    result.stdout.no_fnmatch_line("*pytest_plugin.py:*")


def test_the_marker_is_listed(suite: pytest.Pytester) -> None:
    run(suite, "--markers").stdout.fnmatch_lines(["@pytest.mark.wfpsa(contexts=0, seed=0, odd=False, rights=*"])


# --- What is left behind --------------------------------------------------------------------------

LEAKS = """
    import ctypes
    import pytest
    import wfpsa
    from wfpsa import testing

    kept = []

    @pytest.fixture(autouse=True)
    def forget():
        yield
        kept.clear()

    def call(name, *arguments):
        function = ctypes.CFUNCTYPE(ctypes.c_uint32, *[type(given) for given in arguments])
        return function(testing.functions()[name])(*arguments)

    def test_engine(wfpsa_engine):
        kept.append(wfpsa.open_engine())

    @pytest.mark.wfpsa(contexts=10)
    def test_enumeration(wfpsa_engine):
        kept.append(wfpsa.open_engine())
        kept.append(kept[0].pages(page_size=3, prefetch=False))
        next(kept[1])

    def test_subscriptions(wfpsa_engine):
        kept.append(wfpsa.open_engine())
        kept.extend(kept[0].subscribe() for _ in range(2))

    def test_transaction(wfpsa_engine):
        kept.append(wfpsa.open_engine())
        kept.append(kept[0].transaction())
        kept[1].__enter__()

    @pytest.mark.wfpsa(contexts=10)
    def test_page(wfpsa_engine):
        name = ctypes.create_string_buffer(wfpsa_engine.server_name.encode("utf-16-le") + bytes(2))
        engine, page = ctypes.c_void_p(), ctypes.c_void_p()
        with wfpsa.open_engine() as other:
            number = other.snapshot()[0].context_id
        assert call("FwpmEngineOpen0", ctypes.cast(name, ctypes.c_void_p), ctypes.c_uint32(10), ctypes.c_void_p(),
                    ctypes.c_void_p(), ctypes.cast(ctypes.byref(engine), ctypes.c_void_p)) == 0
        assert call("IPsecSaContextGetById1", engine, ctypes.c_uint64(number),
                    ctypes.cast(ctypes.byref(page), ctypes.c_void_p)) == 0
        assert call("FwpmEngineClose0", engine) == 0

    def test_wrong_use(wfpsa_engine):
        for _ in range(2):
            assert call("FwpmEngineClose0", ctypes.c_void_p(0x123450)) == 6
"""


def test_whatever_a_test_leaves_open_is_an_error_that_names_it(suite: pytest.Pytester) -> None:
    """The fixture that forgets comes before the engine's, and so after it at the end."""
    suite.makepyfile(LEAKS)
    result = run(suite)
    result.assert_outcomes(passed=6, errors=6)
    found = re.findall(r"^after (test_\w+), the embedded engine found\n(.*)$", str(result.stdout), re.MULTILINE)
    assert dict(found) == {
        "test_engine": "left open: 1 engine",
        "test_enumeration": "left open: 1 engine, 1 enumeration",
        "test_subscriptions": "left open: 1 engine, 2 subscriptions",
        "test_transaction": "left open: 1 engine, 1 transaction",
        "test_page": "left open: 1 page",
        "test_wrong_use": "wrong use of FwpmEngineClose0: the engine handle is closed, or none (2 times)",
    }


def test_what_was_open_before_or_was_dropped_or_belongs_to_a_failure_is_no_leak(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import ctypes
        import pytest
        import wfpsa
        from wfpsa import testing

        @pytest.fixture(scope="session", autouse=True)
        def everywhere():
            with wfpsa.open_engine("embedded:everywhere") as engine, engine.subscribe():
                yield engine

        def test_before(wfpsa_session):
            pass

        @pytest.mark.wfpsa(contexts=10)
        def test_dropped_in_a_cycle(wfpsa_session):
            cycle = [wfpsa_session.pages(page_size=3, prefetch=False)]
            next(cycle[0])
            cycle.append(cycle)

        def test_failed(wfpsa_engine):
            engine = wfpsa.open_engine()
            assert engine is None

        @pytest.mark.xfail(strict=True)
        def test_expected_to_fail(wfpsa_engine):
            engine = wfpsa.open_engine()
            assert engine is None

        def test_skipped(wfpsa_engine):
            pytest.skip("inside")

        def test_wrong_uses_before_are_not_this_tests():
            function = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
            function(testing.functions()["FwpmEngineClose0"])(0x123450)

        def test_after(wfpsa_session):
            assert len(wfpsa_session.snapshot()) == 0
        """
    )
    run(suite).assert_outcomes(passed=4, failed=1, xfailed=1, skipped=1)


def test_a_wrong_use_in_a_test_that_failed_is_told_too(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import ctypes
        from wfpsa import testing

        def test_failed(wfpsa_engine):
            function = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
            assert function(testing.functions()["FwpmEngineClose0"])(0x123450) == 0
        """
    )
    result = run(suite)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["wrong use of FwpmEngineClose0: * (1 time)"])


# --- How it is found ------------------------------------------------------------------------------


def test_the_entry_point_loads_it_and_it_can_be_kept_out(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from an installed wfpsa: its entry point stands in the metadata of a package beside the suite."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["pytest11"].items()]
    assert lines == ["wfpsa = wfpsa.pytest_plugin"]
    metadata = suite.mkdir("beside-1.0.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: beside\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]), encoding="utf-8")
    suite.makepyfile("def test_session(wfpsa_session): pass")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    suite.runpytest_subprocess().assert_outcomes(passed=1)
    without = suite.runpytest_subprocess("-p", "no:wfpsa")
    without.assert_outcomes(errors=1)
    without.stdout.fnmatch_lines(["*fixture 'wfpsa_session' not found*"])


# --- The worked example ---------------------------------------------------------------------------


@pytest.mark.source
def test_the_worked_example_of_the_docs_passes(suite: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "embedded-engine.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == ["stale.py", "test_stale.py"]
    for name, code in blocks:
        (suite.path / name).write_text(code, encoding="utf-8")
    expected = len(re.findall(r"^def test_", blocks[1][1], re.MULTILINE))
    assert expected >= 6
    run(suite, "-W", "error").assert_outcomes(passed=expected)


@pytest.mark.source
def test_the_readmes_test_passes(suite: pytest.Pytester) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(def test_.*?)^```$", text, re.MULTILINE | re.DOTALL)
    suite.makepyfile(code)
    run(suite, "-W", "error").assert_outcomes(passed=1)
