"""Keys as they are pressed, from Windows' console or any other terminal, which is left as it was found."""

import codecs
import contextlib
import os
import re
import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

ESCAPE = "\x1b"
INTERRUPT = "\x03"
SUSPEND = "\x1a"

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_REST_WITHIN = 0.05
"""Seconds in which what follows an Esc makes it an arrow key or the like; a slow line brings it in pieces."""


class Keys:
    """The keys of stdin for the time of a `with` block; none where that is no terminal.

    They are not echoed, and Ctrl-C remains a signal. Arrow and function keys are left out.
    """

    def __init__(self) -> None:
        try:
            self._descriptor: int | None = sys.stdin.fileno() if sys.stdin.isatty() else None
        except (AttributeError, OSError, ValueError):  # there is none, or it was closed
            self._descriptor = None
        self._waiting: deque[str] = deque()

    def read(self, seconds: float) -> str | None:
        """The next key, as a character; None where none comes in that time. Raises EOFError where none can come."""
        if not self._waiting:
            if self._descriptor is None:
                time.sleep(max(0.0, seconds))
            else:
                self._waiting.extend(_SEQUENCE.sub("", self._text(seconds)))
        return self._waiting.popleft() if self._waiting else None

    if sys.platform == "win32":

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None:
            pass

        def _text(self, seconds: float) -> str:
            import msvcrt

            end = time.monotonic() + seconds
            while not msvcrt.kbhit():
                if time.monotonic() >= end:
                    return ""
                time.sleep(0.02)
            text = msvcrt.getwch()
            if text in ("\0", "\xe0"):  # an arrow or function key: which one follows
                msvcrt.getwch()
                return ""
            if text == INTERRUPT:
                raise KeyboardInterrupt
            return text

    else:

        def __enter__(self) -> Self:
            if self._descriptor is not None:
                import termios

                self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
                self._modes = termios.tcgetattr(self._descriptor)
                wanted = termios.tcgetattr(self._descriptor)
                wanted[3] &= ~(termios.ICANON | termios.ECHO)
                characters = wanted[6]
                characters[termios.VMIN], characters[termios.VTIME] = 1, 0
                # Suspending is a key: the screen is to be left before the process stops.
                characters[termios.VSUSP] = os.fpathconf(self._descriptor, "PC_VDISABLE").to_bytes(1, "little")
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, wanted)
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None:
            if self._descriptor is not None:
                import termios

                with contextlib.suppress(termios.error):  # the terminal has gone
                    # What was typed meanwhile is not for the shell.
                    termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._modes)

        def _text(self, seconds: float) -> str:
            import select

            assert self._descriptor is not None
            text = ""
            while select.select([self._descriptor], [], [], max(0.0, seconds))[0]:
                try:
                    part = os.read(self._descriptor, 1024)
                except OSError as error:
                    raise EOFError from error
                if not part:
                    raise EOFError
                text += self._decoder.decode(part)
                if not _UNFINISHED.search(text):
                    break
                seconds = _REST_WITHIN
            return text
