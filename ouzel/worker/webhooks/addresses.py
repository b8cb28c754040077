"""The addresses behind a name, and whether a webhook may go there: not to what this network alone reaches.

A name is resolved once and its address is what is connected to. Resolved again by the connection, it could be another.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from ouzel.errors import FailedPrecondition, Unavailable

Resolve = Callable[[str, int], Sequence[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv6 that a gateway turns into the IPv4 of its last 32 bits
# All of IPv6 that IANA has given out for the internet; other networks translate, or are old.
_UNICAST = ipaddress.ip_network("2000::/3")
# Addresses that look public, and where clouds answer their own machines: Oracle's metadata, Azure's agent.
_CLOUDS = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("168.63.129.16/32"))


def resolved(host: str, port: int) -> list[str]:
    """All addresses of a host, as this machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def address(host: str, port: int, *, private: bool, resolve: Resolve = resolved) -> str:
    """An address to connect to.

    Args:
        host: A name or an address.
        port: For the resolver.
        private: Whether any address will do.
        resolve: Finds addresses.

    Returns:
        The first one.

    Raises:
        Unavailable: The name has no address now.
        FailedPrecondition: One of its addresses is not of the public internet. All are looked at: a name with one of
            each kind is a trick, or a mistake.
    """
    try:
        found = list(resolve(host, port))
    except OSError:
        found = []
    if not found:
        raise Unavailable("the name of its host cannot be resolved")
    if not private and not all(map(is_public, found)):
        raise FailedPrecondition("its host has an address that is not of the public internet")
    return found[0]


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also where it stands inside of another one."""
    try:
        one = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(one, ipaddress.IPv6Address):
        inner = one.ipv4_mapped or one.sixtofour or (one.teredo and one.teredo[1])
        if one in _NAT64:
            inner = ipaddress.IPv4Address(one.packed[-4:])
        if inner:
            return is_public(str(inner))
        if one not in _UNICAST:
            return False
    elif any(one in each for each in _CLOUDS):
        return False
    return one.is_global and not one.is_multicast
