"""What `failoverctl store check` has seen, as lines and as a document.

acme   etcd, fit to keep the lease   0 block, 1 warn   as mail1 asks it
https://10.89.1.11:2379  etcd 3.5.12  leads     0.3 MB of 2147 MB  1.8 ms
https://10.89.1.12:2379  etcd 3.5.12  follows   0.3 MB of 2147 MB  1.9 ms
https://10.89.1.14:2379  no answer
record  /failoverd/acme/record  version 512, term 3, mail1 holds it

https://10.89.1.14:2379 warns   ETCD_UNREACHED  All connection attempts failed
                                means  an endpoint of the store does not answer
                                fix    start etcd there, or open the way to its client port
                                page   runbooks/codes/ETCD_UNREACHED.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.stores import etcd_look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from failoverd.config import Config
    from failoverd.core.model import Record
    from failoverd.stores.etcd_look import Looked, Trouble


def document(config: Config, looks: Sequence[Looked]) -> dict[str, object]:
    """For programs: plain JSON types."""
    record = _record(looks)
    return {
        "cluster": config.cluster,
        "node": str(config.this.name),
        "store": {"kind": "etcd", "prefix": config.store.prefix},
        "fit": etcd_look.fit(looks),
        "record": None
        if record is None
        else {"version": record.version, "term": record.term, "holder": record.holder or None},
        "endpoints": [_endpoint(one) for one in looks],
        "findings": [
            {
                "endpoint": trouble.endpoint or None,
                "code": trouble.code,
                "blocks": _blocks(trouble, looks),
                "reason": trouble.reason,
                "meaning": etcd_look.CODES[trouble.code][0],
                "fix": etcd_look.CODES[trouble.code][1],
                "page": f"runbooks/codes/{trouble.code}.md",
            }
            for trouble in etcd_look.troubles(looks)
        ],
    }


def lines(config: Config, looks: Sequence[Looked]) -> Iterator[str]:
    """For people."""
    found = etcd_look.troubles(looks)
    blocking = sum(_blocks(trouble, looks) for trouble in found)
    verdict = "fit to keep the lease" if etcd_look.fit(looks) else "NOT fit to keep the lease"
    counts = f"{blocking} block, {len(found) - blocking} warn" if found else "no findings"
    yield f"{config.cluster}   etcd, {verdict}   {counts}   as {config.this.name} asks it"
    wide = max(len(one.url) for one in looks)
    for one in looks:
        yield f"{one.url:<{wide}}  {_seen(one)}"
    if any(one.usable for one in looks):
        record = _record(looks)
        words = "none yet: the cluster begins here"
        if record is not None:
            held = f"{record.holder} holds it" if record.holder else "nobody holds it"
            words = f"version {record.version}, term {record.term}, {held}"
        yield f"record  {config.store.prefix}{config.cluster}/record  {words}"
    for trouble in found:
        yield ""
        head = f"{trouble.endpoint or 'store'} {'BLOCKS' if _blocks(trouble, looks) else 'warns '}"
        yield f"{head}  {trouble.code}  {trouble.reason}"
        meaning, fix = etcd_look.CODES[trouble.code]
        for name, text in (("means", meaning), ("fix", fix), ("page", f"runbooks/codes/{trouble.code}.md")):
            yield f"{'':{len(head)}}  {name:<5}  {text}"


def _blocks(trouble: Trouble, looks: Sequence[Looked]) -> bool:
    return not trouble.endpoint or not any(one.usable for one in looks)


def _record(looks: Sequence[Looked]) -> Record | None:
    return max((one.record for one in looks if one.record), key=lambda record: record.version, default=None)


def _seen(one: Looked) -> str:
    status = one.status
    if status is None:
        return "no answer that tells anything"
    does = "learns" if status.learner else "leads" if status.leader == status.member else "follows"
    room = f"{status.size / 1e6:.1f} MB" + (f" of {one.quota / 1e6:.0f} MB" if one.quota else "")
    took = f"{one.write_ms:.1f} ms" if one.write_ms is not None else "-"
    return f"etcd {status.version:<7}  {does if status.leader else 'no leader':<9}  {room:<18}  {took}"


def _endpoint(one: Looked) -> dict[str, object]:
    status = one.status
    return {
        "url": one.url,
        "usable": one.usable,
        "version": status.version if status else None,
        "cluster_id": f"{status.cluster:x}" if status else None,
        "member_id": f"{status.member:x}" if status else None,
        "leads": status.leader == status.member if status else None,
        "learner": status.learner if status else None,
        "database_bytes": status.size if status else None,
        "quota_bytes": one.quota,
        "transaction_ms": round(one.write_ms, 1) if one.write_ms is not None else None,
    }
