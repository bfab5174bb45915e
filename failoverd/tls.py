"""Mutual TLS between nodes: TLS 1.3 only, certificates of the cluster's CA on both sides, the CN is the node's name.

And that of the public listener, which asks nobody for a certificate.

A module of its own, since not everything that speaks so is an HTTP server, and what carries a backup must stay small.
What keeps these contexts while the files are replaced is credentials.py.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The OU of a person's certificate: such a one is no node's, and no other is a person's.
OPERATORS = "operator"
NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS of the node's server: every client shows a certificate of the cluster's CA. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key, no_passphrase)
    context.num_tickets = 0  # connections are kept; a resumed one would only be one more thing to reason about
    return context


def client_context(
    *,
    ca: Path,
    certificate: Path,
    key: Path,
    nodes: Mapping[str, str] | None = None,
    refused: Callable[[str, ssl.SSLCertVerificationError], object] | None = None,
    met: Callable[[Mapping[str, Any]], object] | None = None,
) -> ssl.SSLContext:
    """TLS towards another node, whose certificate must name the address dialled. Raises OSError, ssl.SSLError.

    `nodes`, by address: its CN must name that node as well, or any other replica could stand at its address. `met` is
    called with each certificate that is taken, `refused` with the address where one is not, and why.
    """
    context = _Dialling(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key, no_passphrase)
    context.sslobject_class, context.sslsocket_class = _DialledObject, _DialledSocket
    context.nodes, context.refused, context.met = nodes, refused, met
    return context


def store_context(*, ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS towards an etcd, whose certificate must name the address dialled. Raises OSError, ssl.SSLError.

    Without `certificate` none is shown. Not TLS 1.3 alone: it is somebody else's server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key, no_passphrase)
    return context


def public_context(*, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS of the public listener: nobody is asked for a certificate. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # load balancers and scrapers are not all of today
    context.load_cert_chain(certificate, key, no_passphrase)
    return context


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """The one CN of a verified certificate, as `SSLSocket.getpeercert` gives it; None when there is none or several."""
    names = _named(certificate, "commonName")
    return names[0] if len(names) == 1 else None


def node_name(certificate: Mapping[str, Any] | None) -> str | None:
    """The node that a certificate is for; None also for one that is a person's, whatever its CN is."""
    return None if OPERATORS in _named(certificate, "organizationalUnitName") else common_name(certificate)


def operator_name(certificate: Mapping[str, Any] | None) -> str | None:
    """The person that a certificate is for; None for one that does not say that it is a person's."""
    return common_name(certificate) if OPERATORS in _named(certificate, "organizationalUnitName") else None


def _named(certificate: Mapping[str, Any] | None, kind: str) -> list[str]:
    return [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == kind]


def no_passphrase() -> str:
    """For a key that has one: without this OpenSSL would ask for it at the terminal, and wait."""
    raise ssl.SSLError("the key has a passphrase")


class _Dialling(ssl.SSLContext):
    """A client's context that knows who is to be met at which address."""

    nodes: Mapping[str, str] | None = None
    refused: Callable[[str, ssl.SSLCertVerificationError], object] | None = None
    met: Callable[[Mapping[str, Any]], object] | None = None

    def shaken(self, handshake: Callable[[], None], of: ssl.SSLObject | ssl.SSLSocket) -> None:
        """Do the handshake, and end it where the certificate, though good, is of somebody else."""
        address = str(of.server_hostname or "")
        try:
            handshake()
            if self.nodes is not None:
                expected, named = self.nodes.get(address), node_name(of.getpeercert())
                if named is None or named != expected:
                    raise _misnamed(f"it names {named!r}, and {expected or 'no node'} was dialled at {address}")
        except ssl.SSLCertVerificationError as error:
            if self.refused is not None:
                self.refused(address, error)
            raise
        if self.met is not None:
            self.met(of.getpeercert() or {})


class _DialledObject(ssl.SSLObject):
    """asyncio's."""

    def do_handshake(self) -> None:
        context = self.context
        if isinstance(context, _Dialling):
            context.shaken(super().do_handshake, self)
        else:
            super().do_handshake()


class _DialledSocket(ssl.SSLSocket):
    """Of blocking code."""

    def do_handshake(self, block: bool = False) -> None:
        context = self.context
        if isinstance(context, _Dialling):
            context.shaken(lambda: super(_DialledSocket, self).do_handshake(block), self)
        else:
            super().do_handshake(block)


def _misnamed(words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(f"certificate verify failed: {words}")
    error.verify_code, error.verify_message = 62, words  # as OpenSSL says of another host's name
    return error
