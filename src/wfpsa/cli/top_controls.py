"""What the keys of `wfpsa top` choose: the order of peers, the tables, a filter, a pause."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from wfpsa.cli.keys import ESCAPE
from wfpsa.cli.top_figures import Network, Sort

_LONGEST = 60


class Tables(StrEnum):
    """Which tables are shown, if there is room."""

    BOTH = "both"
    PEERS = "peers"
    OLDEST = "oldest"


@dataclass
class Controls:
    """What is chosen at this moment."""

    sort: Sort = Sort.CONTEXTS
    tables: Tables = Tables.BOTH
    within: Network | None = None
    """The subnet that peers must be in."""
    typed: str | None = None
    """What is in the line where a filter is typed; None where there is no such line."""
    fault: str | None = None
    """What is wrong with it."""
    paused: bool = False

    def press(self, key: str, room_for_both: bool) -> bool:
        """Does what the key means; True where that is the end."""
        if self.typed is not None:
            self._edit(self.typed, key)
        elif key in "qQ":
            return True
        elif key in "/fF":
            self.typed = str(self.within or "")
        elif key == ESCAPE:
            self.within = None
        elif key in " pP":
            self.paused = not self.paused
        elif key == "\t":
            self._turn(room_for_both)
        elif key.lower() in _SORTS:
            self.sort = _SORTS[key.lower()]
        return False

    def _turn(self, room_for_both: bool) -> None:
        order = [Tables.BOTH, Tables.PEERS, Tables.OLDEST] if room_for_both else [Tables.PEERS, Tables.OLDEST]
        at = order.index(self.tables) if self.tables in order else 0
        self.tables = order[(at + 1) % len(order)]

    def _edit(self, typed: str, key: str) -> None:
        self.fault = None
        if key in "\r\n":
            self._apply(typed)
        elif key == ESCAPE:
            self.typed, self.within = None, None
        elif key in "\x7f\b":
            self.typed = typed[:-1]
        elif key == "\x15":  # Ctrl-U
            self.typed = ""
        elif key.isascii() and key.isprintable() and len(typed) < _LONGEST:
            self.typed = typed + key

    def _apply(self, typed: str) -> None:
        try:
            self.within = ipaddress.ip_network(typed.strip()) if typed.strip() else None
        except ValueError as error:
            self.fault = str(error)
        else:
            self.typed = None


_SORTS = {"c": Sort.CONTEXTS, "a": Sort.ADDRESS, "r": Sort.RATE}
