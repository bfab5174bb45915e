"""The cluster as another node sees it, from its public listener: GET /v1/status on port 7480."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.runtime.document import DocumentError, StatusDocument, from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Heard:
    """One other node: its status, or why there is none."""

    name: str
    address: str
    why: str = ""
    status: StatusDocument | None = None
    raw: Mapping[str, object] | None = None


def ask(name: str, address: str, port: int, within_s: float, *, tls: bool) -> Heard:
    """Ask one node. The name that it gives itself is what counts: the answer says from where it is seen."""
    connection = _connection(address, port, within_s, tls=tls)
    try:
        connection.request("GET", "/v1/status")
        answer = connection.getresponse()
        body = answer.read(LARGEST)
        if answer.status != 200:
            words = "this host is not in its http.allow" if answer.status == 403 else f"answers {answer.status}"
            return Heard(name, address, why=words)
        status = from_json(StatusDocument, body)
    except TimeoutError:
        return Heard(name, address, why=f"no answer within {within_s * 1000:.0f} ms")
    except (OSError, http.client.HTTPException) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Heard(name, address, why=f"port {port}: {words.lower()}")
    except DocumentError as error:
        return Heard(name, address, why=f"its answer is not understood (another version?): {error}")
    finally:
        connection.close()
    if status.node != name:
        return Heard(name, address, why=f"{address} says that it is {status.node}")
    return Heard(name, address, status=status, raw=json.loads(body))


def worth(heard: Heard) -> tuple[int, bool, int]:
    """How much a picture is worth beside others."""
    if heard.status is None:
        return (-1, False, 0)
    return heard.status.term, heard.status.store.reachable, sum(node.fresh for node in heard.status.nodes)


def _connection(address: str, port: int, within_s: float, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(address, port, timeout=within_s)
    import ssl  # noqa: PLC0415 - only needed here

    # Not verified: nothing secret is sent, the answer is only shown, and plain HTTP, the default, proves no more. A
    # certificate that has expired must not hide the cluster from who looks for what is wrong.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, port, timeout=within_s, context=context)
