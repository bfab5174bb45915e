"""Whom to talk to and as whom, and what is said to have gone wrong."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from failoverd.drill.load.answers import AnswerError, Outcome

if TYPE_CHECKING:
    from failoverd.drill.model import LoadPlan

Tls = Literal["implicit", "starttls", "none"]
# All that a conversation with a server may end in. TimeoutError and ssl.SSLError are OSErrors.
TROUBLE = (AnswerError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One protocol's server, by the address that clients use."""

    address: str
    port: int
    tls: Tls
    server_name: str
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One of the drill's."""

    name: str
    password: str = field(repr=False)


@dataclass(slots=True)
class Logins:
    """To IMAP. `unknown`: sent and never answered; a server that was slow, or asked by a slow client, has them."""

    done: int = 0
    unknown: int = 0


def services(plan: LoadPlan) -> tuple[Service, Service]:
    """IMAP's and SMTP's. Raises OSError where a CA's file cannot be read."""
    imap = Service(
        address=plan.address,
        port=plan.imap_port,
        tls=plan.imap_tls,
        server_name=plan.server_name,
        context=ssl.create_default_context(cafile=plan.ca),
    )
    smtp = Service(
        address=plan.address,
        port=plan.smtp_port,
        tls=plan.smtp_tls,
        server_name=plan.smtp_server_name or plan.server_name,
        context=ssl.create_default_context(cafile=plan.smtp_ca or plan.ca),
    )
    return imap, smtp


class Session(Protocol):
    """With either server."""

    in_doubt: bool


def outcome_of(trouble: BaseException, session: Session | None) -> Outcome:
    """How it counts: what no server has said is a failure, or nobody knows where a message was on its way."""
    if session is not None and session.in_doubt:
        return "unknown"
    return trouble.outcome if isinstance(trouble, AnswerError) else "failed"
