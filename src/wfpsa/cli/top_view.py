"""How `wfpsa top` looks: figures as lines and tables that fit a terminal of any size."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wfpsa.cli.output import cell, printable
from wfpsa.cli.top_controls import Controls, Tables
from wfpsa.cli.top_figures import Figures, Health, Old, Peer, Sort

_LINES = 5
_FEWEST = 3
"""Rows that a table has before anything else is left out for it."""
_WIDE = 60
"""Columns of a terminal below which tables leave out what is least needed."""


class Room(NamedTuple):
    """How the lines of a terminal are divided."""

    lines: int
    gap: int
    peers: int
    oldest: int

    @property
    def rows(self) -> int:
        """Rows of the longer table."""
        return max(self.peers, self.oldest)


def fits_both(height: int) -> bool:
    """Whether there is room for both tables."""
    return _body(height)[2] >= 2 * (1 + _FEWEST) + 1


def _body(height: int) -> tuple[int, int, int]:
    """Lines at the top, empty ones below them, and what is left for tables above the line with the keys."""
    body = height - 1
    lines = max(1, min(_LINES, body - 1 - _FEWEST))
    gap = int(body - lines - 1 > _FEWEST + 1)
    return lines, gap, body - lines - gap


def divided(height: int, tables: Tables, most: int) -> Room:
    """The room in so many lines, for tables with `most` rows or fewer."""
    lines, gap, left = _body(height)
    if tables is Tables.BOTH and fits_both(height):
        rows = left - 3  # two heads, and a line between
        return Room(lines, gap, min(most, rows - rows // 2), min(most, rows // 2))
    rows = min(most, max(0, left - 1))
    return Room(lines, gap, 0, rows) if tables is Tables.OLDEST else Room(lines, gap, rows, 0)


def screen(
    figures: Figures, controls: Controls, target: str, interval: float, width: int, height: int, most: int
) -> RenderableType:
    """All that a terminal of that size shows."""
    room = divided(height, controls.tables, most)
    shown: list[RenderableType] = list(islice(_lines(figures, controls, target, interval), room.lines))
    shown += [Text()] * room.gap
    used = room.lines + room.gap
    tables: list[tuple[Table, int]] = []
    if room.peers or controls.tables is not Tables.OLDEST:
        tables.append(
            (peers_table(figures.peers[: room.peers], controls.sort, width), len(figures.peers[: room.peers]))
        )
    if room.oldest or controls.tables is Tables.OLDEST:
        tables.append((oldest_table(figures.oldest[: room.oldest], width), len(figures.oldest[: room.oldest])))
    for at, (table, rows) in enumerate(tables):
        shown += [*([Text()] if at else []), table]
        used += (at > 0) + 1 + rows
    shown += [Text()] * max(0, height - 1 - used)
    return Group(*shown, _footer(controls, width))


def page(figures: Figures, controls: Controls, target: str, interval: float, width: int) -> RenderableType:
    """The same without a terminal: all of it, and no keys."""
    tables = peers_table(figures.peers, controls.sort, width), oldest_table(figures.oldest, width)
    return Group(*_lines(figures, controls, target, interval), Text(), tables[0], Text(), tables[1])


# ---- lines ----


def _lines(figures: Figures, controls: Controls, target: str, interval: float) -> Iterator[Text]:
    """The lines above the tables, the dispensable ones last."""
    yield _line(
        ("wfpsa top ", "bold"),
        (printable(target), "bold cyan"),
        f"  {figures.backend}, every {interval:g} s",
        (f"  peers in {controls.within}" if controls.within else "", "yellow"),
        ("  PAUSED" if controls.paused else "", "bold yellow"),
    )
    yield _line(("contexts  ", "cyan"), (f"{figures.contexts:,}", "bold"), "  ", _counts(figures.sides))
    rates = figures.rates
    added, deleted, changed = map(_rate, rates or (None, None, None))
    yield _line(("a second  ", "cyan"), f"added {added}  deleted {deleted}  changed {changed}")
    yield _line(("engine    ", "cyan"), *_health(figures.health))
    yield _line(("families  ", "cyan"), _counts(figures.families))


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="crop")


def _counts(counts: dict[str, int]) -> str:
    return "  ".join(f"{name} {count:,}" for name, count in counts.items())


def _health(health: Health) -> Iterator[str | tuple[str, str]]:
    seen = f"state {_seconds(health.age)} old  lag {health.lag:,}  gaps {health.gaps:,}"
    seen += f" ({health.lost:,} lost)  resyncs {health.resyncs:,}"
    if health.error is None:
        yield from (("up", "green"), f"  {seen}")
    else:
        yield from ((f"DOWN {health.error}", "bold red"), f"  last {seen}")


def _footer(controls: Controls, width: int) -> Text:
    if controls.fault is not None:
        return _line((printable(controls.fault), "bold red"))
    if controls.typed is not None:
        return _line(("peers in ", "cyan"), (controls.typed, "bold"), ("_", "blink"), "  Enter applies, Esc clears")
    narrowed = ("Esc", "all peers") if controls.within else ("/", "filter")
    sorts = [("c", Sort.CONTEXTS), ("a", Sort.ADDRESS), ("r", Sort.RATE)]
    hints = [("q", "quit"), narrowed, ("Space", "pause"), ("Tab", "tables"), *sorts]
    if sum(len(key) + len(meaning) + 3 for key, meaning in hints) - 2 > width:
        hints = [("q", "quit"), narrowed, ("Tab", "table"), ("c a r", "sort")]
    parts: list[str | tuple[str, str]] = []
    for key, meaning in hints:
        chosen = "reverse" if meaning is controls.sort else ""
        parts += ["  " if parts else "", (key, "bold cyan"), " ", (str(meaning), chosen)]
    return _line(*parts)


# ---- tables ----


def peers_table(peers: Iterable[Peer], sort: Sort, width: int) -> Table:
    """The peers: address, contexts, share, and what comes and goes."""
    table = _table(f"PEER BY {sort.value.upper()}", ("CONTEXTS", 9), ("SHARE", 6))
    if width >= _WIDE:
        _add_columns(table, ("ADDED/S", 9), ("DELETED/S", 9))
    for peer in peers:
        cells = [cell(peer.address), f"{peer.contexts:,}", f"{peer.share:.1%}", _rate(peer.added), _rate(peer.deleted)]
        table.add_row(*cells[: len(table.columns)])
    return table


def oldest_table(oldest: Iterable[Old], width: int) -> Table:
    """The oldest contexts: peer, age, SPIs, and the id by which other verbs know them."""
    table = _table("PEER OF THE OLDEST", ("AGE", 10), ("SPI OUT", 10))
    if width >= _WIDE:
        _add_columns(table, ("SPI IN", 10), ("CONTEXT ID", 10))
    for old in oldest:
        since = f"{'>' if old.at_least else ''}{_age(old.age)}"
        cells = [cell(old.peer), since, cell(old.spi_out), cell(old.spi_in), str(old.context_id)]
        table.add_row(*cells[: len(table.columns)])
    return table


def _table(first: str, *others: tuple[str, int]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    table.add_column(first, no_wrap=True, overflow="crop", ratio=1)
    _add_columns(table, *others)
    return table


def _add_columns(table: Table, *columns: tuple[str, int]) -> None:
    for name, least in columns:
        table.add_column(name, justify="right", no_wrap=True, overflow="crop", min_width=least)


# ---- figures ----


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}"


def _seconds(seconds: float) -> str:
    return "< 1 s" if seconds < 1 else f"{seconds:,.0f} s"


def _age(age: timedelta) -> str:
    minutes, seconds = divmod(int(age.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"
