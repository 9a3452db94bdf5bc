"""A pytest plugin: the fixtures `wfpsa_engine` and `wfpsa_session`, and the marker `wfpsa` that shapes their engine.

pytest finds it by its entry point and loads it in every run of an environment that has wfpsa. Loading a module of a
package imports the package itself; beyond that nothing is imported or done until a test asks for a fixture.
`-p no:wfpsa` keeps it out.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from wfpsa.engine import Engine
    from wfpsa.testing import EmbeddedEngine

__all__ = ["wfpsa_engine", "wfpsa_session"]

_MARKER = (
    "wfpsa(contexts=0, seed=0, odd=False, rights='administrator', clock='manual', switches={}): "
    "what the engine of the fixture wfpsa_engine is like; the nearest marker that has an argument decides it"
)
_LEFT_OPEN = {
    "engines": "engine",
    "enum_handles": "enumeration",
    "subscriptions": "subscription",
    "transactions": "transaction",
    "pages": "page",
}
"""What a test may not leave open, by its live counter."""


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", _MARKER)


# ---- the marker ----


def _is_whole(most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


_ARGUMENTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "contexts": (_is_whole(10_000_000), "a number of contexts up to 10000000"),
    "seed": (_is_whole(2**64 - 1), "a number from 0 to 2**64 - 1"),
    "odd": (lambda value: isinstance(value, bool), "True or False"),
    "rights": (lambda value: isinstance(value, str), "the name of a profile"),
    "clock": (lambda value: value in ("manual", "real"), '"manual" or "real"'),
    "switches": (
        lambda value: isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair),
        "a dict of names and choices of wfpsa.testing.SWITCHES",
    ),
}


def _refuse(why: str) -> NoReturn:
    pytest.fail(f"bad @pytest.mark.wfpsa: {why}", pytrace=False)


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of the markers of a test, of its class and of its module."""
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("wfpsa"))):  # the nearest comes last, and wins
        if marker.args:
            _refuse(f"it takes its arguments by name ({', '.join(_ARGUMENTS)}), not {marker.args[0]!r}")
        for name, value in marker.kwargs.items():
            if name not in _ARGUMENTS:
                _refuse(f"unknown argument {name!r}; known: {', '.join(_ARGUMENTS)}")
            accepts, accepted = _ARGUMENTS[name]
            if not accepts(value):
                _refuse(f"{name} must be {accepted}, not {value!r}")
        options.update(marker.kwargs)
    return options


def _shape(control: "EmbeddedEngine", options: dict[str, Any]) -> None:
    """Makes an engine what the options say."""
    if options.get("clock", "manual") == "manual":
        control.stop_clock()
    try:
        control.switch(**options.get("switches", {}))
        control.rights(options.get("rights", "administrator"))
    except ValueError as error:
        _refuse(str(error))
    control.seed(options.get("contexts", 0), options.get("seed", 0), odd=options.get("odd", False))


# ---- what a test leaves behind ----


def _left_open(before: dict[str, int], after: dict[str, int]) -> str:
    """What is alive now and was not before, in words."""
    more = {name: after[name] - before[name] for name in _LEFT_OPEN if after[name] > before[name]}
    return ", ".join(f"{count} {_LEFT_OPEN[name]}{'s' if count > 1 else ''}" for name, count in more.items())


def _has_failed(request: pytest.FixtureRequest, failed_before: int) -> bool:
    """Whether the test raised something, be it expected to: its traceback then keeps alive what its frames hold."""
    return request.session.testsfailed > failed_before or getattr(sys, "last_traceback", None) is not None


# ---- fixtures ----


@pytest.fixture
def wfpsa_engine(request: pytest.FixtureRequest) -> Iterator["EmbeddedEngine"]:
    """An embedded engine under the test's control (wfpsa.testing.EmbeddedEngine), its clock stopped.

    During the test the environment variable WFPSA_ENGINE names it, so that `wfpsa.open_engine()` without a target opens
    it. The marker `wfpsa` shapes it. After a test that passed, engines, enumerations, subscriptions, transactions and
    pages that it left open are an error, and so are wrong uses of the OS's functions after any test.
    """
    from wfpsa import testing

    options = _options(request)
    failed_before = request.session.testsfailed
    before = testing.live_counters()
    testing.take_misuses()
    with testing.EmbeddedEngine() as control, pytest.MonkeyPatch.context() as environment:
        _shape(control, options)
        environment.setenv("WFPSA_ENGINE", control.target)
        yield control
    gc.collect()
    found = []
    if not _has_failed(request, failed_before) and (alive := _left_open(before, testing.live_counters())):
        found.append(f"left open: {alive}")
    found += [
        f"wrong use of {function}: {what} ({count} time{'s' if count > 1 else ''})"
        for function, what, count in testing.take_misuses()
    ]
    if found:
        pytest.fail("\n".join([f"after {request.node.name}, the embedded engine found", *found]), pytrace=False)


@pytest.fixture
def wfpsa_session(wfpsa_engine: "EmbeddedEngine") -> Iterator["Engine"]:
    """An open session (wfpsa.Engine) of the engine of `wfpsa_engine`, closed after the test."""
    with wfpsa_engine.open() as session:
        yield session
