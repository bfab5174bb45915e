"""One archive a node: whole, or refused with what is wrong with it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from failoverd.setup import bundle
from failoverd.setup.bundle import Bundle
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTENTS = {name: name.encode() for name in bundle.NAMES}
MAIL2 = Bundle("lab", "mail2", "192.0.2.12", "data", CONTENTS)


def tar(members: Mapping[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/shadow"
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def members(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]


def test_packed_and_unpacked_it_is_the_same_and_always_the_same_bytes() -> None:
    assert bundle.unpacked(MAIL2.packed(), "x") == MAIL2
    assert MAIL2.packed() == MAIL2.packed()


def test_the_configuration_is_put_last_and_keys_are_secrets(tmp_path: Path) -> None:
    files = MAIL2.files(tmp_path)
    assert files[-1].path == tmp_path / "failoverd.yaml"
    secret = {str(file.path.relative_to(tmp_path)) for file in files if file.secret}
    assert secret == {"tls/node.key", "secrets/canary", "secrets/database", "secrets/replication"}


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mail2.join"
    path.write_bytes(MAIL2.packed())
    path.chmod(0o644)
    with pytest.raises(Refused, match=r"SETUP_ARCHIVE: .*mode 0644.*; allowed: mode 0600"):
        bundle.read(path)
    path.chmod(0o600)
    assert bundle.read(path) == MAIL2
    with pytest.raises(Refused, match="cannot be read: No such file"):
        bundle.read(tmp_path / "mail3.join")


def changed(**manifest: object) -> bytes:
    found = members(MAIL2.packed())
    head = json.loads(found[bundle.MANIFEST]) | manifest
    return tar(found | {bundle.MANIFEST: json.dumps(head).encode()})


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "is no archive"),
        (b"\0" * 10240, "manifest.json is missing or damaged"),
        (b"random bytes" * 999, "is no archive"),
        (MAIL2.packed()[:3000], "is no archive|was cut|digest"),
        (tar({"failoverd.yaml": b""}), "manifest.json is missing or damaged"),
        (tar({bundle.MANIFEST: b"[]"}), "manifest.json is missing or damaged"),
        (tar({bundle.MANIFEST: b"\xff"}), "manifest.json is missing or damaged"),
        (changed(format=2), "value '2': was made by another version; allowed: format 1"),
        (changed(node=7), "manifest.json is missing or damaged"),
        (changed(sha256={}), "tls/ca.crt is not what its digest says"),
        (tar(members(MAIL2.packed()) | {"tls/node.key": b"other"}), "tls/node.key is not what its digest says"),
        (tar(members(MAIL2.packed()) | {"../../etc/passwd": b""}), "'../../etc/passwd': has a file too many"),
        (tar({"failoverd.yaml": b""}, kind=tarfile.SYMTYPE), "'failoverd.yaml': has what is no plain file"),
        (
            tar({name: found for name, found in members(MAIL2.packed()).items() if "node" not in name}),
            "has no tls/node",
        ),
        (replace(MAIL2, contents={"failoverd.yaml": b""}).packed(), "has no tls/ca.crt: it was cut"),
    ],
)
def test_a_damaged_one_is_refused_as_a_whole(packed: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        bundle.unpacked(packed, "mail2.join")
    assert str(refused.value).startswith("SETUP_ARCHIVE: mail2.join: ")
