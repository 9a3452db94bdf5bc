"""The real Windows Filtering Platform: SA contexts made through its own API, listed, expired and cleaned up.

Run elevated, on a machine whose IPsec state may be disturbed: `python -m pytest -m live -s tests/windows/test_live.py`.
The contexts protect traffic between two addresses of 192.0.2.0/24 and 198.51.100.0/24, which nobody has. Structures
and prototypes come from win32more, so that an error in ours would show. Lines that begin with `reference:` answer
questions that the reference marks [open].
"""

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator
from ctypes import byref, pointer
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import pytest

import wfpsa

pytestmark = [pytest.mark.live, pytest.mark.needs_win32more]

LOCAL, REMOTE = "192.0.2.0/24", "198.51.100.0/24"
COUNT = 24
KEY = bytes(range(1, 33))
RPC_C_AUTHN_DEFAULT = 0xFFFFFFFF
ESP_AUTH_AND_CIPHER, SHA_1, AES_128 = 4, 1, 3
TAIL_SECONDS = 60


def reference(place: str, text: object) -> None:
    """A line for the reference, to be copied by hand."""
    print(f"\nreference: {place}: {text}")


@dataclass
class Made:
    """What a test made on the machine, to be removed."""

    api: Any
    engine: Any
    filters: list[int] = field(default_factory=list)
    contexts: list[int] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)

    def call(self, name: str, *arguments: Any) -> int:
        """One function of the API; the test fails where that does."""
        code = getattr(self.api, name)(*arguments) & 0xFFFFFFFF
        assert code == 0, f"{name}: 0x{code:08X}"
        return code

    def filter(self, inbound: bool, local: int, remote: int) -> int:
        """The id of a transport-layer filter that sends the traffic of the two addresses to the IPsec callout."""
        api = self.api
        conditions = (api.FWPM_FILTER_CONDITION0 * 2)()
        for condition, key, address in (
            (conditions[0], api.FWPM_CONDITION_IP_LOCAL_ADDRESS, local),
            (conditions[1], api.FWPM_CONDITION_IP_REMOTE_ADDRESS, remote),
        ):
            condition.fieldKey = key
            condition.matchType = api.FWP_MATCH_EQUAL
            condition.conditionValue.type = api.FWP_UINT32
            condition.conditionValue.uint32 = address
        wanted = api.FWPM_FILTER0()
        wanted.displayData.name = "wfpsa live test"
        layer, callout = (
            (api.FWPM_LAYER_INBOUND_TRANSPORT_V4, api.FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4)
            if inbound
            else (api.FWPM_LAYER_OUTBOUND_TRANSPORT_V4, api.FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4)
        )
        wanted.layerKey = layer
        wanted.action.type = api.FWP_ACTION_CALLOUT_TERMINATING
        wanted.action.calloutKey = callout
        wanted.numFilterConditions = 2
        wanted.filterCondition = ctypes.cast(conditions, type(wanted.filterCondition))
        made = ctypes.c_uint64()
        self.call("FwpmFilterAdd0", self.engine, byref(wanted), None, byref(made))
        self.filters.append(made.value)
        return made.value

    def traffic(self, filter_id: int, local: int, remote: int) -> Any:
        """IPSEC_TRAFFIC1 of one direction, transport mode."""
        traffic = self.api.IPSEC_TRAFFIC1()
        traffic.ipVersion = self.api.FWP_IP_VERSION_V4
        traffic.localV4Address, traffic.remoteV4Address = local, remote
        traffic.trafficType = self.api.IPSEC_TRAFFIC_TYPE_TRANSPORT
        traffic.ipsecFilterId = filter_id
        return traffic

    def bundle(self, spi: int, pair: int) -> Any:
        """One ESP SA, AES-128 in CBC with HMAC-SHA-1."""
        api = self.api
        key = (ctypes.c_ubyte * len(KEY)).from_buffer_copy(KEY)
        both = api.IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0()
        both.saCipherInformation.cipherTransform.cipherTransformId.cipherType = AES_128
        both.saCipherInformation.cipherTransform.cipherTransformId.cipherConfig = 3
        both.saAuthInformation.authTransform.authTransformId.authType = SHA_1
        both.saAuthInformation.authTransform.authTransformId.authConfig = 1
        for blob, size in (both.saCipherInformation.cipherKey, 16), (both.saAuthInformation.authKey, 20):
            blob.size, blob.data = size, ctypes.cast(key, type(blob.data))
        sa = api.IPSEC_SA0()
        sa.spi, sa.saTransformType = spi, ESP_AUTH_AND_CIPHER
        sa.espAuthAndCipherInformation = pointer(both)
        bundle = api.IPSEC_SA_BUNDLE1()
        bundle.lifetime.lifetimeSeconds = 3600
        bundle.lifetime.lifetimeKilobytes = 100_000
        bundle.lifetime.lifetimePackets = 1_000_000
        bundle.idleTimeoutSeconds = 3600
        bundle.ndAllowClearTimeoutSeconds = 10
        bundle.qmSaId = pair
        bundle.numSAs, bundle.saList = 1, pointer(sa)
        bundle.ipVersion = api.FWP_IP_VERSION_V4
        self.kept += [key, both, sa]
        return bundle

    def context(self, number: int) -> int:
        """A complete context between the number-th pair of addresses: create, SPI, inbound, outbound."""
        api = self.api
        local, remote = int(IPv4Address("192.0.2.1")), int(IPv4Address("198.51.100.1")) + number
        outbound = self.traffic(self.filter(False, local, remote), local, remote)
        inbound_filter, made = ctypes.c_uint64(), ctypes.c_uint64()
        self.call("IPsecSaContextCreate1", self.engine, byref(outbound), None, byref(inbound_filter), byref(made))
        self.contexts.append(made.value)
        wanted = api.IPSEC_GETSPI1()
        wanted.inboundIpsecTraffic = self.traffic(self.filter(True, local, remote), local, remote)
        wanted.ipVersion = api.FWP_IP_VERSION_V4
        spi = ctypes.c_uint32()
        self.call("IPsecSaContextGetSpi1", self.engine, made.value, byref(wanted), byref(spi))
        self.call("IPsecSaContextAddInbound1", self.engine, made.value, byref(self.bundle(spi.value, 1000 + number)))
        peers = 0x10000000 + number
        self.call("IPsecSaContextAddOutbound1", self.engine, made.value, byref(self.bundle(peers, 1000 + number)))
        return made.value

    def remove(self) -> None:
        """Deletes it all; what is gone already is no fault."""
        for context in self.contexts:
            self.api.IPsecSaContextDeleteById0(self.engine, context)
        for filter_id in self.filters:
            self.api.FwpmFilterDeleteById0(self.engine, filter_id)


