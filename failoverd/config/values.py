"""The kinds of value that a configuration has: durations, percentages, addresses, names, paths, secrets.

Each is a type for a pydantic field; a value that does not fit raises `wrong(...)`, which says what would.
"""

import ipaddress
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from failoverd.config.error import wrong
from failoverd.config.lines import read_regular

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
LONGEST_SECRET = 4096  # bytes
LONGEST_OPTION = 1024  # characters
MOUNT_OPTIONS_REFUSED = {
    "bg": "goes on in the background, and mounts when nobody holds the lease any more",
    "noauto": "is for /etc/fstab",
    "auto": "is for /etc/fstab",
    "remount": "mounts nothing",
    "bind": "mounts no file system",
    "rbind": "mounts no file system",
    "move": "mounts no file system",
    "loop": "leaves a device behind",
}
CREDENTIAL = "credential:"
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
DAEMONS_CREDENTIALS = "/run/credentials/failoverd.service"
MOUNT_SECRETS = ("password", "pass", "secret")


def duration_ms(text: str) -> int:
    """Return milliseconds of `500ms`, `3s`, `1m`, `1h`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * UNITS_MS[match[2]]


def duration(shortest: str, longest: str) -> BeforeValidator:
    """Make the validator of a duration: text with a unit in, integer milliseconds out."""
    low, high = duration_ms(shortest), duration_ms(longest)
    allowed = f"{shortest} to {longest}, a whole number with ms, s, m or h"

    def parse(value: object) -> int:
        if not isinstance(value, str) or DURATION.fullmatch(value) is None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            raise wrong("has no unit" if is_number else "is no duration", allowed)
        if not low <= duration_ms(value) <= high:
            raise wrong("is out of range", allowed)
        return duration_ms(value)

    return BeforeValidator(parse)


def duration_or_never(shortest: str, longest: str) -> BeforeValidator:
    """Make the validator of a duration that may be `never`: None."""
    known = duration_ms(shortest), duration_ms(longest)
    allowed = f"never, or {shortest} to {longest}, a whole number with ms, s, m or h"

    def parse(value: object) -> int | None:
        if value == "never":
            return None
        if not isinstance(value, str) or DURATION.fullmatch(value) is None:
            raise wrong("is no duration", allowed)
        if not known[0] <= duration_ms(value) <= known[1]:
            raise wrong("is out of range", allowed)
        return duration_ms(value)

    return BeforeValidator(parse)


def percentage(lowest: int, highest: int) -> BeforeValidator:
    """Make the validator of a percentage: `5%` in, 5.0 out."""
    allowed = f"{lowest}% to {highest}%"

    def parse(value: object) -> float:
        match = PERCENTAGE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise wrong("is no percentage", allowed)
        if not lowest <= float(match[1]) <= highest:
            raise wrong("is out of range", allowed)
        return float(match[1])

    return BeforeValidator(parse)


def pattern(expression: str, what: str) -> AfterValidator:
    """Make the validator of a text that must match as a whole."""
    compiled = re.compile(expression)

    def match(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise wrong("is not well-formed" if value else "is empty", what)
        return value

    return AfterValidator(match)


def _host_address(value: str) -> str:
    allowed = "a literal IPv4 address of a host, such as 192.0.2.11"
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise wrong("is no IPv4 address (names are not looked up)", allowed) from None
    if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_reserved:
        raise wrong("is no address of a host", allowed)
    return str(address)


def _address_with_prefix(value: str) -> str:
    allowed = "a literal IPv4 address with its prefix length, such as 192.0.2.100/24"
    address, slash, prefix = value.partition("/")
    if not slash:
        raise wrong("has no prefix length", allowed)
    if not re.fullmatch(r"[0-9]{1,2}", prefix) or not 1 <= int(prefix) <= 32:
        raise wrong("has no prefix length", allowed)
    try:
        interface = ipaddress.IPv4Interface(f"{_host_address(address)}/{prefix}")
    except PydanticCustomError:
        raise wrong("is no IPv4 address of a host", allowed) from None
    network = interface.network
    if network.num_addresses > 2 and interface.ip in (network.network_address, network.broadcast_address):
        raise wrong("is the address of its network or its broadcast address", allowed)
    return str(interface)


def _absolute_path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise wrong("is no absolute path", "a path that starts with /")
    return Path(value)


def _file(value: object) -> Path:
    """A path, or `credential:NAME`: what systemd has loaded for this unit (LoadCredential=)."""
    if not isinstance(value, str) or not value.startswith(CREDENTIAL):
        return _absolute_path(value)
    name = value.removeprefix(CREDENTIAL)
    if CREDENTIAL_NAME.fullmatch(name) is None:
        raise wrong("is no credential's name", "credential:NAME, of letters, digits, dots, dashes and underscores")
    # Whoever is no unit, at a terminal, sees what the daemon was given.
    return Path(os.environ.get("CREDENTIALS_DIRECTORY") or DAEMONS_CREDENTIALS) / name


def _readable_file(value: object) -> Path:
    path = _file(value)
    _read(path)
    return path


def _private_file(value: object) -> Path:
    path = _file(value)
    _read_private(path)
    return path


def private_file(value: object) -> bytes:
    """Read a file that others may not, of several lines."""
    return _read_private(_file(value))


def _read(path: Path) -> tuple[bytes, int]:
    try:
        return read_regular(path, LONGEST_SECRET)
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}", "a readable file") from None


def _read_private(path: Path) -> bytes:
    content, mode = _read(path)
    if mode & 0o007:
        raise wrong(f"others have access to the file (mode {mode & 0o7777:04o})", "mode 0600 or 0640")
    return content


def _secret(value: object) -> SecretStr:
    """Read the secret out of the file named. `value` is not shown unless it is a path: it may be the secret itself."""
    if not isinstance(value, str) or not value.startswith(("/", CREDENTIAL)) or "\0" in value:
        raise wrong("is no absolute path", "a path that starts with /", hide=True)
    content = _read_private(_file(value))
    allowed = "a file with the password as its only line"
    if len(content) > LONGEST_SECRET:
        raise wrong("the file is too large", allowed)
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise wrong("the file is not UTF-8 text", allowed) from None
    if not text:
        raise wrong("the file is empty", allowed)
    if not text.isprintable():
        raise wrong("the file holds more than one line, or control characters", allowed)
    return SecretStr(text)


def _data_node_secret(value: object, info: ValidationInfo) -> SecretStr:
    """As `_secret`, but an arbiter has no database and fences nobody: there they need not lie, and are empty."""
    if isinstance(value, str) and value.startswith(("/", CREDENTIAL)) and (info.context or {}).get("kind") == "arbiter":
        return SecretStr("")
    return _secret(value)


def _program(value: object, info: ValidationInfo) -> Path:
    """A program that failoverd runs as root on a data node: nobody else may be able to change it."""
    path = _absolute_path(value)
    if (info.context or {}).get("kind") == "arbiter":
        return path
    try:
        found = path.stat()
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}", "a program") from None
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o100:
        raise wrong("is no file that its owner may execute", "a program")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        who = f"owner {found.st_uid}, mode {found.st_mode & 0o7777:04o}"
        raise wrong(f"others may change the program ({who})", "a file of root's, mode 0755 or 0700")
    return path


def _mount_option(value: str) -> str:
    name = value.partition("=")[0]
    if name in MOUNT_OPTIONS_REFUSED:
        raise wrong(f"{name} {MOUNT_OPTIONS_REFUSED[name]}", "the other options of the file system")
    if name in MOUNT_SECRETS:
        raise wrong(f"option {name!r} would show a secret", "credentials=FILE", hide=True)
    return value


def _mount_type(value: str) -> str:
    if value.startswith("fuse") or value in ("glusterfs", "sshfs", "auto", "none"):
        raise wrong(
            "has a process of its own, or none can tell what it is", "a file system of the kernel's, or kind: hook"
        )
    return value


def _option_name(value: str) -> str:
    if value in ("action", "option", "nodename"):
        raise wrong("is given by failoverd itself", "the other options of the agent")
    return value


def _option_value(value: object) -> str:
    """What an agent gets is the text as it stands in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise wrong("is no text", "text; quote it if it looks like a number")
    if len(value) > LONGEST_OPTION or not value.isprintable():
        raise wrong("is not well-formed", f"one line of printable text, at most {LONGEST_OPTION} characters")
    return value


