"""Tests of how `wfpsa top` is drawn: how its tables fit a terminal, its last line, and what no terminal obeys."""

import io

import pytest
from rich.console import Console
from terminal import pressed

from wfpsa import testing
from wfpsa.cli.top_controls import Controls, Tables
from wfpsa.cli.top_figures import FIELDS, Figures, Observer
from wfpsa.cli.top_view import divided, fits_both, page, screen


def rendered(thing: object, width: int, height: int, **options: object) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, color_system=None, legacy_windows=False, **options)  # type: ignore[arg-type]
    console.print(thing)
    return file.getvalue().splitlines()


def test_a_screen_is_as_high_as_the_terminal_and_no_wider(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(300, 7, odd=True)
    with embedded.open() as engine, engine.mirror(fields=FIELDS) as mirror:
        observer = Observer(mirror)
        everything = observer.figures(60)
    nothing = Figures(everything.backend, 0, {"both": 0}, {"IPv4": 0}, None, [], [], everything.health)
    for figures in (everything, nothing):
        for width in (1, 20, 40, 60, 80, 132):
            for height in (*range(1, 26), 50):
                for tables in Tables:
                    controls = Controls(tables=tables, paused=height % 2 == 0)
                    lines = rendered(screen(figures, controls, "embedded:x", 1, width, height, 99), width, height)
                    assert max(map(len, lines)) <= width
                    if height >= 4:
                        assert len(lines) == height, (width, height, tables)
                        assert lines[0].startswith(f"wfpsa top embedded:x  {figures.backend}, every 1 s"[:width])
                        assert lines[-1].startswith("q quit"[:width])


def test_both_tables_are_there_where_there_is_room_and_rows_are_never_more_than_asked_for() -> None:
    assert [height for height in range(30) if fits_both(height)] == list(range(16, 30))
    for height in range(1, 60):
        for tables in Tables:
            for most in (1, 4, 99):
                room = divided(height, tables, most)
                assert 0 <= room.peers <= most and 0 <= room.oldest <= most
                if height >= 10:
                    assert room.rows >= min(most, 3)
                assert bool(room.peers and room.oldest) is (tables is Tables.BOTH and fits_both(height))


@pytest.mark.parametrize("width", [40, 80])
def test_the_last_line_names_the_keys_or_what_is_typed(embedded: testing.EmbeddedEngine, width: int) -> None:
    with embedded.open() as engine, engine.mirror(fields=FIELDS) as mirror:
        figures = Observer(mirror).figures(9)

    def last(controls: Controls) -> str:
        return rendered(screen(figures, controls, "t", 1, width, 24, 9), width, 24)[-1]

    words = last(Controls()).split()
    assert {"q", "/", "Tab", "c", "a", "r"} <= set(words)
    assert ("Space" in words) is (width == 80)
    assert "Esc all peers" in last(pressed("/10.0.0.0/8\r"))
    assert last(pressed("/10.")).startswith("peers in 10._")
    assert last(pressed("/10.\r")).startswith("'10.' does not appear to be")


def test_what_is_drawn_can_be_written_in_any_encoding_and_moves_no_cursor(embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(50, 3)
    with embedded.open() as engine, engine.mirror(fields=FIELDS) as mirror:
        figures = Observer(mirror).figures(50)
    for thing in (
        screen(figures, Controls(), "embedded:\x1b[2J", 1, 40, 10, 99),
        page(figures, Controls(), "embedded:\x1b[2J", 1, 80),
    ):
        text = "\n".join(rendered(thing, 80, 10))
        assert text.isascii() and "\x1b" not in text and "\\x1b[2J" in text