@pytest.fixture
def made() -> Iterator[Made]:
    """A session of win32more's, and what is made in it."""
    import win32more.Windows.Win32.NetworkManagement.WindowsFilteringPlatform as api

    engine = api.FWPM_ENGINE_HANDLE()
    assert api.FwpmEngineOpen0(None, RPC_C_AUTHN_DEFAULT, None, None, byref(engine)) == 0
    everything = Made(api, engine)
    try:
        yield everything
    finally:
        everything.remove()
        assert api.FwpmEngineClose0(engine) == 0


@pytest.fixture
def windows() -> Iterator[wfpsa.Engine]:
    """The engine under test."""
    with wfpsa.open_engine("windows:") as engine:
        yield engine


def powershell(command: str) -> Any:
    """What a cmdlet says, as objects."""
    text = f"@({command}) | ConvertTo-Json -Depth 3 -Compress"
    done = subprocess.run(
        ["powershell", "-NoProfile", "-NonInteractive", "-Command", text], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout or "[]")
    return found if isinstance(found, list) else [found]


def test_contexts_are_listed_as_windows_lists_them(made: Made, windows: wfpsa.Engine) -> None:
    ids = {made.context(number) for number in range(COUNT)}
    everything = windows.snapshot()
    ours = windows.snapshot(local=LOCAL, remote=REMOTE)
    reference("4.4", f"a template with an IPv4 mask is {'taken' if ours.pushed_down else 'refused'}")
    assert set(ours["context_id"].tolist()) == ids <= set(everything["context_id"].tolist())
    assert {str(context.local_address) for context in ours} == {"192.0.2.1"}
    for context in ours:
        assert windows.get(context.context_id) == context
        assert (context.outbound.transform, context.inbound.transform) == (ESP_AUTH_AND_CIPHER, ESP_AUTH_AND_CIPHER)
    listed = powershell("Get-NetIPsecQuickModeSA | Select-Object LocalEndpoint, RemoteEndpoint")
    pairs = {(sa["LocalEndpoint"], sa["RemoteEndpoint"]) for sa in listed}
    assert {(str(context.local_address), str(context.remote_address)) for context in ours} <= pairs
    order = everything["context_id"].tolist()
    reference("4.2", f"entries come {'by rising id' if order == sorted(order) else 'in another order'}")


def test_small_pages_give_the_same_contexts(made: Made, windows: wfpsa.Engine) -> None:
    ids = [made.context(number) for number in range(COUNT)]
    for version in (0, 1):
        for size in (1, 7, 1024):
            pages = list(windows.pages(remote=REMOTE, version=version, page_size=size))
            assert sorted(i for page in pages for i in page["context_id"].tolist()) == sorted(ids)


