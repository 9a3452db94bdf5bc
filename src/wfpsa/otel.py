"""The metrics of a mirror or an engine through the OpenTelemetry API, read once for all instruments of an export."""

import functools
import math
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wfpsa.engine import Engine
from wfpsa.families import FAMILIES, METRIC_FIELDS, TOP_PEERS_MAX, Family, Reader, Reading, wfpsa_version
from wfpsa.mirror import Mirror

try:
    from opentelemetry import metrics
except ImportError as error:
    raise ImportError(
        "wfpsa.otel needs opentelemetry-api: python -m pip install 'wfpsa[otel]'", name=error.name
    ) from error

__all__ = ["METRIC_FIELDS", "TOP_PEERS_MAX", "Instrumentation", "instrument"]

MOMENT = 1.0
"""Seconds after which what was read is not shown any more: the callbacks of an export follow each other at once."""


def instrument(
    source: Mirror | Engine,
    *,
    engine: Engine | None = None,
    top_peers: int = 0,
    meter_provider: metrics.MeterProvider | None = None,
) -> "Instrumentation":
    """Shows a mirror, which costs no enumeration, or an engine, which is listed at each export, until `close()`.

    `source`, `engine` and `top_peers` are what `wfpsa.metrics.WfpsaCollector` takes, and its families are what is
    shown, with dots and units by OpenTelemetry's conventions; `meter_provider` is the global one where none is named.
    Nothing is read before the first export, and then once an export. Where the engine does not answer, the last state
    is shown, `wfpsa.up` is 0 and `wfpsa.state.age` grows.

    Raises TypeError or ValueError for bad arguments, ValueError where that meter provider shows another source.
    """
    if meter_provider is not None and not isinstance(meter_provider, metrics.MeterProvider):
        raise TypeError(
            "meter_provider must be an opentelemetry.metrics.MeterProvider or None, "
            f"not {type(meter_provider).__name__}"
        )
    reader = Reader(source, engine=engine, top_peers=top_peers)
    instruments = _instruments_of(meter_provider or metrics.get_meter_provider())
    instruments.show(reader)
    return Instrumentation(instruments, reader)


class Instrumentation:
    """What a meter provider shows of a source, which it keeps alive until `close()`; a context manager."""

    def __init__(self, instruments: "_Instruments", reader: Reader) -> None:
        self._instruments = instruments
        self._reader: Reader | None = reader

    def close(self) -> None:
        """Shows nothing any more and lets go of the source, after a reading that goes on; again: does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._instruments.hide(reader)

    def __enter__(self) -> "Instrumentation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- instruments ----


class _Instrument(NamedTuple):
    """One of the API's, and the family it shows."""

    name: str
    create: str
    """The method of a meter."""
    unit: str
    text: str


def _of_family(family: Family) -> Iterator[_Instrument]:
    if family.kind == "histogram":  # the API has none that is observed; its buckets are not shown
        said = family.text.removesuffix(".")
        for part, unit, text in (("count", "{call}", "how many there were"), ("sum", family.unit, "in sum")):
            yield _Instrument(f"{family.name}.{part}", "create_observable_counter", unit, f"{said}, {text}.")
    elif family.kind == "counter":
        yield _Instrument(family.name, "create_observable_counter", family.unit, family.text)
    elif family.unit == "s":  # ages cannot be added up
        yield _Instrument(family.name, "create_observable_gauge", family.unit, family.text)
    else:
        yield _Instrument(family.name, "create_observable_up_down_counter", family.unit, family.text)


def _observations(readings: Iterable[Reading]) -> dict[str, list[metrics.Observation]]:
    """What each instrument shows, by its name."""
    found: dict[str, list[metrics.Observation]] = {}
    for reading in readings:
        family = reading.family
        for point in reading.points:
            values = {family.name: point.value}
            if family.kind == "histogram":
                values = {f"{family.name}.count": point.buckets[-1][1], f"{family.name}.sum": point.value}
            attributes = dict(zip(family.labels, point.labels, strict=True))
            for name, value in values.items():
                if math.isfinite(value):  # there is no age where no state was ever read
                    found.setdefault(name, []).append(metrics.Observation(value, attributes))
    return found


class _Instruments:
    """The instruments of a meter provider, which never forgets one: they show whatever source there is at the time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may close what its own thread reads
        self._reader: Reader | None = None
        self._read: dict[str, list[metrics.Observation]] = {}
        self._asked: set[str] = set()
        self._ended = 0.0  # when that was read, on the monotonic clock

    def create(self, meter: metrics.Meter) -> None:
        """Creates them. A meter would take no callbacks for them a second time, and says so to nobody."""
        for family in FAMILIES:
            for name, create, unit, text in _of_family(family):
                callbacks = [functools.partial(self._observed, name)]
                getattr(meter, create)(name, callbacks, unit=unit, description=text)

    def show(self, reader: Reader) -> None:
        """Shows what that reads."""
        with self._lock:
            if self._reader is not None:
                raise ValueError("meter_provider shows a source of wfpsa's already: close() that, or name another one")
            self._reader, self._read, self._asked = reader, {}, set()

    def hide(self, reader: Reader) -> None:
        """Shows nothing, unless another one is shown by now."""
        with self._lock:
            if self._reader is reader:
                self._reader, self._read = None, {}

    def _observed(self, name: str, options: metrics.CallbackOptions) -> list[metrics.Observation]:
        """What an instrument shows now.

        Nothing tells which callbacks are of one export, but an export asks each instrument once, and all of them within
        a moment: who asks again, or later, is in the next one.
        """
        with self._lock:
            reader = self._reader
            if reader is None:
                return []
            if not self._asked or name in self._asked or time.monotonic() - self._ended > MOMENT:
                self._read, self._asked = {}, set()
                try:
                    found = _observations(reader.read())
                finally:  # where reading fails, it fails once an export
                    self._ended = time.monotonic()
                    self._asked.add(name)
                if self._reader is not reader:  # closed meanwhile, by a signal handler
                    return []
                self._read = found
            self._asked.add(name)
            return self._read.get(name, [])


_made: "weakref.WeakKeyDictionary[metrics.MeterProvider, _Instruments]" = weakref.WeakKeyDictionary()
_of_global: _Instruments | None = None
_making = threading.Lock()


def _instruments_of(provider: metrics.MeterProvider) -> _Instruments:
    """Those of a meter provider, created at the first time."""
    global _of_global
    is_global = provider is metrics.get_meter_provider()
    with _making:
        found = _made.get(provider)
        if found is None and is_global:
            found = _of_global  # those of the stand-in, from before a provider was set, have become this one's
        if found is None:
            found = _Instruments()
            found.create(provider.get_meter("wfpsa", wfpsa_version()))
        _made[provider] = found
        if is_global:
            _of_global = found
    return found
