"""The SDK's enumerations, in Python's spelling; values that are not listed stay plain integers."""

from enum import IntEnum

__all__ = [
    "AuthConfig",
    "AuthType",
    "ChangeKind",
    "CipherConfig",
    "CipherType",
    "Guard",
    "Outcome",
    "PfsGroup",
    "TrafficType",
    "TransformType",
]


class TrafficType(IntEnum):
    """IPSEC_TRAFFIC_TYPE: between two hosts, or between two tunnel endpoints."""

    TRANSPORT = 0
    TUNNEL = 1


class TransformType(IntEnum):
    """IPSEC_TRANSFORM_TYPE: what an SA does to a packet."""

    AH = 1
    ESP_AUTH = 2
    ESP_CIPHER = 3
    ESP_AUTH_AND_CIPHER = 4
    ESP_AUTH_FW = 5


class AuthType(IntEnum):
    """IPSEC_AUTH_TYPE: the algorithm that authenticates."""

    MD5 = 0
    SHA_1 = 1
    SHA_256 = 2
    AES_128 = 3
    AES_192 = 4
    AES_256 = 5


class AuthConfig(IntEnum):
    """IPSEC_AUTH_CONFIG_*: how it is used."""

    HMAC_MD5_96 = 0
    HMAC_SHA_1_96 = 1
    HMAC_SHA_256_128 = 2
    GCM_AES_128 = 3
    GCM_AES_192 = 4
    GCM_AES_256 = 5


class CipherType(IntEnum):
    """IPSEC_CIPHER_TYPE: the algorithm that encrypts (IPSEC_CIPHER_TYPE_3DES is TRIPLE_DES)."""

    DES = 1
    TRIPLE_DES = 2
    AES_128 = 3
    AES_192 = 4
    AES_256 = 5


class CipherConfig(IntEnum):
    """IPSEC_CIPHER_CONFIG_*: how it is used."""

    CBC_DES = 1
    CBC_3DES = 2
    CBC_AES_128 = 3
    CBC_AES_192 = 4
    CBC_AES_256 = 5
    GCM_AES_128 = 6
    GCM_AES_192 = 7
    GCM_AES_256 = 8


class PfsGroup(IntEnum):
    """IPSEC_PFS_GROUP: the Diffie-Hellman group of the quick mode (PFS_14 is another name of PFS_2048)."""

    NONE = 0
    PFS_1 = 1
    PFS_2 = 2
    PFS_2048 = 3
    PFS_14 = 3
    ECP_256 = 4
    ECP_384 = 5
    MM = 6
    PFS_24 = 7


class ChangeKind(IntEnum):
    """IPSEC_SA_CONTEXT_EVENT_TYPE0: what an event tells of a context."""

    ADDED = 1
    DELETED = 2


class Outcome(IntEnum):
    """What became of one context in a mass change."""

    EXPIRED = 0
    """The call succeeded: the outbound SA is gone, the inbound SA lingers for about a minute."""
    ALREADY_GONE = 1
    """The engine did not know the id (FWP_E_NOT_FOUND)."""
    DENIED = 2
    """The caller may not (ERROR_ACCESS_DENIED)."""
    FAILED = 3
    """The call failed with the code beside it."""
    SKIPPED = 4
    """A guard of a planned expiry said no."""
    CHANGED = 5
    """No longer the context that the plan saw."""
    NOT_ATTEMPTED = 6
    """The operation ended before this one's turn."""


class Guard(IntEnum):
    """What spares one context of a planned expiry."""

    NONE = 0
    """Nothing: it is to be expired."""
    EXCLUDE = 1
    """It was named as one to be spared."""
    KEEP_PER_PEER = 2
    """It is among the highest ids of its remote address."""
