"""The configuration's shape, section by section, in the order of config/failoverd.yaml.

Attributes are the YAML's keys; a duration's has the suffix `_ms` and a percentage's `_percent`. A default is what
config/failoverd.yaml shows (a test holds that), whose comments say why. Nothing of it can be changed after loading.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from failoverd.config import relations
from failoverd.config.access import Access
from failoverd.config.alerts import Alerts
from failoverd.config.drill import Drill
from failoverd.config.error import wrong
from failoverd.config.http import Http
from failoverd.config.monitoring import Monitoring
from failoverd.config.section import Section
from failoverd.config.store import Store
from failoverd.config.values import (
    AbsolutePath,
    Address,
    AddressWithPrefix,
    Agent,
    DataNodeSecretFile,
    FileName,
    Interface,
    Label,
    MountOption,
    MountSource,
    MountType,
    OptionName,
    OptionValue,
    Port,
    PrivateFile,
    Program,
    ReadableFile,
    SecretFile,
    Text,
    Unit,
    duration,
    duration_or_never,
    percentage,
    unique,
)
from failoverd.core.model import Node, NodeKind, NodeName

Kind = Literal["data", "arbiter"]
Tls = Literal["implicit", "starttls", "none"]
MYSQL_PASSWORD_MOST = 32
# What several nodes may mount at once: each of these has locks of its own between its users.
SHARED_TYPES = frozenset({"beegfs", "ceph", "cifs", "gfs2", "lustre", "nfs", "nfs4", "ocfs2", "smb3"})
SECRET_OPTION = re.compile(r"passw|passphrase|secret|token", re.IGNORECASE)
Failures = Annotated[int, Field(ge=1, le=100)]
Ports = Annotated[tuple[Port, ...], Field(strict=False, min_length=1, max_length=64), AfterValidator(unique("port"))]
Paths = Annotated[tuple[AbsolutePath, ...], Field(strict=False, max_length=64), AfterValidator(unique("path"))]


class NodeSection(Section):
    """One member."""

    kind: Kind
    address: Address
    priority: Annotated[int, Field(ge=0, le=1000)] = 0


class Vip(Section):
    """The one address that clients know."""

    address_with_prefix: Annotated[AddressWithPrefix, Field(alias="address")]
    interface: Interface

    @property
    def address(self) -> str:
        """The address alone."""
        return self.address_with_prefix.partition("/")[0]

    @property
    def prefix(self) -> int:
        """The length of its network's prefix, in bits."""
        return int(self.address_with_prefix.partition("/")[2])


class Peer(Section):
    """How nodes reach each other: mutual TLS."""

    port: Port = 7400
    rebuild_port: Port = 7401
    ca: ReadableFile
    certificate: ReadableFile
    key: PrivateFile
    warn_before_ms: Annotated[int, duration("1h", "8760h"), Field(alias="warn_before")] = 2_592_000_000


class Lease(Section):
    """The lease's timings. `relations` holds them against each other."""

    ttl_ms: Annotated[int, duration("500ms", "5m"), Field(alias="ttl")] = 3000
    renew_ms: Annotated[int, duration("50ms", "1m"), Field(alias="renew")] = 500
    margin_ms: Annotated[int, duration("10ms", "1m"), Field(alias="margin")] = 300
    demote_budget_ms: Annotated[int, duration("100ms", "1m"), Field(alias="demote_budget")] = 1000


class Probed(Section):
    """What everything has that is looked at again and again."""

    interval_ms: Annotated[int, duration("100ms", "1m"), Field(alias="interval")] = 1000
    deadline_ms: Annotated[int, duration("50ms", "1m"), Field(alias="deadline")] = 1000
    failures: Failures = 3