def test_expire_and_the_inbound_tail(made: Made, windows: wfpsa.Engine) -> None:
    identity = made.context(0)
    report = windows.expire([identity])
    assert report.outcome.tolist() == [wfpsa.Outcome.EXPIRED]
    start = time.monotonic()
    seen = windows.snapshot(remote=REMOTE)
    shown = [(context.inbound is not None, context.outbound is not None) for context in seen]
    reference("5.3", f"after Expire0 an observer sees (inbound, outbound): {shown}")
    reference("5.3", f"a second Expire0 within the minute gives {windows.expire([identity]).code.tolist()}")
    while len(windows.snapshot(remote=REMOTE)) and time.monotonic() - start < 2 * TAIL_SECONDS:
        time.sleep(1)
    reference("5.3", f"the context is gone after {time.monotonic() - start:.0f} s")
    assert len(windows.snapshot(remote=REMOTE)) == 0
    assert windows.expire([identity]).outcome.tolist() == [wfpsa.Outcome.ALREADY_GONE]


def test_the_order_of_events(made: Made, windows: wfpsa.Engine) -> None:
    api = made.api
    start, events, steps = time.monotonic(), [], []

    @api.IPSEC_SA_CONTEXT_CALLBACK0
    def note(context: Any, change: Any) -> None:
        events.append((round(time.monotonic() - start, 3), change.contents.changeType, change.contents.saContextId))

    subscription, handle = api.IPSEC_SA_CONTEXT_SUBSCRIPTION0(), ctypes.c_void_p()
    made.call("IPsecSaContextSubscribe0", made.engine, byref(subscription), note, None, byref(handle))
    try:
        identity = made.context(0)
        steps.append((round(time.monotonic() - start, 3), "complete"))
        time.sleep(2)
        windows.expire([identity])
        steps.append((round(time.monotonic() - start, 3), "expired"))
        time.sleep(TAIL_SECONDS + 15)
        second = made.context(1)
        windows.delete(second)
        steps.append((round(time.monotonic() - start, 3), "another made and deleted"))
        time.sleep(2)
    finally:
        made.call("IPsecSaContextUnsubscribe0", made.engine, handle)
    reference("5.3, 5.4", f"steps {steps}; events (seconds, 1 ADD or 2 DELETE, id) {events}")
    assert [kind for _, kind, which in events if which == identity][:1] == [1]


def test_whether_key_blobs_come_back_zeroed(made: Made) -> None:
    identity = made.context(0)
    found = ctypes.POINTER(made.api.IPSEC_SA_CONTEXT1)()
    made.call("IPsecSaContextGetById1", made.engine, identity, byref(found))
    try:
        sa = found.contents.outboundSa.contents.saBundle.saList.contents
        blob = sa.espAuthAndCipherInformation.contents.saCipherInformation.cipherKey
        content = ctypes.string_at(blob.data, blob.size) if blob.size else b""
    finally:
        made.api.FwpmFreeMemory0(ctypes.cast(pointer(found), ctypes.POINTER(ctypes.c_void_p)))
    kind = (
        "no bytes" if not content else "zeros" if not any(content) else "the key" if content in KEY else "other bytes"
    )
    reference("12", f"the key blob of a context got by id holds {len(content)} bytes: {kind}")


def test_whether_expire_scales_with_sessions(made: Made, windows: wfpsa.Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ids = [made.context(number) for number in range(4 * COUNT)]
    half = len(ids) // 2
    start = time.monotonic()
    windows.expire(ids[:half]).raise_for_failures()
    alone = time.monotonic() - start
    engines = [wfpsa.open_engine("windows:") for _ in range(4)]
    try:
        start = time.monotonic()
        with ThreadPoolExecutor(len(engines)) as pool:
            reports = list(pool.map(lambda at: engines[at].expire(ids[half + at :: len(engines)]), range(len(engines))))
        together = time.monotonic() - start
    finally:
        for engine in engines:
            engine.close()
    for report in reports:
        report.raise_for_failures()
    reference("5.5", f"expiring {half} contexts took {alone:.3f} s with 1 session, {together:.3f} s with 4")


def test_an_enumeration_begun_before_an_expiry(made: Made, windows: wfpsa.Engine) -> None:
    ids = [made.context(number) for number in range(COUNT)]
    pages = windows.pages(remote=REMOTE, page_size=4)
    first = next(pages)["context_id"].tolist()
    rest = [identity for identity in ids if identity not in first]
    for identity in rest:
        windows.delete(identity)
    later = [identity for page in pages for identity in page["context_id"].tolist()]
    kind = "a snapshot" if sorted(later) == sorted(rest) else "live" if not later else f"neither: {len(later)} left"
    reference("4.2", f"an enumeration of contexts is {kind}")


def test_nothing_is_left_on_the_machine(windows: wfpsa.Engine) -> None:
    assert len(windows.snapshot(local=LOCAL, remote=REMOTE)) == 0
    assert os.environ.get("WFPSA_ENGINE") is None
