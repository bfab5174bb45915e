"""The lab's certificate authority: one certificate a node, and one that the mail services share.

A node's certificate has its name as CN and SAN, its address as a SAN, and serves both ends of mutual TLS. The mail
services' certificate is good for the name that clients use, for the VIP and for every node's own address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import layout
from .shell import run

if TYPE_CHECKING:
    from pathlib import Path

_DAYS = "3650"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def build(place: Path) -> None:
    """Make the CA and all certificates in a directory: ca.crt ca.key, NODE.crt NODE.key, mail.crt mail.key."""
    place.mkdir(mode=0o700)
    run(
        "openssl",
        "req",
        "-x509",
        *_KEY,
        "-keyout",
        str(place / "ca.key"),
        "-out",
        str(place / "ca.crt"),
        "-days",
        _DAYS,
        "-subj",
        "/O=failoverd lab/CN=failoverd lab CA",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    )
    for node, address in layout.ADDRESSES.items():
        issue(place, node, [f"DNS:{node}", f"IP:{address}"])
    reached_at = [layout.VIP, *(layout.ADDRESSES[node] for node in (*layout.DATA_NODES, layout.SPARE))]
    alternatives = [f"DNS:{layout.MAIL_NAME}", *(f"IP:{address}" for address in reached_at)]
    issue(place, "mail", alternatives, common_name=layout.MAIL_NAME)


def issue(
    place: Path,
    name: str,
    alternatives: list[str],
    *,
    common_name: str | None = None,
    days: str = _DAYS,
) -> None:
    """Sign NAME.crt for a new NAME.key with the CA of the directory; its CN is NAME, or what is given: "" is none."""
    named = name if common_name is None else common_name
    run(
        "openssl",
        "req",
        "-x509",
        *_KEY,
        "-CA",
        str(place / "ca.crt"),
        "-CAkey",
        str(place / "ca.key"),
        "-keyout",
        str(place / f"{name}.key"),
        "-out",
        str(place / f"{name}.crt"),
        "-days",
        days,
        "-subj",
        "/O=failoverd lab" + (f"/CN={named}" if named else ""),
        "-addext",
        f"subjectAltName={','.join(alternatives)}",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "keyUsage=critical,digitalSignature",
        "-addext",
        "extendedKeyUsage=serverAuth,clientAuth",
    )
