"""Mutual TLS between nodes: TLS 1.3 only, certificates of the cluster's CA on both sides, the CN is the node's name.

And that of the public listener, which asks nobody for a certificate.

A module of its own, since not everything that speaks so is an HTTP server, and what carries a backup must stay small.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# The OU of a person's certificate: such a one is no node's, and no other is a person's.
OPERATORS = "operator"


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS of the node's server: every client shows a certificate of the cluster's CA. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    context.num_tickets = 0  # connections are kept; a resumed one would only be one more thing to reason about
    return context


def client_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS towards another node, whose certificate must name the address dialled. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


def public_context(*, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS of the public listener: nobody is asked for a certificate. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # load balancers and scrapers are not all of today
    context.load_cert_chain(certificate, key)
    return context


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """The one CN of a verified certificate, as `SSLSocket.getpeercert` gives it; None when there is none or several."""
    names = _named(certificate, "commonName")
    return names[0] if len(names) == 1 else None


def node_name(certificate: dict[str, Any] | None) -> str | None:
    """The node that a certificate is for; None also for one that is a person's, whatever its CN is."""
    return None if OPERATORS in _named(certificate, "organizationalUnitName") else common_name(certificate)


def operator_name(certificate: dict[str, Any] | None) -> str | None:
    """The person that a certificate is for; None for one that does not say that it is a person's."""
    return common_name(certificate) if OPERATORS in _named(certificate, "organizationalUnitName") else None


def _named(certificate: dict[str, Any] | None, kind: str) -> list[str]:
    return [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == kind]
