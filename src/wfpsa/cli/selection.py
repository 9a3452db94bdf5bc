"""Which contexts are meant: by subnets and a predicate, by ids, and by peers that a file names."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import NamedTuple, TypeVar

import wfpsa
from wfpsa.cli.common import UsageFault, notice, parse_id, snapshot
from wfpsa.plan import PLAN_FIELDS

__all__ = ["Selection", "excluded"]

_T = TypeVar("_T")

NAME_COLUMNS = (
    "main_mode_target_in",
    "main_mode_target_out",
    "extended_mode_target_in",
    "extended_mode_target_out",
)
"""Where the identity of a peer may stand."""
_SHOWN = 5
_COMMENT = re.compile(r"(?:^|\s)#")
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+(/.*)?|[0-9a-fA-F.]*:[0-9a-fA-F:.]*(/.*)?")


@dataclass(frozen=True)
class Selection:
    """What the command line says of contexts, its files read and all of it checked."""

    local: str | None
    remote: str | None
    where: str | None
    ids: list[int] | None
    """Each once; None where they are not chosen by id."""
    subnets: list[IPv4Network | IPv6Network] | None
    """Of the peers' file; None where there is none."""
    names: Mapping[str, str]
    """Of the peers' file, case-folded and as they are written there."""

    @classmethod
    def read(
        cls,
        local: str | None,
        remote: str | None,
        where: str | None,
        ids: list[str] | None,
        ids_from: str | None,
        peers_from: str | None,
    ) -> "Selection":
        """The selection of these options; UsageFault where they do not go together or a file has a bad line."""
        chosen = _ids("--id", ids or [])
        if ids_from is not None:
            chosen += [_parsed(parse_id, line) for line in _lines(ids_from, "ids")]
        by_id = bool(ids) or ids_from is not None
        filters = {"--local": local, "--remote": remote, "--where": where, "--peers-from": peers_from}
        named = [name for name, value in filters.items() if value is not None]
        if not by_id and not named:
            raise UsageFault(
                "say what to expire: --id, --ids-from, --local, --remote, --where (--where true is all) or --peers-from"
            )
        if by_id and named:
            raise UsageFault(f"ids and {named[0]} do not go together: name the contexts one way or the other")
        if where is not None:
            from wfpsa.cli.where import check

            check(where)
        subnets, names = (None, {}) if peers_from is None else _peers(peers_from)
        return cls(local, remote, where, list(dict.fromkeys(chosen)) if by_id else None, subnets, names)

    def contexts(self, engine: wfpsa.Engine) -> wfpsa.SaBatch:
        """The contexts that are there, with the columns of a plan at least."""
        fields = None if self.where is not None else (*PLAN_FIELDS, *(NAME_COLUMNS if self.names else ()))
        batch = snapshot(engine, self.local, self.remote, fields)
        if self.ids is not None:
            return batch.where(context_id=set(self.ids)) if self.ids else batch[:0]
        if self.subnets is not None:
            batch = self._of_peers(batch)
        if self.where is None:
            return batch
        from wfpsa.cli.where import matching

        return matching(batch, self.where)

    def _of_peers(self, batch: wfpsa.SaBatch) -> wfpsa.SaBatch:
        """The contexts with a remote address in one of the subnets, or with one of the names."""
        chosen: set[int] = set()
        unknown: list[object] = []
        for subnet in self.subnets or ():
            found = batch.where(remote=subnet)["context_id"].tolist()
            chosen.update(found)
            if not found:
                unknown.append(subnet)
        seen: set[str] = set()
        for column in NAME_COLUMNS if self.names else ():
            spelt = [name for name, _ in batch.count_by(column) if name is not None and name.casefold() in self.names]
            seen.update(name.casefold() for name in spelt)
            if spelt:
                chosen.update(batch.where(**{column: set(spelt)})["context_id"].tolist())
        unknown += [written for name, written in self.names.items() if name not in seen]
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            notice(f"no context has the peer {', '.join(map(str, unknown[:_SHOWN]))}{more}", "yellow")
        return batch.where(context_id=chosen) if chosen else batch[:0]


class _Line(NamedTuple):
    """A line of a file that says something."""

    text: str
    place: str
    """The file and the line's number."""


def _lines(name: str, what: str) -> Iterator[_Line]:
    """The lines of a file, or of stdin for "-", without comments and empty ones."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageFault(f"cannot read the {what} from {name}: {error.strerror or error}") from error
    # What PowerShell 5 redirects into a file is UTF-16.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    source = "standard input" if name == "-" else name
    for number, line in enumerate(data.decode(encoding, "replace").split("\n"), 1):
        text = _COMMENT.split(line, maxsplit=1)[0].strip()
        if text:
            yield _Line(text, f"{source}, line {number}")


def _parsed(parse: Callable[[str], _T], line: _Line) -> _T:
    """What a line says; a line that says nothing sensible is a fault that names it."""
    try:
        return parse(line.text)
    except ValueError as error:
        raise UsageFault(f"{line.place}: {error}; nothing was expired") from error


def _peers(name: str) -> tuple[list[IPv4Network | IPv6Network], dict[str, str]]:
    """The subnets and the names in a file of peers."""
    subnets: list[IPv4Network | IPv6Network] = []
    names: dict[str, str] = {}
    for line in _lines(name, "peers"):
        if _LIKE_AN_ADDRESS.fullmatch(line.text):
            subnets.append(_parsed(ip_network, line))
        else:
            names[line.text.casefold()] = line.text
    return subnets, names


def _ids(option: str, texts: list[str]) -> list[int]:
    try:
        return [parse_id(text) for text in texts]
    except ValueError as error:
        raise UsageFault(f"{option}: {error}") from error


def excluded(texts: list[str] | None) -> list[int]:
    """The ids of --exclude."""
    return _ids("--exclude", texts or [])
