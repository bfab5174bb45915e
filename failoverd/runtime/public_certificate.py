"""The public listener's certificate, read again when it was renewed: no daemon that holds a lease restarts for it.

A listening socket keeps the context that it was opened with; so each handshake is handed the newest (`sni_callback`,
which is called also for a client that names no server). One that cannot be used leaves the old one in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd import lives
from failoverd.tls import public_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class CertificateError(Exception):
    """The certificate, or its key, cannot be used."""


class Certificate:
    """Both files. All methods but `newest` read them: they are called in a thread."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._read: object = None
        self._newest: ssl.SSLContext | None = None
        self.life: lives.Life | None = None  # of the newest

    def context(self) -> ssl.SSLContext:
        """What to listen with. Raises CertificateError."""
        if self._newest is None:
            self.renew()
        context = self._newest
        assert context is not None  # noqa: S101 - made above
        context.sni_callback = self._handed
        return context

    def renew(self) -> bool:
        """Whether there was another one, which is used from now on. Raises CertificateError."""
        certificate, key = self._files
        try:
            found = [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in (file.stat() for file in self._files)]
            if found == self._read:
                return False
            newest = public_context(certificate=certificate, key=key)
            self.life = lives.shown("http", certificate, newest)
        except OSError as error:  # of which ssl.SSLError is one
            raise CertificateError(f"{certificate}: {error.strerror or error}") from None
        self._read, self._newest = found, newest
        return True

    def _handed(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._newest is not None:
            connection.context = self._newest
