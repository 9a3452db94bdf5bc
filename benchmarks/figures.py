"""A figure that something is wanted of: what it is called, how it is shown, and what it should be."""

from collections.abc import Callable
from typing import NamedTuple


def ns(value: float) -> str:
    """Nanoseconds as they are."""
    return f"{value:,.0f} ns"


def us(value: float) -> str:
    """Nanoseconds as microseconds."""
    return f"{value / 1e3:,.1f} us"


def rate(value: float) -> str:
    """Nanoseconds a context as millions of contexts a second."""
    return f"{1e3 / value:.2f} M/s"


def megabytes(value: float) -> str:
    """Bytes as megabytes."""
    return f"{value / 1e6:.1f} MB"


class Figure(NamedTuple):
    """One line of the table of figures."""

    what: str
    contexts: int
    unit: Callable[[float], str]
    wanted: str = "-"
    scales: bool = False
    """Whether the ratio to the same figure at the smallest size says something."""
