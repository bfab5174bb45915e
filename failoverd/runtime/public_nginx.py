"""`/nginx-auth`: nginx's mail proxy asks where to send a session (auth_http), and is sent to the current primary.

    GET /nginx-auth       Auth-Protocol: imap | pop3 | smtp, Auth-Method: plain | none, Auth-Login-Attempt: 1
    200                   Auth-Status: OK, Auth-Server: 10.89.1.11, Auth-Port: 143
    200, no primary       Auth-Status: temporary server problem, try again later
                          Auth-Wait: 3               not after the tenth attempt: nginx frees no memory of a session
                          Auth-Error-Code: 451 4.3.0 for SMTP: the sender keeps the mail

**Which address.** A node's own service ports are open to everybody while it holds the lease, and to members of the
cluster always (actions/gate.py). So an nginx elsewhere is sent to the primary's own address, where the kernel ends its
sessions with the lease; one on a member would reach a node there that is no primary any more, and is sent to the VIP.
So is everybody while the primary is not heard by the node that is asked: whoever is primary answers there.

**Passwords.** They are not checked here: the backend does that. Neither Auth-User nor Auth-Pass is answered, so nginx
logs in with what its client gave, which it has only with PLAIN and LOGIN (imap_auth, pop3_auth, smtp_auth: plain login;
others are refused). nginx sends the password along as a header, and speaks no TLS to auth_http: let it ask the node on
its own host, or over a network that is trusted as the one to the backends. Nothing of a request is logged or kept.

**What to set in nginx.** `proxy_pass_error_message on`: a client sees why its login failed, and as it comes from the
backend. For SMTP `proxy_smtp_auth on`, or `smtp_auth none` for mail from outside; and `xclient on` with nginx's address
in Postfix's smtpd_authorized_xclient_hosts, never in mynetworks: without it each client has nginx's address, and with
mynetworks each may relay.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.responses import Response
from starlette.routing import Route

from failoverd.core.model import Role
from failoverd.runtime.public_health import why_no_primary
from failoverd.runtime.public_shown import HEADERS, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from failoverd.config import Config
    from failoverd.core.view import View

Protocol = Literal["imap", "pop3", "smtp"]
LATER = "temporary server problem, try again later"
WAIT_S = 3
ATTEMPTS = 10
SMTP_LATER = "451 4.3.0"
PLAIN = {"plain", "none", ""}  # methods of which nginx can pass on what the client gave; none: SMTP without a login


def ports_of(config: Config) -> Mapping[str, int]:
    """Where each protocol is served without implicit TLS, which nginx does not speak to a backend."""
    plain = {"imap": 143, "smtp": 25}
    found: dict[str, int] = {}
    for protocol, configured in config.http.mail:
        service = config.services.get(protocol)
        default = None if service is None else plain[protocol] if service.tls == "implicit" else service.port
        port = configured or default
        if port is not None and port in config.gate.ports:
            found[protocol] = port
    return found


def server_of(view: View, asker: str, vip: str) -> str | None:
    """The address to which whoever asks from `asker` is sent; None: nobody is known to be primary."""
    address = _primary(view)
    if address is not None:
        passes_the_gate = asker in {node.address for node in view.nodes} or ipaddress.ip_address(asker).is_loopback
        return vip if passes_the_gate else address
    waits_for_its_end = view.holder is not None and view.store_answers() and not view.lease_is_over()
    return vip if waits_for_its_end else None


def _primary(view: View) -> str | None:
    """The own address of the node that says now, or lately, that it serves in the newest term."""
    if not why_no_primary(view):
        return view.me.address
    report = view.report_of(view.holder) if view.holder else None
    if report is None or report.term != view.highest_term or report.role is not Role.PRIMARY:
        return None
    return view.node(report.sender).address


@dataclass(frozen=True, slots=True)
class _Proxied:
    shown: Shown
    ports: Mapping[str, int]

    async def where(self, request: Request) -> Response:
        protocol = request.headers.get("auth-protocol", "")
        port = self.ports.get(protocol)
        if port is None:
            return _answer({"Auth-Status": f"{protocol if protocol.isalnum() else 'this protocol'} is not served here"})
        if request.headers.get("auth-method", "") not in PLAIN:
            return _answer({"Auth-Status": "only PLAIN and LOGIN are possible here"})
        asker = request.client.host if request.client else ""
        server = server_of(self.shown.view(), asker, self.shown.config.vip.address)
        if server is not None:
            return _answer({"Auth-Status": "OK", "Auth-Server": server, "Auth-Port": str(port)})
        said = {"Auth-Status": LATER}
        if _attempt(request) <= ATTEMPTS:
            said["Auth-Wait"] = str(WAIT_S)
        if protocol == "smtp":
            said["Auth-Error-Code"] = SMTP_LATER
        return _answer(said)


def _attempt(request: Request) -> int:
    text = request.headers.get("auth-login-attempt", "1")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else ATTEMPTS + 1


def _answer(said: Mapping[str, str]) -> Response:
    return Response(headers={**HEADERS, **said})


def routes(shown: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    proxied = _Proxied(shown, ports_of(shown.config))
    return [Route("/nginx-auth", proxied.where, methods=["GET"])]
