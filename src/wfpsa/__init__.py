"""IPsec SA contexts of the Windows Filtering Platform, enumerated and expired at C speed."""

from collections.abc import Sequence as _Sequence

try:
    from wfpsa._native import Column, SaBatch, SaContext, SaDetails
except ImportError as _error:
    from wfpsa._import_failure import explained as _explained

    raise _explained(_error) from _error
from wfpsa.engine import Engine, open_engine
from wfpsa.enums import (
    AuthConfig,
    AuthType,
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

__all__ = [
    "AccessDenied",
    "AuthConfig",
    "AuthType",
    "CipherConfig",
    "CipherType",
    "Column",
    "Engine",
    "EngineClosed",
    "EngineTimeout",
    "EngineUnavailable",
    "ExpiryFailed",
    "ExpiryInterrupted",
    "ExpiryReport",
    "NotFound",
    "Outcome",
    "PfsGroup",
    "SaBatch",
    "SaContext",
    "SaDetails",
    "SessionAborted",
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


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("wfpsa")
        except PackageNotFoundError:
            raise AttributeError("this wfpsa runs from a checkout and has no version: install it") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
