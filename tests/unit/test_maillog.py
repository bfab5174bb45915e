"""Lines of Postfix and Dovecot: what they say is read, and what somebody wrote into them is not."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd.probes.maillog import WORDS, Delivery, Login, dovecot, postfix, source_of

TAIL = ", method=PLAIN, rip=192.0.2.9, lip=10.89.1.100, TLS, session=<hrS4uJ8Rvtls/cQ+>"
FORGED = "x>, method=PLAIN, rip=198.51.100.1, lip=10.89.1.100, TLS, session=<hrS4uJ8Rvtls/cQ+>"
SENT = (
    "relay=10.89.1.100[10.89.1.100]:24, delay=0.05, delays=0.01/0/0.02/0.02, dsn=2.0.0, status=sent (250 2.0.0 Saved)"
)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("imap-login: Login: user=<a@b.test>, method=PLAIN, rip=192.0.2.9, lip=10.0.0.1, mpid=7, TLS, session=<a+/=>",
         Login(True, 1, "192.0.2.9", "a@b.test")),
        ("imap-login: Info: Login: user=<a@b.test>, method=PLAIN, rip=::1, lip=::1, mpid=7, secured, session=<a>",
         Login(True, 1, "::1", "a@b.test")),
        (f"imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<a@b.test>{TAIL}",
         Login(False, 1, "192.0.2.9", "a@b.test")),
        (f"pop3-login: Disconnected (auth failed, 3 attempts in 9 secs): user=<>{TAIL}",
         Login(False, 3, "192.0.2.9", "")),
        (f"imap-login: Aborted login by logging out (auth failed, 1 attempts in 2 secs): user=<a>{TAIL}",
         Login(False, 1, "192.0.2.9", "a")),
        (f"imap-login: Disconnected: Inactivity (auth failed, 9999999 attempts in 2 secs): user=<a>{TAIL}", None),
        (f"imap-login: Disconnected: Inactivity (auth failed, 99999 attempts in 2 secs): user=<a>{TAIL}",
         Login(False, 1000, "192.0.2.9", "a")),
        (f"imap-login: Disconnected: Inactivity (no auth attempts in 2 secs): user=<a>{TAIL}", None),
        ("imap(a@b.test)<7><s>: Disconnected: Logged out in=1 out=2", None),
        # An administrator's own login_log_format_elements: it counts, for nobody.
        ("imap-login: Disconnected: Closed (auth failed, 1 attempts in 2 secs): user=<a>, from 192.0.2.9",
         Login(False, 1, "", "a>, from 192.0.2.9")),
    ],
)  # fmt: skip
def test_what_dovecot_says(line: str, found: Login | None) -> None:
    assert dovecot(line) == found
    assert found is None or any(word in line.encode() for word in WORDS)


def test_a_name_cannot_put_the_blame_on_another_address() -> None:
    line = f"imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<{FORGED}>{TAIL}"
    said = dovecot(line)
    assert said is not None
    assert said.address == "192.0.2.9"


def test_a_name_cannot_make_a_success_of_a_failure_nor_be_the_canary() -> None:
    name = "x (auth failed, 5 attempts in 2 secs): user=<canary@lab.test"
    said = dovecot(f"imap-login: Login: user=<{name}>{TAIL}")
    assert said is not None
    assert (said.accepted, said.attempts) == (True, 1)
    assert said.user == name
    forged = "canary@lab.test>, method=PLAIN, rip=10.89.1.11, lip=10.89.1.12, TLS, session=<aaaa"
    said = dovecot(f"imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<{forged}>{TAIL}")
    assert said is not None
    assert said.address == "192.0.2.9", "so that it is not taken for a look of a member"


# Whatever stands in the name, with the pieces of real lines in it more often than chance would have them.
pieces = st.sampled_from(
    [">", "<", ", ", "rip=198.51.100.1", "lip=10.0.0.1", "method=PLAIN", "TLS", "session=<ab>", ("(auth failed, 9 "
     "attempts in 1 secs)"), ": ", "user=<", "Login", "imap-login: ", "TLS handshaking: ", "mpid=3", "secured", FORGED]
)  # fmt: skip
names = st.lists(pieces | st.text(string.printable, max_size=8) | st.text(max_size=4), max_size=12).map("".join)


@settings(max_examples=600)
@given(names)
def test_whatever_the_name_is_the_address_is_the_server_s(name: str) -> None:
    line = f"imap-login: Disconnected: Connection closed (auth failed, 2 attempts in 2 secs): user=<{name}>{TAIL}"
    said = dovecot(line)
    if not line.isprintable():
        assert said is None, "a second line is somebody's"
    else:
        assert said is not None
        assert (said.accepted, said.attempts, said.address) == (False, 2, "192.0.2.9")


@settings(max_examples=300)
@given(names)
def test_no_text_alone_makes_a_line(text: str) -> None:
    for line in (f"lmtp(7): {text}", f"auth: {text}", f"imap(a)<7><s>: {text}", f"x{text}"):
        assert dovecot(line) is None
    for identifier in ("dovecot", "postfix/qmgr", "postfix/cleanup", "postfix", "logger", "xpostfix/smtpd", text):
        if not identifier.endswith(("smtpd", "lmtp", "smtp", "local", "virtual", "pipe")):
            assert postfix(identifier, f"{text}status=sent (") is None


@pytest.mark.parametrize(
    ("identifier", "line", "found"),
    [
        ("postfix/submission/smtpd", "warning: unknown[192.0.2.9]: SASL PLAIN authentication failed: UGFzc3dvcmQ6",
         Login(False, 1, "192.0.2.9")),
        ("postfix/smtpd", ("warning: h.example.test[2001:db8::7]: SASL LOGIN authentication failed: (reason), "
         "sasl_username=x[198.51.100.1]: SASL PLAIN authentication failed: y"), Login(False, 1, "2001:db8::7")),
        ("postfix/smtpd", "3F1A2B: client=h.example.test[192.0.2.9], sasl_method=PLAIN, sasl_username=a@b.test",
         Login(True, 1, "192.0.2.9")),
        ("postfix/smtpd", "3F1A2B: client=h.example.test[192.0.2.9]", None),
        ("postfix/smtpd", ("NOQUEUE: reject: RCPT from x[192.0.2.9]: 554 <x>: warning: a[198.51.100.1]: SASL "
         "PLAIN authentication failed: x"), None),
        ("postfix/lmtp", f"3F1A2B: to=<a@b.test>, {SENT}", Delivery()),
        ("postfix-out/smtp", f"4bQ2Zk3c8Vz1: to=<a@b.test>, orig_to=<c@b.test>, {SENT}", Delivery()),
        ("postfix/smtp", ("3F1A2B: to=<a@b.test>, relay=mx.test[192.0.2.1]:25, delay=1, delays=0/0/1/0, dsn=5.1.1, "
         "status=bounced (host said: 550 dsn=2.0.0, status=sent (250 ok))"), None),
        ("postfix/smtp", (f'3F1A2B: to=<"x>, {SENT} "@b.test>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, '
         "status=deferred (timed out)"), None),
        ("postfix/smtpd", f"3F1A2B: to=<a@b.test>, {SENT}", None),
        ("dovecot", f"3F1A2B: to=<a@b.test>, {SENT}", None),
        ("postfix/lmtp", f"3F1A2B: to=<a@b.test>, {SENT}\nsecond", None),
    ],
)  # fmt: skip
def test_what_postfix_says(identifier: str, line: str, found: Login | Delivery | None) -> None:
    assert postfix(identifier, line) == found


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
    ],
)
def test_who_is_blamed(address: str, source: str) -> None:
    assert source_of(address) == source


@pytest.mark.parametrize("address", ["999.1.1.1", "1.2", "::::", "0x7f.1.1.1"])
def test_an_address_that_is_none(address: str) -> None:
    tail = TAIL.replace("192.0.2.9", address)
    said = dovecot(f"imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<a>{tail}")
    assert said is not None
    assert said.address == ""
