"""Draws docs/top.svg: a session of `wfpsa top` over an embedded engine in which contexts come and go.

python tools/picture.py           draw it anew
python tools/picture.py --check   exit with 1 where the picture does not show what the command would
"""

import html
import io
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType

from wfpsa import testing
from wfpsa.cli.top_controls import Controls
from wfpsa.cli.top_figures import FIELDS, Figures, Observer
from wfpsa.cli.top_view import divided, fits_both, screen

PICTURE = Path(__file__).parent.parent / "docs" / "top.svg"
WIDTH, HEIGHT = 90, 26
SECONDS = 300
"""Of the engine's clock before the first frame."""
PRESSED = ("", "r", "/10.2.", "0.0/16\r", "\x1b\t")
"""The keys before each frame: peers by rate; a filter typed; applied; dropped, and the peers alone."""
SHOWN = 3
"""Seconds for which a frame is shown, on both clocks."""
BUSY = {"203.0.113.7": 0.5, "10.2.0.9": 1, "10.2.17.4": 2, "2001:db8:7::1": 4}
"""Peers, and after how many seconds another context of theirs comes."""

NAME = "wfpsa-top"
SHOWING = f"""
    .{NAME}-frame {{ visibility: hidden; animation: {NAME}-showing {SHOWN * len(PRESSED)}s step-end infinite; }}
    @keyframes {NAME}-showing {{ 0% {{ visibility: visible; }} {100 / len(PRESSED):g}% {{ visibility: hidden; }} }}
    @media (prefers-reduced-motion: reduce) {{ .{NAME}-frame {{ animation: none; }} }}
"""
"""The frames after the first lie over it, and each is shown in its turn; the first alone where nothing may move."""
FRAME = f"""<style>
    {{styles}}
    </style>
    <g class="{NAME}-frame" style="animation-delay: DELAYs">
    <rect x="{{terminal_x}}" y="{{terminal_y}}" width="{{terminal_width}}" height="{{terminal_height}}" fill="#292929"
        stroke="#292929"/>
    <g transform="translate({{terminal_x}}, {{terminal_y}})" clip-path="url(#{NAME}-clip-terminal)">
    {{backgrounds}}
    <g class="{NAME}-matrix">
    {{matrix}}
    </g>
    </g>
    </g>
"""


def session() -> Iterator[RenderableType]:
    """The screens after some minutes of churn, on a clock that the engine and the observer share."""
    clock = 0.0
    with testing.EmbeddedEngine("office") as embedded:
        embedded.stop_clock()
        embedded.seed(1500, 7)
        with embedded.open() as engine, engine.mirror(fields=FIELDS, reconcile_every=None) as mirror:
            observer = Observer(mirror, clock=lambda: clock)
            embedded.churn(39, 5)

            def go_on(seconds: int) -> None:
                nonlocal clock
                for second in range(int(clock), int(clock) + seconds):
                    embedded.advance(1)
                    for peer, every in BUSY.items():
                        for _ in range(int((second + 1) / every) - int(second / every)):
                            embedded.add("2001:db8::1" if ":" in peer else "10.0.0.1", peer)
                    mirror.reconcile(60)  # the engine tells of changes when it comes to it
                    clock += 1
                    observer.read()

            def figures() -> Figures:
                while True:  # how old the state is tells a clock that nothing stops
                    time.sleep(0.3)
                    mirror.catch_up(60)
                    rows = divided(HEIGHT, controls.tables, HEIGHT).rows
                    found = observer.figures(rows, controls.sort, controls.within)
                    if found.health.age < 1:
                        return found

            controls = Controls()
            go_on(SECONDS - SHOWN)
            for keys in PRESSED:
                for key in keys:
                    controls.press(key, fits_both(HEIGHT))
                go_on(SHOWN)
                yield screen(figures(), controls, embedded.target, 1, WIDTH, HEIGHT, HEIGHT)


def exported(shown: RenderableType, name: str, **options: str) -> str:
    """A screen as SVG, whose classes and clips have that name."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    console.print(shown)
    return console.export_svg(title="wfpsa top --engine embedded:office", unique_id=name, **options)


def drawn() -> str:
    """The picture of the whole session."""
    first, *others = session()
    picture = exported(first, NAME)
    picture = re.sub(r"\n *@font-face \{[^}]*\}", "", picture)  # who reads a document asks no other server for a font
    frames = ""
    for at, shown in enumerate(others, 1):
        frame = exported(shown, f"{NAME}-{at}", code_format=FRAME.replace("DELAY", str(at * SHOWN)))
        frames += frame.replace(f"{NAME}-{at}-line-", f"{NAME}-line-")  # the lines are where the first one has them
    picture = picture.replace("</style>", f"{SHOWING}</style>", 1).replace("</svg>", f"{frames}</svg>")
    return "".join(f"{line.rstrip()}\n" for line in picture.splitlines())


def text(picture: str) -> str:
    """What is written in it, which is the same whichever version of rich drew it."""
    return html.unescape("\n".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture)))


def main() -> int:
    """Draws or checks, and returns the exit code."""
    picture = drawn()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture, encoding="utf-8", newline="\n")
        return 0
    if text(PICTURE.read_text(encoding="utf-8")) == text(picture):
        return 0
    print(f"{PICTURE} does not show what the command would: python tools/picture.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
