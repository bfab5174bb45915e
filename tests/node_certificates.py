"""A cluster's CA and its nodes' certificates, made anew for each test session; and ones that must be refused."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from failoverd.tls import OPERATORS

if TYPE_CHECKING:
    from pathlib import Path

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """One node's three files, named as tls.server_context wants them."""

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """A CA that keeps its files in `directory`."""

    SERVERS, CLIENTS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._chain = b""
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._subject, self._key.public_key(), days=10)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._ca = directory / f"{name}.crt"
        self._write(self._ca, builder)

    @property
    def ca(self) -> Path:
        """Its certificate."""
        return self._ca

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: float, since_days: float = 20
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - since_days * _DAY)
            .not_valid_after(now + days * _DAY)
        )

    def _write(self, path: Path, builder: x509.CertificateBuilder) -> None:
        certificate = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + self._chain)

    def node(
        self,
        name: str,
        address: str = "127.0.0.1",
        *,
        days: float = 10,
        since_days: float = 20,
        usages: tuple[x509.ObjectIdentifier, ...] = (SERVERS, CLIENTS),
        also: tuple[str, ...] = (),
    ) -> Files:
        """Certificate and key of node `name`.

        `days=-1` makes an expired one, `since_days=-1` one of tomorrow; `also`: more CNs.
        """
        more = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in also]
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]
        return self._issued(name, name, more, list(usages), names, days=days, since_days=since_days)

    def operator(self, name: str, *, days: int = 10, unit: str = OPERATORS, common: str | None = None) -> Files:
        """Certificate and key of a person, with another OU or another CN than the files' name where one is given."""
        units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
        return self._issued(name, common or name, units, [ExtendedKeyUsageOID.CLIENT_AUTH], [], days=days)

    def nameless(self, name: str) -> Files:
        """Certificate and key of a client without a CN, which is all that etcd's gateway takes with authentication."""
        return self._issued(name, "", [], [ExtendedKeyUsageOID.CLIENT_AUTH], [x509.DNSName(name)], days=10)

    def _issued(
        self,
        name: str,
        common: str,
        more: list[x509.NameAttribute[str]],
        usages: list[x509.ObjectIdentifier],
        names: list[x509.GeneralName],
        *,
        days: float,
        since_days: float = 20,
    ) -> Files:
        key = ec.generate_private_key(ec.SECP256R1())
        named = [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
        subject = x509.Name([*more, *named])
        builder = self._builder(subject, key.public_key(), days=days, since_days=since_days)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = Files(self._ca, self._directory / f"{name}.crt", self._directory / f"{name}.key")
        self._write(files.certificate, builder)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files.key.chmod(0o600)
        return files

    @classmethod
    def of_a_node(cls, files: Files, directory: Path) -> Authority:
        """A node that signs certificates as if it were a CA: its own stands in the place of one."""
        made = cls(directory, "no-ca")
        loaded = serialization.load_pem_private_key(files.key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(type(loaded).__name__)
        made._key = loaded
        made._subject = x509.load_pem_x509_certificate(files.certificate.read_bytes()).subject
        made._ca = files.ca
        made._chain = files.certificate.read_bytes()
        return made
