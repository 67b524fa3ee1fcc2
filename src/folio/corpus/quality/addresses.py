"""Which IP addresses are public: the special-purpose registries of IANA, written out.

Python's own ``is_global`` differs between its versions; what is scrubbed must not.
"""

from __future__ import annotations

import ipaddress

_NOT_PUBLIC_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        ),
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    map(ipaddress.IPv6Network, ("2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "3fff::/20"))
)


def is_public(address: str) -> bool:
    """Whether ``address`` is one of either version that a machine may have on the open network.

    Not so: private, loopback, link-local, shared, documentation, benchmark, multicast and reserved ones, and what is no
    address (also one of version 4 with leading zeros).
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_V4)
    return parsed in _UNICAST_V6 and not any(parsed in network for network in _NOT_PUBLIC_V6)
