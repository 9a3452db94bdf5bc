"""The layouts that the extension reports beside those of win32more, generated from Microsoft's metadata."""

import ctypes

import pytest

from wfpsa import _native

pytestmark = pytest.mark.needs_win32more


def places(structure: type[ctypes.Structure], base: int = 0) -> dict[str, tuple[int, int]]:
    """(offset, size) by field, those of unnamed unions among them."""
    found: dict[str, tuple[int, int]] = {}
    for name, kind, *_ in structure._fields_:
        offset = base + getattr(structure, name).offset
        if name in getattr(structure, "_anonymous_", ()):
            found |= places(kind, offset)
        else:
            found[name] = (offset, ctypes.sizeof(kind))
    return found


def test_every_field_agrees() -> None:
    import win32more.Windows.Win32.NetworkManagement.WindowsFilteringPlatform as metadata

    compared = 0
    for name, fields in _native.layout().items():
        structure = getattr(metadata, name)
        theirs = places(structure)
        assert ctypes.sizeof(structure) == fields[""][1], name
        for field, place in fields.items():
            if field:
                assert theirs[field] == place, f"{name}.{field}"
                compared += 1
    assert compared > 200
