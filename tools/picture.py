"""Draws docs/top.svg: what `wfpsa top` shows of an embedded engine in which contexts come and go.

python tools/picture.py           draw it anew
python tools/picture.py --check   exit with 1 where the picture does not show what the command would
"""

import html
import io
import re
import sys
import time
from pathlib import Path

from rich.console import Console

from wfpsa import testing
from wfpsa.cli.top_controls import Controls
from wfpsa.cli.top_figures import FIELDS, Observer
from wfpsa.cli.top_view import divided, screen

PICTURE = Path(__file__).parent.parent / "docs" / "top.svg"
WIDTH, HEIGHT = 90, 26
SECONDS = 300
BUSY = {"203.0.113.7": 0.5, "10.2.0.9": 1, "10.2.17.4": 2, "2001:db8:7::1": 4}
"""Peers, and after how many seconds another context of theirs comes."""


def drawn() -> str:
    """The picture: a frame after some minutes of churn, on a clock that the engine and the observer share."""
    clock = 0.0
    with testing.EmbeddedEngine("office") as embedded:
        embedded.stop_clock()
        embedded.seed(1500, 7)
        with embedded.open() as engine, engine.mirror(fields=FIELDS, reconcile_every=None) as mirror:
            observer = Observer(mirror, clock=lambda: clock)
            embedded.churn(39, 5)
            for second in range(SECONDS):
                embedded.advance(1)
                for peer, every in BUSY.items():
                    for _ in range(int((second + 1) / every) - int(second / every)):
                        embedded.add("2001:db8::1" if ":" in peer else "10.0.0.1", peer)
                mirror.reconcile(60)  # the engine tells of changes when it comes to it
                clock += 1
                observer.read()
            time.sleep(0.3)
            mirror.catch_up(60)
            controls = Controls()
            figures = observer.figures(divided(HEIGHT, controls.tables, HEIGHT).rows, controls.sort)
            shown = screen(figures, controls, embedded.target, 1, WIDTH, HEIGHT, HEIGHT)
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
    picture = console.export_svg(title=f"wfpsa top --engine {embedded.target}", unique_id="wfpsa-top")
    picture = re.sub(r"\n *@font-face \{[^}]*\}", "", picture)  # who reads a document asks no other server for a font
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
