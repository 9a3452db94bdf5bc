"""The layout that this build compiled, compared with the one of the Windows SDK."""

import ctypes
import json
import re
from pathlib import Path

import oracle
import pytest
from support import ROOT

from wfpsa import _native

BITS = 8 * ctypes.sizeof(ctypes.c_void_p)
SDK = json.loads((Path(__file__).parent / "data" / f"win{BITS}-layout.json").read_text(encoding="utf-8"))


def test_every_structure_and_field_lies_where_the_sdk_has_it() -> None:
    layout = _native.layout()
    assert len(layout) > 40
    for name, fields in layout.items():
        expected = {field: (spec["offset"], spec["size"]) for field, spec in SDK[name]["fields"].items()}
        assert fields == {"": (0, SDK[name]["size"]), **expected}, name


def test_the_sizes_that_the_references_warn_about() -> None:
    sizes = {name: fields[""][1] for name, fields in _native.layout().items()}
    if BITS == 64:
        assert sizes["IPSEC_SA_DETAILS1"] == 224  # virtualIfTunnelInfo is in it, not behind a pointer
        assert sizes["IPSEC_SA_DETAILS0"] == 168
        assert sizes["FWP_V6_ADDR_AND_MASK"] == 17  # no padding


def test_every_structure_that_the_decoder_reads_is_checked() -> None:
    assert set(oracle._STRUCTURES) <= set(_native.layout())


@pytest.mark.source
def test_every_structure_that_the_header_declares_is_checked() -> None:
    header = (ROOT / "include" / "wfpsa" / "wfp.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"^typedef struct (\w+)_ \{", header, re.MULTILINE))
    assert "IPSEC_SA_CONTEXT1" in declared
    assert declared & set(SDK) == declared - {"GUID", "_GUID"} == set(_native.layout())
