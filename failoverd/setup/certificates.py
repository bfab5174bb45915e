"""The cluster's own certificate authority, and what it signs: one certificate a node, one a person who looks from afar.

    CA (10 years, its key on one host only) ──┬── node      CN mail1, its address, server and client, 2 years
                                              └── operator  CN of a person, client only, 1 year

Nodes accept each other by the CA and the name (tls.py), so that nothing of the host's trust store counts, and a name
is never looked up. A certificate is renewed on its old key: the key stays where it is, and what has to be carried to
the node is no secret. Everything here is made in memory; files.py puts it in place.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from failoverd.setup.files import File, existing
from failoverd.setup.refused import Refused
from failoverd.tls import OPERATORS

if TYPE_CHECKING:
    from pathlib import Path

CA_DAYS, NODE_DAYS, OPERATOR_DAYS = 3650, 730, 365
RENEW_BEFORE = dt.timedelta(days=60)  # two runs of a monthly maintenance before the warning at 30 days
EARLIER = dt.timedelta(hours=1)  # a node whose clock is a little late must not refuse it
LONGEST_NAME = 64  # characters: RFC 5280, ub-common-name
# What reading one raises that is damaged, or of another make than ours. Much of it is read only when asked for.
UNREADABLE = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM. The key is empty where it stays where it is."""

    certificate: bytes
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says, for people and for comparisons."""

    name: str
    kind: str  # authority | node | operator
    addresses: tuple[str, ...]
    issuer: str
    ends: dt.datetime
    fingerprint: str  # SHA-256 of its DER, as openssl prints it

    def days(self, now: dt.datetime) -> int:
        """Whole days until it ends; negative when it has ended."""
        return (self.ends - now).days


class Authority:
    """The CA of one cluster. Without its key (kept elsewhere) it can be compared with, and sign nothing."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, cluster: str, now: dt.datetime) -> Self:
        """Make a new one, in memory."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"failoverd CA of {cluster}"[:LONGEST_NAME]
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "failoverd"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        builder = _builder(subject, subject, key.public_key(), now, CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(ca=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The one whose `ca.crt`, and `ca.key` if it is there, lie in `directory`; None where there is none."""
        found = existing(directory / "ca.crt")
        if found is None:
            return None
        certificate = read_certificate(found[0], str(directory / "ca.crt"))
        secret = existing(directory / "ca.key")
        if secret is None:
            return cls(certificate, None)
        key = _private(secret[0], str(directory / "ca.key"))
        if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
            raise Refused("SETUP_AUTHORITY", str(directory / "ca.key"), "is not the key of ca.crt beside it")
        try:
            certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            words = "has no subject key identifier, and what it signs names it by that"
            allowed = "a CA that failoverctl init has made"
            raise Refused("SETUP_AUTHORITY", str(directory / "ca.crt"), words, allowed=allowed) from None
        return cls(certificate, key)

    def files(self, directory: Path) -> tuple[File, ...]:
        """What is kept on the host that signs."""
        kept = [File(directory / "ca.crt", self.pem)]
        if self._key is not None:
            kept.insert(0, File(directory / "ca.key", _private_pem(self._key), secret=True))
        return tuple(kept)

    @property
    def pem(self) -> bytes:
        """Its certificate, which every node has."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def can_sign(self) -> bool:
        """Whether its key is here."""
        return self._key is not None

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether it is the issuer."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def node(self, name: str, address: str, now: dt.datetime, *, key: bytes = b"") -> Issued:
        """Sign a node's: on a new key, or on the public half of the certificate that `key` holds as PEM."""
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, names, usages, now, days=NODE_DAYS, old=key)

    def operator(self, name: str, now: dt.datetime, *, key: bytes = b"") -> Issued:
        """Sign a person's, good for asking and for nothing else: no node takes it for a node's."""
        return self._issue(name, [], [ExtendedKeyUsageOID.CLIENT_AUTH], now, days=OPERATOR_DAYS, old=key)

    def _issue(
        self,
        name: str,
        names: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        now: dt.datetime,
        *,
        days: int,
        old: bytes,
    ) -> Issued:
        if self._key is None:
            allowed = "ca.key beside ca.crt, for as long as it signs"
            raise Refused("SETUP_AUTHORITY", name, "the key of the cluster's CA is not here", allowed=allowed)
        key = None if old else ec.generate_private_key(ec.SECP256R1())
        public = key.public_key() if key is not None else _elliptic(read_certificate(old, name), name)
        unit = [] if names else [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, OPERATORS)]
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "failoverd"),
                *unit,
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        builder = _builder(subject, self._certificate.subject, public, now, days, authority=self._certificate)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        pem = signed.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, _private_pem(key) if key is not None else b"")


def fits(
    authority: Authority, certificate: bytes, key: bytes | None, *, name: str, address: str, now: dt.datetime
) -> bool:
    """Whether a node's certificate can stay: of this CA, of this name, address and key, and good for a while yet."""
    try:
        found = read_certificate(certificate, name)
        private = _private(key, name) if key is not None else None
    except Refused:
        return False
    said = shown(found)
    same_key = private is None or _public_bytes(private.public_key()) == _public_bytes(found.public_key())
    return (
        authority.signed(found)
        and same_key
        and (said.name, said.kind, said.addresses) == (name, "node", (address,))
        and said.ends - now > RENEW_BEFORE
    )


def read_certificate(pem: bytes, place: str) -> x509.Certificate:
    """The first certificate of a PEM text, of which all can be read that is read here. Raises Refused."""
    try:
        found = x509.load_pem_x509_certificate(pem)
        shown(found)
        found.public_key()
    except UNREADABLE:
        allowed = "-----BEGIN CERTIFICATE-----"
        raise Refused("SETUP_AUTHORITY", place, "holds no certificate", allowed=allowed) from None
    return found


def shown(certificate: x509.Certificate) -> Shown:
    """What it says."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = tuple(str(found) for found in names.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        addresses = ()
    return Shown(
        name=_attribute(certificate.subject, NameOID.COMMON_NAME),
        kind=_kind(certificate),
        addresses=addresses,
        issuer=_attribute(certificate.issuer, NameOID.COMMON_NAME),
        ends=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _kind(certificate: x509.Certificate) -> str:
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
    except x509.ExtensionNotFound:
        pass  # of another program's making: no CA by that
    return "operator" if _attribute(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME) == OPERATORS else "node"


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return next((str(found.value) for found in name.get_attributes_for_oid(oid)), "")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
    *,
    authority: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    """With what every certificate has. Both key identifiers: OpenSSL's strict checks (Python 3.13) ask for them."""
    of = x509.SubjectKeyIdentifier.from_public_key(key)
    by = of if authority is None else authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(of, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(by), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(pem: bytes, place: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refused("SETUP_AUTHORITY", place, "holds no private key that can be read without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused("SETUP_AUTHORITY", place, "is no key of an elliptic curve", allowed="a key that failoverctl made")
    return key


def _elliptic(certificate: x509.Certificate, place: str) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        allowed = "a new one: failoverctl certificate issue"
        raise Refused("SETUP_AUTHORITY", place, "is on no key of an elliptic curve", allowed=allowed)
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
