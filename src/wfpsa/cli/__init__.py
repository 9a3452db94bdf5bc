"""The command line `wfpsa`: list, get, expire, doctor, bench. It needs the extra `cli`; this module alone does not."""

import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = frozenset({"click", "duckdb", "rich", "typer"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line with these arguments (those of the process without) and returns its exit code."""
    try:
        from wfpsa.cli.app import run

        return run(sys.argv[1:] if argv is None else argv)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f"wfpsa: the command line needs {error.name}: pip install 'wfpsa[cli]'", file=sys.stderr)
        return 1
