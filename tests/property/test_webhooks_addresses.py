"""Which addresses a webhook may be sent to: none that is not public, however it is written."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.addresses import REFUSED, Address, AddressRefusedError, checked, refusal

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0x2 << 124, (0x4 << 124) - 1).map(IPv6Address),  # where the public ones are
)


def inside(network: str) -> st.SearchStrategy[Address]:
    made = ip_network(network)
    first, last = int(made.network_address), int(made.broadcast_address)
    return st.integers(first, last).map(type(made.network_address))


@given(st.one_of(V4, V6, *(inside(str(network)) for network, _ in REFUSED)))
def test_what_python_calls_not_global_is_never_called(address: Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_loopback:
        assert refusal(address) is not None
    if isinstance(address, IPv6Address) and address.is_site_local:
        assert refusal(address) is not None


@given(st.one_of(V4, *(inside(str(network)) for network, _ in REFUSED if network.version == 4)))
def test_an_ipv4_address_inside_an_ipv6_one_is_no_better_than_itself(address: Address) -> None:
    for prefix in (0xFFFF << 32, 0x64FF9B << 96, 0, 0x2002 << 112):  # mapped, NAT64, IPv4-compatible, 6to4
        inner = int(address) << 80 if prefix == 0x2002 << 112 else int(address)
        if refusal(address) is not None:
            assert refusal(IPv6Address(prefix | inner)) is not None
    assert refusal(IPv6Address((0xFFFF << 32) | int(address))) == refusal(address)


@given(st.one_of(V4, V6))
def test_most_public_addresses_may_be_called(address: Address) -> None:
    is_special = any(address in network for network, _ in REFUSED)
    is_elsewhere = isinstance(address, IPv6Address) and (address not in ip_network("2000::/3"))
    assert (refusal(address) is None) == (not is_special and not is_elsewhere)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.31.255.255", "192.168.0.1", "100.64.0.1"),
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("fe80::1", "fe80::a9fe:a9fe", "fd00:ec2::254", "fc00::1", "fec0::1", "ff02::1", "2002:7f00:1::", "2001::1"),
        *("2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    ],
)
def test_a_well_known_way_inside_is_refused(address: str) -> None:
    assert refusal(ip_address(address)) is not None


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "104.16.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_may_be_called(address: str) -> None:
    assert refusal(ip_address(address)) is None


@given(inside("10.1.2.0/24"))
def test_what_an_operator_allows_may_be_called_and_nothing_beside_it(address: Address) -> None:
    allowed = (IPv4Network("10.1.2.0/24"),)
    assert refusal(address, allowed) is None
    assert refusal(IPv6Address(f"::ffff:{address}"), allowed) is None
    assert refusal(IPv4Address(int(address) + 256), allowed) is not None


def test_a_host_with_one_address_inside_is_refused_whole() -> None:
    assert checked(["1.1.1.1", "2606:4700::1111", "1.1.1.1"]) == ["1.1.1.1", "2606:4700::1111"]
    with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.1 is private"):
        checked(["1.1.1.1", "10.0.0.1"])


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0"])
def test_another_way_to_write_loopback_is_loopback(host: str) -> None:
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]
    with pytest.raises(AddressRefusedError):
        checked(found)
