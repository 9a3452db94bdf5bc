"""Tests of keys as they are pressed: those of Windows' console, and where stdin is no terminal."""

import importlib.util
import io
import sys
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from wfpsa.cli import keys


class WindowsConsole:
    """What msvcrt says of a console where these keys are pressed."""

    def __init__(self, text: str) -> None:
        self.text = list(text)

    def kbhit(self) -> bool:
        return bool(self.text)

    def getwch(self) -> str:
        return self.text.pop(0)


@pytest.fixture
def windows_keys(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], keys.Keys]:
    """Keys as they are read on Windows, with that waiting."""
    spec = importlib.util.spec_from_file_location("keys_of_windows", keys.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)

    def make(text: str) -> keys.Keys:
        fake = ModuleType("msvcrt")
        console = WindowsConsole(text)
        fake.kbhit, fake.getwch = console.kbhit, console.getwch  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "msvcrt", fake)
        made: keys.Keys = module.Keys()
        made._descriptor = 0
        return made

    return make


def test_on_windows_keys_come_one_by_one_and_those_without_a_character_are_left_out(
    windows_keys: Callable[[str], keys.Keys],
) -> None:
    with windows_keys("a\x00;\xe0Hq\x1b") as pressed_keys:
        assert [pressed_keys.read(0.0) for _ in range(6)] == ["a", None, None, "q", "\x1b", None]
        began = time.monotonic()
        assert pressed_keys.read(0.05) is None
        assert time.monotonic() - began >= 0.03


def test_on_windows_ctrl_c_as_a_key_is_ctrl_c(windows_keys: Callable[[str], keys.Keys]) -> None:
    with windows_keys("\x03") as pressed_keys, pytest.raises(KeyboardInterrupt):
        pressed_keys.read(0.0)


def test_where_stdin_is_no_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin in (None, io.StringIO("q")):
        monkeypatch.setattr("sys.stdin", stdin)
        with keys.Keys() as none:
            began = time.monotonic()
            assert none.read(0.05) is None
            assert time.monotonic() - began >= 0.03
