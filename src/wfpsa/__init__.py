"""IPsec SA contexts of the Windows Filtering Platform, enumerated and expired at C speed."""

from collections.abc import Sequence as _Sequence

try:
    from wfpsa._native import CORE_FIELDS, BatchDiff, Column, SaBatch, SaContext, SaDetails
except ImportError as _error:
    from wfpsa._import_failure import explained as _explained

    raise _explained(_error) from _error
import wfpsa.saved  # noqa: F401 - what SaBatch.save and SaBatch.load do
from wfpsa.engine import Engine, open_engine
from wfpsa.enums import (
    AuthConfig,
    AuthType,
    ChangeKind,
    CipherConfig,
    CipherType,
    Guard,
    Outcome,
    PfsGroup,
    TrafficType,
    TransformType,
)
from wfpsa.errors import (
    AccessDenied,
    EngineClosed,
    EngineTimeout,
    EngineUnavailable,
    ExpiryFailed,
    ExpiryInterrupted,
    GenerationExpired,
    NotFound,
    SessionAborted,
    WfpError,
)
from wfpsa.report import ExpiryReport

TYPE_CHECKING = False  # importing typing takes a third of the whole
if TYPE_CHECKING:
    from wfpsa.keying import Sa, SaBundle, Traffic
    from wfpsa.mirror import Mirror, MirrorChanges
    from wfpsa.plan import ExpiryPlan
    from wfpsa.settle import Settlement
    from wfpsa.statistics import Statistics
    from wfpsa.subscription import Gap, SaChange, Subscription
del TYPE_CHECKING

__all__ = [
    "CORE_FIELDS",
    "AccessDenied",
    "AuthConfig",
    "AuthType",
    "BatchDiff",
    "ChangeKind",
    "CipherConfig",
    "CipherType",
    "Column",
    "Engine",
    "EngineClosed",
    "EngineTimeout",
    "EngineUnavailable",
    "ExpiryFailed",
    "ExpiryInterrupted",
    "ExpiryPlan",
    "ExpiryReport",
    "Gap",
    "GenerationExpired",
    "Guard",
    "Mirror",
    "MirrorChanges",
    "NotFound",
    "Outcome",
    "PfsGroup",
    "Sa",
    "SaBatch",
    "SaBundle",
    "SaChange",
    "SaContext",
    "SaDetails",
    "SessionAborted",
    "Settlement",
    "Statistics",
    "Subscription",
    "Traffic",
    "TrafficType",
    "TransformType",
    "WfpError",
    "get_include",
    "open_engine",
]

_Sequence.register(SaBatch)
_Sequence.register(Column)


def get_include() -> str:
    """The folder with the C headers (`#include "wfpsa/columns.h"`), for extensions that build on the C half."""
    from importlib.util import find_spec

    spec = find_spec("wfpsa.include")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("this installation of wfpsa has no C headers")
    return next(iter(spec.submodule_search_locations))


_LATER = {
    "ExpiryPlan": "plan",
    "Gap": "subscription",
    "Mirror": "mirror",
    "MirrorChanges": "mirror",
    "Sa": "keying",
    "SaBundle": "keying",
    "SaChange": "subscription",
    "Settlement": "settle",
    "Statistics": "statistics",
    "Subscription": "subscription",
    "Traffic": "keying",
}
"""The modules of what few need, and whose imports take longer than all the rest."""


def __getattr__(name: str) -> object:
    if name in _LATER:
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f"wfpsa.{_LATER[name]}"), name)
        return found
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("wfpsa")
        except PackageNotFoundError:
            raise AttributeError("this wfpsa runs from a checkout and has no version: install it") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
