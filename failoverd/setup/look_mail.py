"""What Dovecot and Postfix say of themselves: their own programs are asked, and the certificate that they show is read.

Clients know the services by a name, and the probes hold the certificate to it as a client does: the name and what
verifies it are proposed from the certificate itself.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from failoverd.setup.certificates import UNREADABLE
from failoverd.setup.files import existing
from failoverd.setup.found import MailFound
from failoverd.setup.look import file_system, output

SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"
WITHIN_S = 3.0


def look() -> MailFound:
    """All of it; what cannot be found stays empty."""
    store = store_of(output("doveconf", "-h", "mail_location"))
    certificate = output("doveconf", "-h", "ssl_cert").strip().removeprefix("<")
    certificate = certificate or output("postconf", "-h", "smtpd_tls_cert_file").strip()
    names, authority = certificate_of(certificate) if certificate.startswith("/") else ((), "")
    return MailFound(
        store=store,
        store_type=file_system(store) if store else "",
        names=names,
        authority=authority,
        smtp_starttls=starttls(),
        networks=" ".join(output("postconf", "-h", "mynetworks").split()),
    )


def store_of(location: str) -> str:
    """The directory that all mailboxes are below: `maildir:/srv/mail/%d/%n/Maildir` is in /srv/mail.

    It is KIND:PATH:OPTIONS, and the path of one user has variables in it.
    """
    _, _, options = location.strip().partition(":")
    path, user, _ = options.partition(":")[0].partition("%")
    if not path.startswith("/"):
        return ""  # in the users' homes, or Dovecot finds it by itself
    return (path.rpartition("/")[0] if user else path).rstrip("/")


def certificate_of(path: str) -> tuple[tuple[str, ...], str]:
    """The names that the file's first certificate is good for, and the file by which a client would verify it.

    That is the system's where its CAs have signed it, else this file itself where its chain ends in a CA's own; ""
    where neither is so.
    """
    try:
        found = existing(Path(path))
        chain = x509.load_pem_x509_certificates(found[0]) if found is not None else []
    except (OSError, *UNREADABLE):
        return (), ""
    if not chain:
        return (), ""
    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        alternatives = tuple(names.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, *UNREADABLE):
        alternatives = ()
    try:
        if _by_system(chain):
            return alternatives, SYSTEM_CAS
        own = len(chain) > 1 and chain[-1].issuer == chain[-1].subject
    except UNREADABLE:
        own = False
    return alternatives, path if own else ""


def _by_system(chain: list[x509.Certificate]) -> bool:
    """Whether the last of the chain was signed by one of the system's CAs."""
    try:
        with warnings.catch_warnings():  # some of those CAs are older than today's rules, and not ours to mend
            warnings.simplefilter("ignore")
            trusted = x509.load_pem_x509_certificates(Path(SYSTEM_CAS).read_bytes())
    except (OSError, ValueError):
        return False
    for authority in trusted:
        if authority.subject == chain[-1].issuer:
            with contextlib.suppress(InvalidSignature, *UNREADABLE):  # another one of that name: the next
                chain[-1].verify_directly_issued_by(authority)
                return True
    return False


def starttls(port: int = 25) -> bool | None:
    """Whether Postfix here offers STARTTLS; None where nobody answers."""
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=WITHIN_S) as client:
            client.ehlo()
            return client.has_extn("starttls")
    except (OSError, smtplib.SMTPException, ssl.SSLError):
        return None
