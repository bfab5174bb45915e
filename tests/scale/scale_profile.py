"""Where a Go program's CPU goes, by package, out of a profile of pprof's: to say what bends, without Go installed.

    tests/scale/run --clusters 1000 --profile FILE        then        .venv/bin/python tests/scale/scale_profile.py FILE

A sample counts for the work that its innermost frame of WORK stands for: what crypto/tls does for net/http is TLS's.
The format: https://github.com/google/pprof/blob/main/proto/profile.proto , of which this reads what it needs.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Beginnings of Go's function names, and what they are for. The first that fits counts.
WORK = {
    "crypto/tls.(*Conn).Handshake": "TLS handshakes",
    "crypto/tls.(*Conn).handshake": "TLS handshakes",
    "crypto/tls.(*Conn).clientHandshake": "TLS handshakes",
    "crypto/tls.(*Conn).serverHandshake": "TLS handshakes",
    "crypto/tls.": "TLS records, and writing them to sockets",
    "encoding/json.": "JSON of the gateway",
    "github.com/golang/protobuf/jsonpb.": "JSON of the gateway",
    "github.com/grpc-ecosystem/grpc-gateway/": "the gateway, without its JSON",
    "github.com/gogo/protobuf/": "protobuf",
    "github.com/golang/protobuf/": "protobuf",
    "google.golang.org/grpc": "gRPC between the gateway and etcd",
    "golang.org/x/net/http2": "gRPC between the gateway and etcd",
    "net/http.(*http2": "gRPC between the gateway and etcd",
    "net/http.": "HTTP/1.1",
    "golang.org/x/crypto/bcrypt.": "passwords",
    "go.etcd.io/bbolt.": "the database on disk",
    "go.etcd.io/etcd/wal.": "the write-ahead log",
    "go.etcd.io/etcd/server/v3/wal.": "the write-ahead log",
    "go.etcd.io/etcd/mvcc": "keys, history and watches",
    "go.etcd.io/etcd/server/v3/mvcc": "keys, history and watches",
    "go.etcd.io/etcd/auth": "who may do what",
    "go.etcd.io/etcd/server/v3/auth": "who may do what",
    "go.etcd.io/etcd/": "raft, and the rest of etcd",
    "runtime.gcBgMarkWorker": "Go's garbage collector",
    "runtime.bgsweep": "Go's garbage collector",
    "runtime.bgscavenge": "Go's garbage collector",
    "runtime.mcall": "Go's scheduler",
    "runtime.mstart": "Go's scheduler",
    "runtime.mstart1": "Go's scheduler",
}
OTHER = "the rest of Go's runtime"


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give a protobuf message's fields: number, and integer or bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {tag & 7}: not in a profile")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read one, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def numbers(value: int | bytes) -> list[int]:
    """A repeated number, packed or not."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = varint(value, at)
        found.append(one)
    return found


def stacks(profile: bytes) -> Iterator[tuple[list[str], int]]:
    """Each sample: function names, the innermost first, and its nanoseconds of CPU."""
    samples, lines, names, strings = [], {}, {}, []
    for number, value in fields(gzip.decompress(profile)):
        if not isinstance(value, bytes):
            continue
        if number == 6:
            strings.append(value.decode())
            continue
        parts = list(fields(value)) if number in {2, 4, 5} else []
        if number == 2:
            samples.append(parts)
        elif number == 4:
            lines[dict(parts)[1]] = [dict(fields(one)).get(1) for key, one in parts if key == 4]
        elif number == 5:
            names[dict(parts)[1]] = dict(parts).get(2, 0)
    for parts in samples:
        where = [one for key, value in parts if key == 1 for one in numbers(value)]
        spent = [one for key, value in parts if key == 2 for one in numbers(value)]
        yield [strings[names[function]] for one in where for function in lines[one]], spent[-1]


def work_of(stack: list[str]) -> str:
    """What a sample was for."""
    for name in stack:
        for begin, work in WORK.items():
            if name.startswith(begin):
                return work
    return OTHER


def shares(profile: bytes) -> list[tuple[str, float]]:
    """Each kind of work and its share of the CPU, the largest first."""
    spent: Counter[str] = Counter()
    for stack, nanoseconds in stacks(profile):
        spent[work_of(stack)] += nanoseconds
    total = sum(spent.values()) or 1
    return [(work, nanoseconds / total) for work, nanoseconds in spent.most_common()]


if __name__ == "__main__":
    for work, share in shares(Path(sys.argv[1]).read_bytes()):
        print(f"{share:7.1%}  {work}")
