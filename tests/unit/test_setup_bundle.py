"""One archive a node: whole, or refused with what is wrong with it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from failoverd.setup import answers, bundle, joined, planned, propose
from failoverd.setup.bundle import Bundle
from failoverd.setup.certificates import Authority
from failoverd.setup.found import Found, HostAddress, MailFound
from failoverd.setup.issued import Place
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
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
        (changed(cluster="\x1b[2Jlab"), "manifest.json is missing or damaged"),
        (changed(format="1"), "manifest.json lacks format or sha256"),
        (tar({bundle.MANIFEST: b"[" * 3000}), "manifest.json is missing or damaged"),
        (MAIL2.packed()[: tarfile.BLOCKSIZE + 100], "ends in the middle of a file: it was cut"),
        (tar({"failoverd.yaml": b""}, kind=tarfile.GNUTYPE_SPARSE), "'failoverd.yaml': has what is no plain file"),
        (tar({"failoverd.yaml": b""}, kind=tarfile.XHDTYPE), "'failoverd.yaml': has what is no plain file"),
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


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    """Mail2's, as `init` on mail1 makes it for a cluster."""
    mail_ca = tmp_path / "mail-ca.pem"
    mail_ca.write_bytes(Authority.create("mail", NOW).pem)
    found = Found("mail1", (HostAddress("eth0", "192.0.2.11", 24),), mail=MailFound(store="/srv/mail"))
    answered = answers.of({
        "cluster": "lab", "nodes": {"mail1": "192.0.2.11", "mail2": "192.0.2.12", "mail3": "192.0.2.13"},
        "arbiter": {"arbiter": "192.0.2.14"}, "vip": "192.0.2.100/24", "server_name": "mail.example.org",
        "mail_ca": str(mail_ca), "canary": "canary@example.org",
        "database_socket": "/run/mysqld/mysqld.sock",
    })  # fmt: skip
    cluster, place = propose.settle(found, answered), Place(tmp_path / "etc")
    (own, *_), archives = planned.files(cluster, planned.material(cluster, answered, place, NOW), place)
    assert own.path.is_relative_to(place.authority)
    return bundle.unpacked(next(file.content for file in archives if file.path.name == "mail2.join"), "x")


def test_it_joins_as_what_its_configuration_says(made: Bundle, tmp_path: Path) -> None:
    config = joined.read(made, Place(tmp_path / "etc"))
    assert (config.cluster, config.this.name) == ("lab", "mail2")


@pytest.mark.parametrize("said", [{"kind": "arbiter"}, {"cluster": "other"}, {"address": "192.0.2.13"}])
def test_one_that_says_of_itself_what_its_configuration_does_not_is_refused(
    made: Bundle, tmp_path: Path, said: dict[str, str]
) -> None:
    with pytest.raises(Refused, match=r"is for .*, and its failoverd\.yaml says lab 192\.0\.2\.12 data"):
        joined.read(replace(made, **said), Place(tmp_path / "etc"))
