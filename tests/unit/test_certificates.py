"""The cluster's CA and what it signs, as OpenSSL, our own TLS and the files on disk have it."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from failoverd import tls
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.setup import certificates
from failoverd.setup.certificates import Authority, Issued
from failoverd.setup.files import File, put
from failoverd.setup.issued import Place
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NOW = dt.datetime.now(dt.UTC)
LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("lab", NOW)


def laid_out(directory: Path, authority: Authority, issued: Issued, name: str) -> dict[str, Path]:
    """The three files that tls.py takes."""
    directory.mkdir(exist_ok=True)
    files = {"ca": directory / "ca.crt", "certificate": directory / f"{name}.crt", "key": directory / f"{name}.key"}
    for path, content in zip(files.values(), (authority.pem, issued.certificate, issued.key), strict=True):
        path.write_bytes(content)
    return files


def meet(server: dict[str, Path], client: dict[str, Path]) -> str | None:
    """One connection over loopback; the name that the server sees. Raises ssl.SSLError where one side refuses."""
    seen: list[str | None] = []
    with socket.create_server((LOCAL, 0)) as listener:
        context = tls.server_context(**server)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        seen.append(tls.common_name(secured.getpeercert()))
                        secured.sendall(b".")
                except ssl.SSLError:
                    seen.append(None)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as connection,
                tls.client_context(**client).wrap_socket(connection, server_hostname=LOCAL) as secured,
            ):
                secured.recv(1)  # in TLS 1.3 a server's refusal comes after the client's handshake
        finally:
            thread.join()
    return seen[0]


def test_openssl_verifies_what_it_has_signed_for_both_sides(authority: Authority, tmp_path: Path) -> None:
    files = laid_out(tmp_path, authority, authority.node("mail1", "192.0.2.11", NOW), "mail1")
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-verify_ip", "192.0.2.11"]
        subprocess.run([*command, "-CAfile", files["ca"], files["certificate"]], check=True, capture_output=True)


def test_openssl_says_that_an_operators_is_no_servers(authority: Authority, tmp_path: Path) -> None:
    files = laid_out(tmp_path, authority, authority.operator("anna", NOW), "anna")
    command = ["openssl", "verify", "-CAfile", str(files["ca"]), "-x509_strict", "-purpose"]
    subprocess.run([*command, "sslclient", files["certificate"]], check=True, capture_output=True)
    assert subprocess.run([*command, "sslserver", files["certificate"]], check=False, capture_output=True).returncode


def test_two_nodes_meet_and_know_each_others_names(authority: Authority, tmp_path: Path) -> None:
    server = laid_out(tmp_path, authority, authority.node("mail1", LOCAL, NOW), "mail1")
    client = laid_out(tmp_path, authority, authority.node("mail2", "192.0.2.12", NOW), "mail2")
    assert meet(server, client) == "mail2"


def test_the_ca_of_another_cluster_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create("lab", NOW)
    server = laid_out(tmp_path / "ours", authority, authority.node("mail1", LOCAL, NOW), "mail1")
    stranger = laid_out(tmp_path / "theirs", other, other.node("mail2", LOCAL, NOW), "mail2") | {"ca": server["ca"]}
    with pytest.raises(ssl.SSLError):
        meet(server, stranger)


def test_an_expired_one_is_refused(authority: Authority, tmp_path: Path) -> None:
    server = laid_out(tmp_path, authority, authority.node("mail1", LOCAL, NOW), "mail1")
    long_ago = NOW - dt.timedelta(days=certificates.NODE_DAYS + 1)
    client = laid_out(tmp_path, authority, authority.node("mail2", LOCAL, long_ago), "mail2")
    with pytest.raises(ssl.SSLError):
        meet(server, client)


def test_renewed_on_the_old_key(authority: Authority, tmp_path: Path) -> None:
    old = authority.node("mail1", LOCAL, NOW - dt.timedelta(days=700))
    renewed = authority.node("mail1", LOCAL, NOW, key=old.certificate)
    assert renewed.key == b""
    files = laid_out(tmp_path, authority, Issued(renewed.certificate, old.key), "mail1")
    assert meet(files, files) == "mail1"


@pytest.mark.parametrize(
    ("name", "address", "age_days", "fits"),
    [
        ("mail1", LOCAL, 0, True),
        ("mail1", LOCAL, 669, True),
        ("mail1", LOCAL, 671, False),  # renewed two months before it ends
        ("mail2", LOCAL, 0, False),
        ("mail1", "192.0.2.1", 0, False),
    ],
)
def test_one_that_fits_stays(authority: Authority, name: str, address: str, age_days: int, *, fits: bool) -> None:
    made = authority.node("mail1", LOCAL, NOW - dt.timedelta(days=age_days))
    assert certificates.fits(authority, made.certificate, made.key, name=name, address=address, now=NOW) is fits


def test_one_of_another_ca_or_key_or_a_persons_does_not_fit(authority: Authority) -> None:
    made, other = authority.node("mail1", LOCAL, NOW), authority.node("mail1", LOCAL, NOW)
    stranger = Authority.create("lab", NOW).node("mail1", LOCAL, NOW)
    person = authority.operator("mail1", NOW)
    for certificate, key in ((made.certificate, other.key), (stranger.certificate, stranger.key), (b"", made.key)):
        assert not certificates.fits(authority, certificate, key, name="mail1", address=LOCAL, now=NOW)
    assert not certificates.fits(authority, person.certificate, person.key, name="mail1", address=LOCAL, now=NOW)


# ---- on disk, by failoverctl ------------------------------------------------------------------------------------


@pytest.fixture
def place(authority: Authority, tmp_path: Path) -> Place:
    place = Place(tmp_path / "failoverd")
    put(authority.files(place.authority))
    return place


def run(place: Place, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["certificate", *arguments, "--directory", str(place.directory)])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_their_owners_alone(place: Place) -> None:
    assert run(place, "issue", "mail4", "--address", "192.0.2.14").exit_code == Exit.DONE
    assert mode(place.authority) == 0o700
    assert mode(place.authority / "ca.key") == 0o600
    assert mode(place.issued("mail4").with_suffix(".key")) == 0o600
    assert not list(place.directory.rglob(".*"))


def test_issued_for_an_address_of_the_configuration(place: Place) -> None:
    place.config.write_text("nodes:\n  mail4: {kind: data, address: 192.0.2.14}\n")
    assert run(place, "issue", "mail4").exit_code == Exit.DONE
    shown = certificates.shown(certificates.read_certificate(place.issued("mail4").read_bytes(), ""))
    assert (shown.name, shown.kind, shown.addresses) == ("mail4", "node", ("192.0.2.14",))
    operator = run(place, "issue", "--operator", "mail4")
    assert operator.exit_code == Exit.USAGE
    assert "mail4 is a node" in operator.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["issue"], "either NODE or --operator NAME"),
        (["issue", "mail4", "--operator", "anna"], "either NODE or --operator NAME"),
        (["issue", "mail4"], "the configuration has no node mail4; allowed: --address"),
        (["issue", "mail4", "--address", "mail4.test"], "'mail4.test' is no IPv4 address; allowed: --address"),
        (["issue", "../mail4", "--address", "192.0.2.14"], "'../mail4' is no name; allowed: lower-case letters"),
        (["issue", "--operator", "anna", "--address", "192.0.2.14"], "--address is for a node"),
    ],
)
def test_bad_usage_is_told_with_what_is_allowed(place: Place, arguments: list[str], words: str) -> None:
    refused = run(place, *arguments)
    assert refused.exit_code == Exit.USAGE
    assert words in " ".join(refused.stderr.split())
    assert sorted(path.name for path in place.directory.rglob("*")) == ["ca", "ca.crt", "ca.key"]


def test_renewed_here_and_for_another_node(place: Place) -> None:
    for name, address in (("mail1", "192.0.2.11"), ("mail2", "192.0.2.12")):
        run(place, "issue", name, "--address", address)
    place.tls.mkdir()
    (place.tls / "node.crt").write_bytes(place.issued("mail1").read_bytes())
    before = place.issued("mail1").read_bytes()
    assert "nothing to renew" in run(place, "renew").stdout
    renewed = run(place, "renew", "mail1", "mail2")
    assert renewed.exit_code == Exit.DONE
    assert f"mail1: renewed, in place: {place.tls}/node.crt" in renewed.stdout
    assert f"scp {place.issued('mail2')} mail2:{place.tls}/node.crt.new" in renewed.stdout
    assert (place.tls / "node.crt").read_bytes() == place.issued("mail1").read_bytes() != before


def test_what_is_another_one_s_certificate_is_not_renewed_as_this_one_s(place: Place, authority: Authority) -> None:
    issued_to_another = authority.node("mail2", "192.0.2.12", NOW).certificate
    put((File(place.issued("mail3"), issued_to_another),))
    refused = run(place, "renew", "mail3")
    assert refused.exit_code == Exit.REFUSED
    assert "is no certificate of mail3, with its address" in refused.stderr
    assert place.issued("mail3").read_bytes() == issued_to_another


def test_without_a_name_those_that_end_soon_are_renewed(place: Place, authority: Authority) -> None:
    old = authority.node("mail3", "192.0.2.13", NOW - dt.timedelta(days=700))
    place.issued("mail3").parent.mkdir()
    place.issued("mail3").write_bytes(old.certificate)
    run(place, "issue", "mail2", "--address", "192.0.2.12")
    renewed = run(place, "renew")
    assert renewed.stdout.startswith("mail3: renewed; now:\n  scp ")
    assert "mail2" not in renewed.stdout


def test_without_the_cas_key_nothing_is_signed(place: Place) -> None:
    (place.authority / "ca.key").unlink()
    refused = run(place, "issue", "mail4", "--address", "192.0.2.14")
    assert refused.exit_code == Exit.REFUSED
    assert "SETUP_AUTHORITY: mail4: the key of the cluster's CA is not here; allowed: ca.key beside" in refused.stderr
    assert not (place.authority / "issued").exists()


def test_what_is_no_certificate_is_named(place: Place) -> None:
    refused = run(place, "show", str(place.authority / "ca.key"))
    assert refused.exit_code == Exit.REFUSED
    assert f"SETUP_AUTHORITY: {place.authority}/ca.key: holds no certificate" in refused.stderr


def test_the_key_of_another_ca_is_told(place: Place) -> None:
    put(Authority.create("other", NOW).files(place.authority)[:1])
    with pytest.raises(Refused, match="is not the key of ca"):
        Authority.read(place.authority)


def test_shown_with_the_days_that_are_left(place: Place) -> None:
    run(place, "issue", "mail2", "--address", "192.0.2.12")
    shown = run(place, "show").stdout
    assert "  authority failoverd CA of lab, 36" in shown
    assert "  node mail2 at 192.0.2.12, 7" in shown
    assert "signed by failoverd CA of lab" in shown
    assert run(place, "show", "-o", "json").stdout.count('"days_left"') == 2
