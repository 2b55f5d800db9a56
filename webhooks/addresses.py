"""Which addresses may be called: the public ones, and what an operator allows by name.

Whoever may name a URL could otherwise have this process call what only its own network reaches: a cloud's metadata, a
database, itself (server-side request forgery). Names prove nothing, so what counts is the address that is connected to.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own service"),
        ("169.254.0.0/16", "link-local, a cloud's metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "a relay to 6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("2001::/23", "reserved for protocols, Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4, which holds another address"),
        ("3fff::/20", "documentation"),
    )
)
"""IANA's registries of special-purpose addresses, and one public address that is a cloud's own."""
PUBLIC_V6: Final = IPv6Network("2000::/3")
"""All that is global unicast: loopback, link-local, unique local, multicast, NAT64 and IPv4-compatible addresses lie
outside."""


class AddressRefusedError(Exception):
    """A host has an address that must not be called; the message says which and why."""


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why ``address`` must not be called; None where it may be. An IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return None
    if isinstance(address, IPv6Address) and address not in PUBLIC_V6:
        return "not public"
    return next((why for network, why in REFUSED if address in network), None)


def checked(found: Iterable[str], allowed: Sequence[Network] = ()) -> list[str]:
    """``found``, the addresses of one host, each once, in order. Raises AddressRefusedError if any must not be called:
    a host that has such an address beside a public one is not to be trusted."""
    addresses = list(dict.fromkeys(found))
    for text in addresses:
        why = refusal(ip_address(text), allowed)
        if why is not None:
            raise AddressRefusedError(f"{text} is {why}")
    return addresses
