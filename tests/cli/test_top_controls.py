"""Tests of the controls of `wfpsa top`: what each key chooses, and a filter that is typed."""

from ipaddress import ip_network

import pytest
from terminal import pressed

from wfpsa.cli.top_controls import Controls, Tables
from wfpsa.cli.top_figures import Sort


@pytest.mark.parametrize("key", ["q", "Q"])
def test_q_is_the_end_but_not_in_a_filter(key: str) -> None:
    assert Controls().press(key, True)
    assert pressed(f"/{key}").typed == key


def test_keys_sort_pause_and_turn() -> None:
    assert [pressed(key).sort for key in "carR"] == [Sort.CONTEXTS, Sort.ADDRESS, Sort.RATE, Sort.RATE]
    assert [pressed(" " * times).paused for times in range(3)] == [False, True, False]
    tables = [pressed("\t" * times).tables for times in range(4)]
    assert tables == [Tables.BOTH, Tables.PEERS, Tables.OLDEST, Tables.BOTH]
    tables = [pressed("\t" * times, both=False).tables for times in range(4)]
    assert tables == [Tables.BOTH, Tables.OLDEST, Tables.PEERS, Tables.OLDEST]


@pytest.mark.parametrize("key", ["x", "\r", "\x00", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\x7f", "1"])
def test_other_keys_do_nothing(key: str) -> None:
    assert pressed(key) == Controls()


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("/10.0.0.0/8\r", "10.0.0.0/8"),
        ("f10.0.0.1\n", "10.0.0.1/32"),
        ("/ 2001:db8::/32 \r", "2001:db8::/32"),
        ("/10.0.0.0/16\x7f\b8\r", "10.0.0.0/8"),
        ("/nonsense\x1510.0.0.0/8\r", "10.0.0.0/8"),
        ("/10.0.0.0/99\r\x7f\x7f8\r", "10.0.0.0/8"),
        ("/10.0.0.0/8\r/\x156.0.0.0/8\r", "6.0.0.0/8"),
    ],
)
def test_a_subnet_that_is_typed_is_the_filter(text: str, within: str) -> None:
    assert pressed(text) == Controls(within=ip_network(within))


@pytest.mark.parametrize("text", ["/\r", "/10.0.0.0/8\r/\x15\r", "/10.0.0.0/8\r\x1b", "/10.0.0.0/8\r/\x1b", "/x\r\x1b"])
def test_without_text_and_by_esc_the_filter_is_gone(text: str) -> None:
    assert pressed(text) == Controls()


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "1" * 200])
def test_what_is_no_subnet_is_told_and_can_be_corrected(text: str) -> None:
    controls = pressed(f"/10.0.0.0/8\r/\x15{text}\r")
    assert controls.within == ip_network("10.0.0.0/8") and controls.typed == text[:60]
    assert controls.fault is not None and text[:60] in controls.fault
    assert pressed("\x7f", controls).fault is None