class MailService(Probed):
    """What IMAP and SMTP have in common. `patience` is the deadline of one that has greeted, and is slow."""

    unit: Unit
    patience_ms: Annotated[int, duration("50ms", "1m"), Field(alias="patience")] = 5000
    port: Port
    tls: Tls
    ca: ReadableFile | None = None
    server_name: Text | None = None

    @model_validator(mode="after")
    def _tls_needs_a_name(self) -> Self:
        if self.tls != "none":
            for key in ("ca", "server_name"):
                if getattr(self, key) is None:
                    raise wrong(f"key {key!r} is missing, and tls is {self.tls}", "a value, or tls: none")
        return self


class ImapService(MailService):
    """IMAP as a client sees it: log in as the canary, select its mailbox."""

    kind: ClassVar[Literal["imap"]] = "imap"
    user: Text
    password: Annotated[SecretFile, Field(alias="password_file")]
    mailbox: Text = "INBOX"


class SmtpService(MailService):
    """SMTP as a client sees it: a recipient is accepted."""

    kind: ClassVar[Literal["smtp"]] = "smtp"
    recipient: Text


class Services(Section):
    """What clients use beside the database."""

    imap: ImapService | None = None
    smtp: SmtpService | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.imap is None and self.smtp is None:
            raise wrong("no service is named", "imap, smtp or both")
        return self


class Database(Probed):
    """The local SQL server. The passwords are empty on the arbiter, which has no server and needs none of them."""

    dialect: Literal["mariadb", "mysql"]
    unit: Unit
    socket: AbsolutePath
    port: Port = 3306
    user: Text
    password: Annotated[DataNodeSecretFile, Field(alias="password_file")]
    replication_user: Text
    replication_password: Annotated[DataNodeSecretFile, Field(alias="replication_password_file")]
    interval_ms: Annotated[int, duration("100ms", "1m"), Field(alias="interval")] = 500
    heartbeat_ms: Annotated[int, duration("100ms", "1m"), Field(alias="heartbeat")] = 500
    max_lag_ms: Annotated[int, duration("100ms", "24h"), Field(alias="max_lag")] = 5000
    lag_warn_ms: Annotated[int, duration("100ms", "24h"), Field(alias="lag_warn")] = 500
    lag_alarm_ms: Annotated[int, duration("100ms", "24h"), Field(alias="lag_alarm")] = 5000

    @model_validator(mode="after")
    def _mysql_takes_it(self) -> Self:
        """CHANGE REPLICATION SOURCE TO refuses a longer password; better here than in the first failover."""
        if self.dialect == "mysql" and len(self.replication_password.get_secret_value()) > MYSQL_PASSWORD_MOST:
            text = f"the password is longer than {MYSQL_PASSWORD_MOST} characters"
            raise wrong(text, "what MySQL takes of a replica", key=("database", "replication_password_file"), hide=True)
        return self


class Gate(Section):
    """Ports of a node's own address that are closed without the lease."""

    ports: Ports


class Mount(Section):
    """A file system that is mounted with the role, and unmounted before it is given back."""

    source: MountSource
    type: MountType
    options: Annotated[tuple[MountOption, ...], Field(strict=False, max_length=32)] = ()
    exclusive: Literal["fencing", "device"] | None = None

    @property
    def alone(self) -> bool:
        """Mounted by two nodes at once it is destroyed."""
        return self.type not in SHARED_TYPES

    @model_validator(mode="after")
    def _kept_from_two(self) -> Self:
        """The end of a lease unmounts nothing on a host that hangs: what does must be named."""
        if self.alone and self.exclusive is None:
            raise wrong(
                f"key 'exclusive' is missing: {self.type} is destroyed when a second node mounts it, and a node that "
                "hangs keeps it mounted beyond its lease",
                "exclusive: fencing (with fencing.required: true), or exclusive: device where the device has a lock of "
                "its own; or a type that several nodes may mount at once: " + ", ".join(sorted(SHARED_TYPES)),
            )
        if not self.alone and self.exclusive is not None:
            raise wrong(f"key 'exclusive' is of no use: several nodes may mount {self.type} at once", "none")
        return self


