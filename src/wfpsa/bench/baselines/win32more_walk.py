"""The ordinary win32more user: its ready-made classes, walked as ctypes_naive walks its own; on Windows only."""

from win32more.Windows.Win32.NetworkManagement import WindowsFilteringPlatform  # type: ignore[import,unused-ignore]

from wfpsa.bench.baselines import ctypes_naive
from wfpsa.bench.baselines.ctypes_naive import COLUMNS_ALL, COLUMNS_CORE, Row

__all__ = ["COLUMNS_ALL", "COLUMNS_CORE", "decode"]


def decode(address: int, count: int, fields: str = "all") -> list[Row]:
    """Decode the array of `count` pointers to IPSEC_SA_CONTEXT1 at `address`: a dict each."""
    return ctypes_naive.decode(address, count, fields, structure=WindowsFilteringPlatform.IPSEC_SA_CONTEXT1)
