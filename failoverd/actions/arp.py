"""Gratuitous ARP: tells every host and switch of the wire where the virtual IP is now (RFC 5227, section 3).

Both forms are sent, request and reply, since some equipment heeds only one of them.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

ETHERTYPE = 0x0806
BROADCAST = b"\xff" * 6
BURST = 3  # a single frame may be lost; the caller repeats the burst after some seconds


def frames(hardware: bytes, address: str) -> tuple[bytes, bytes]:
    """The announcement of `address` at `hardware` as a broadcast request and as a broadcast reply."""
    packed = ipaddress.IPv4Address(address).packed
    header = BROADCAST + hardware + struct.pack("!H", ETHERTYPE)

    def frame(operation: int, target: bytes) -> bytes:
        fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        return header + fixed + hardware + packed + target + packed

    return frame(1, b"\x00" * 6), frame(2, BROADCAST)


def announce(interface: str, address: str) -> None:
    """Send the burst. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, ETHERTYPE))
        hardware = raw.getsockname()[4]
        for _ in range(BURST):
            for frame in frames(hardware, address):
                raw.send(frame)