class MailStore(Section):
    """Where the mail lies: on all data nodes at all times, or with the role, by `mount` or by `program`."""

    kind: Literal["shared", "hook"]
    path: AbsolutePath
    mount: Mount | None = None
    program: Program | None = None
    timeout_ms: Annotated[int, duration("1s", "5m"), Field(alias="timeout")] = 10_000

    @property
    def moves(self) -> bool:
        """Only the primary has it."""
        return self.mount is not None or self.program is not None

    @model_validator(mode="after")
    def _as_its_kind_says(self) -> Self:
        if self.kind == "hook" and self.program is None:
            raise wrong("key 'program' is missing, and kind is hook", "the absolute path of a program")
        if self.kind == "hook" and self.mount is not None:
            raise wrong("key 'mount' is for kind: shared", "program alone: it mounts what there is to be mounted")
        if self.kind == "shared" and self.program is not None:
            raise wrong("key 'program' is for kind: hook", "mount, or kind: hook")
        return self


class Queue(Section):
    """The mail queue of a node that is no primary."""

    kind: Literal["none", "postfix"] = "none"
    spool: AbsolutePath = Path("/var/spool/postfix")
    config: AbsolutePath = Path("/etc/postfix")
    drain_ms: Annotated[int, duration("0ms", "1m"), Field(alias="drain")] = 2000


class Host(Section):
    """What the node itself is watched for."""

    interval_ms: Annotated[int, duration("100ms", "1m"), Field(alias="interval")] = 2000
    disk_min_free_percent: Annotated[float, percentage(0, 90), Field(alias="disk_min_free")] = 5.0
    disks: Annotated[Paths, Field(min_length=1)]
    memory_min_free_percent: Annotated[float, percentage(0, 90), Field(alias="memory_min_free")] = 3.0
    load_max_per_core: Annotated[float, Field(gt=0, le=10_000)] = 20.0


class Disks(Section):
    """Where a small file is written and synced again and again, to see whether it still can be."""

    write: Paths = ()
    interval_ms: Annotated[int, duration("100ms", "1m"), Field(alias="interval")] = 1000
    deadline_ms: Annotated[int, duration("50ms", "1m"), Field(alias="deadline")] = 1000


