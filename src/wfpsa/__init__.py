"""IPsec SA contexts of the Windows Filtering Platform, enumerated and expired at C speed."""

from collections.abc import Sequence as _Sequence
from typing import TYPE_CHECKING as _TYPE_CHECKING

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
    NotFound,
    SessionAborted,
    WfpError,
)
from wfpsa.report import ExpiryReport
from wfpsa.statistics import Statistics
from wfpsa.subscription import Gap, SaChange, Subscription

if _TYPE_CHECKING:
    from wfpsa.keying import Sa, SaBundle, Traffic
    from wfpsa.plan import ExpiryPlan

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


def __getattr__(name: str) -> object:
    if name in ("Sa", "SaBundle", "Traffic"):  # few need them, and what they import takes longer than all the rest
        from wfpsa import keying

        return getattr(keying, name)
    if name == "ExpiryPlan":
        from wfpsa.plan import ExpiryPlan

        return ExpiryPlan
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("wfpsa")
        except PackageNotFoundError:
            raise AttributeError("this wfpsa runs from a checkout and has no version: install it") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
