"""Enumerations: members and values as the SDK's headers have them."""

from enum import IntEnum

import wfpsa
from wfpsa import enums

EXPECTED = {
    "TrafficType": {"TRANSPORT": 0, "TUNNEL": 1},
    "TransformType": {"AH": 1, "ESP_AUTH": 2, "ESP_CIPHER": 3, "ESP_AUTH_AND_CIPHER": 4, "ESP_AUTH_FW": 5},
    "AuthType": {"MD5": 0, "SHA_1": 1, "SHA_256": 2, "AES_128": 3, "AES_192": 4, "AES_256": 5},
    "AuthConfig": {
        "HMAC_MD5_96": 0,
        "HMAC_SHA_1_96": 1,
        "HMAC_SHA_256_128": 2,
        "GCM_AES_128": 3,
        "GCM_AES_192": 4,
        "GCM_AES_256": 5,
    },
    "CipherType": {"DES": 1, "TRIPLE_DES": 2, "AES_128": 3, "AES_192": 4, "AES_256": 5},
    "CipherConfig": {
        "CBC_DES": 1,
        "CBC_3DES": 2,
        "CBC_AES_128": 3,
        "CBC_AES_192": 4,
        "CBC_AES_256": 5,
        "GCM_AES_128": 6,
        "GCM_AES_192": 7,
        "GCM_AES_256": 8,
    },
    "PfsGroup": {
        "NONE": 0,
        "PFS_1": 1,
        "PFS_2": 2,
        "PFS_2048": 3,
        "PFS_14": 3,
        "ECP_256": 4,
        "ECP_384": 5,
        "MM": 6,
        "PFS_24": 7,
    },
    "ChangeKind": {"ADDED": 1, "DELETED": 2},
    "Outcome": {
        "EXPIRED": 0,
        "ALREADY_GONE": 1,
        "DENIED": 2,
        "FAILED": 3,
        "SKIPPED": 4,
        "CHANGED": 5,
        "NOT_ATTEMPTED": 6,
    },
    "Guard": {"NONE": 0, "EXCLUDE": 1, "KEEP_PER_PEER": 2},
}


def test_members_and_values_are_the_sdks() -> None:
    for name, members in EXPECTED.items():
        enumeration = getattr(enums, name)
        assert issubclass(enumeration, IntEnum) and getattr(wfpsa, name) is enumeration
        assert {member: value.value for member, value in enumeration.__members__.items()} == members


def test_the_module_exports_them_all_and_nothing_else() -> None:
    assert enums.__all__ == sorted(EXPECTED)


def test_values_leave_room_for_out_of_range_and_absent() -> None:
    assert all(0 <= value < 254 for members in EXPECTED.values() for value in members.values())