class FenceDevice(Section):
    """One fence agent with its options. A secret is an option as well, and stands in a file of its own."""

    agent: Agent
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    secrets: dict[OptionName, DataNodeSecretFile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _secrets_are_no_options(self) -> Self:
        for name in self.options:
            if name in self.secrets:
                raise wrong(f"option {name!r} is given twice", "either in options or in secrets")
            if SECRET_OPTION.search(name) and not name.endswith(("_script", "_file")):
                raise wrong(f"option {name!r} would show a secret", f"secrets: {{{name}: FILE}}", hide=True)
        return self


FenceLevel = Annotated[tuple[FenceDevice, ...], Field(strict=False, min_length=1, max_length=8)]
FenceLevels = Annotated[tuple[FenceLevel, ...], Field(strict=False, min_length=1, max_length=8)]


class Fencing(Section):
    """Who can cut a lost primary's power: for each node levels of devices, all of one level together."""

    required: bool = False
    timeout_ms: Annotated[int, duration("1s", "5m"), Field(alias="timeout")] = 10_000
    nodes: dict[Label, FenceLevels] = Field(default_factory=dict)

    @property
    def secrets(self) -> list[SecretStr]:
        """All of them, for whoever hides them."""
        devices = (device for levels in self.nodes.values() for level in levels for device in level)
        return [secret for device in devices for secret in device.secrets.values()]


class Flapping(Section):
    """How many failovers may happen by themselves."""

    failovers: Annotated[int, Field(ge=1, le=100)] = 3
    window_ms: Annotated[int, duration("1m", "168h"), Field(alias="window")] = 3_600_000
    hold_off_ms: Annotated[int, duration("1s", "24h"), Field(alias="hold_off")] = 10_000


class Rpo(Section):
    """What may be lost with the primary, and what is done when nobody can acknowledge."""

    mode: Literal["zero", "bounded"] = "zero"
    go_on_after_ms: Annotated[int | None, duration_or_never("5s", "24h"), Field(alias="go_on_after")] = None
    limit_ms: Annotated[int, duration("1s", "24h"), Field(alias="limit")] = 30_000

    @property
    def bound_ms(self) -> int | None:
        """How much may be lost, in time; None: nothing."""
        return self.limit_ms if self.mode == "bounded" else None

    @model_validator(mode="after")
    def _keys_of_its_mode(self) -> Self:
        if self.mode == "zero" and "limit_ms" in self.model_fields_set:
            raise wrong("is for mode: bounded, and mode is zero: nothing may be lost", "none", key=("rpo", "limit"))
        if self.mode == "bounded" and "go_on_after_ms" in self.model_fields_set:
            text = "is for mode: zero, and mode is bounded: no write waits for a replica"
            raise wrong(text, "none", key=("rpo", "go_on_after"))
        return self


class Audit(Section):
    """Where decisions are recorded, and for how long."""

    directory: AbsolutePath = Path("/var/lib/failoverd/audit")
    rotate_megabytes: Annotated[int, Field(ge=1, le=1024)] = 16
    reserve_megabytes: Annotated[int, Field(ge=1, le=1024)] = 4
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 731
    minimum_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 365

    @model_validator(mode="after")
    def _kept_long_enough(self) -> Self:
        least = self.minimum_retention_days
        if self.retention_days < least:
            text = f"is less than audit.minimum_retention_days, {least}"
            raise wrong(text, f"{least} or more", key=("audit", "retention_days"))
        return self


class Rebuild(Section):
    """Where `failoverd rebuild` finds this node's data, and what `failoverd donor` may cost its own."""

    data: AbsolutePath = Path("/var/lib/mysql")
    binlog: FileName = "mysqld-bin"
    ahead: AbsolutePath = Path("/var/lib/failoverd/ahead")
    throttle: Annotated[int, Field(ge=0, le=100_000)] = 0


class Rejoin(Section):
    """Whether a node whose database must be made anew does so by itself."""

    automatic: bool = True


class Config(Section):
    """The whole file, as one node reads it (the validation context has its name: `node`)."""

    cluster: Label
    members: Annotated[dict[Label, NodeSection], Field(alias="nodes")]
    vip: Vip
    store: Store
    peer: Peer
    lease: Lease = Lease()
    mail: Annotated[Services, Field(alias="services")]
    database: Database
    gate: Gate
    mail_store: MailStore
    queue: Queue = Queue()
    host: Host
    disks: Disks = Disks()
    fencing: Fencing = Fencing()
    flapping: Flapping = Flapping()
    rpo: Rpo = Rpo()
    audit: Audit = Audit()
    alerts: Alerts = Alerts()
    rejoin: Rejoin = Rejoin()
    rebuild: Rebuild = Rebuild()
    http: Http = Http()
    access: Access = Access()
    monitoring: Monitoring = Monitoring()
    drill: Drill = Drill()
    _this: str = PrivateAttr(default="")

    @cached_property
    def nodes(self) -> dict[NodeName, Node]:
        """All members by name, in the file's order."""
        return {
            NodeName(name): Node(NodeName(name), NodeKind(member.kind), member.address, member.priority)
            for name, member in self.members.items()
        }

    @cached_property
    def services(self) -> dict[str, ImapService | SmtpService]:
        """The mail services by kind."""
        return {service.kind: service for service in (self.mail.imap, self.mail.smtp) if service is not None}

    @property
    def secrets(self) -> list[SecretStr]:
        """All of them, for whoever hides them."""
        found = [self.database.password, self.database.replication_password]
        found += [self.mail.imap.password] if self.mail.imap is not None else []
        found += [self.drill.password] if self.drill.password is not None else []
        return [*found, *self.store.secrets, *self.fencing.secrets, *self.alerts.secrets]

    @property
    def this(self) -> Node:
        """The node that reads the file."""
        return self.nodes[NodeName(self._this)]

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        self._this = str((info.context or {}).get("node", ""))
        relations.check(self, self._this)
        return self