def unique(what: str) -> Callable[[tuple[object, ...]], tuple[object, ...]]:
    """Make a check that a list names nothing twice."""

    def check(values: tuple[object, ...]) -> tuple[object, ...]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise wrong(f"{value} is named twice", f"each {what} once")
        return values

    return check


Address = Annotated[str, AfterValidator(_host_address)]
AddressWithPrefix = Annotated[str, AfterValidator(_address_with_prefix)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute_path)]
ReadableFile = Annotated[Path, BeforeValidator(_readable_file)]
PrivateFile = Annotated[Path, BeforeValidator(_private_file)]
SecretFile = Annotated[SecretStr, BeforeValidator(_secret)]
DataNodeSecretFile = Annotated[SecretStr, BeforeValidator(_data_node_secret)]
Port = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, pattern(r"[^\x00-\x20\x7f]{1,255}", "text without spaces")]
Label = Annotated[
    str, pattern(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "lower-case letters, digits, - and ., at most 63")
]
HostName = Annotated[
    str,
    pattern(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "a host's name, such as mail1.example.org, with no port"),
]
FileName = Annotated[str, pattern(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", "the name of a file, without its directory")]
Interface = Annotated[str, pattern(r"[A-Za-z0-9._-]{1,15}", "the name of a network interface")]
Unit = Annotated[
    str, pattern(r"[A-Za-z0-9:_.\\@-]{1,200}\.service", "the full name of a systemd unit, such as dovecot.service")
]
Agent = Annotated[
    str,
    pattern(
        r"fence_[A-Za-z0-9_.-]{1,64}|/[!-~]{1,255}",
        "the name of a fence agent in /usr/sbin, such as fence_ipmilan, or an absolute path",
    ),
]
OptionName = Annotated[
    str,
    pattern(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", "the name of one of the agent's options"),
    AfterValidator(_option_name),
]
OptionValue = Annotated[str, BeforeValidator(_option_value)]
Program = Annotated[Path, BeforeValidator(_program)]
MountSource = Annotated[
    str, pattern(r"[A-Za-z0-9/\[][!-~]{0,1023}", "a device, or a server's export such as 192.0.2.20:/mail")
]
MountType = Annotated[
    str,
    pattern(r"[a-z0-9][a-z0-9._]{0,31}", "the name of a file system, such as nfs4 or ext4"),
    AfterValidator(_mount_type),
]
MountOption = Annotated[
    str,
    pattern(r"[A-Za-z0-9_][!-+\--~]{0,255}", "one option of mount(8), without commas"),
    AfterValidator(_mount_option),
]
