"""A Zabbix 6.0 server from Debian's packages: its root built once and cached, run on the lab's client host.

    zabbix-HASH   Debian 12 with PostgreSQL, zabbix-server-pgsql and the frontend; the schema loaded      (CACHE)
    overlay       what a run writes; gone with it                                                         (STATE)

PostgreSQL listens on its socket only, the frontend (with the API) on 127.0.0.1 of the client host's network. All of it
lives in one process namespace, and ends with it: nothing is installed on the machine itself.
"""

from __future__ import annotations

import http.client
import inspect
import itertools
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Self

from hosts import LabError, cgroups, debian, layout, network
from hosts.layers import clear_half_built, digest, layer, mount_overlay, run_in_root
from hosts.shell import run, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

PACKAGES = (
    "postgresql",
    "zabbix-server-pgsql",
    "zabbix-frontend-php",
    "php-cli",
    "php-pgsql",
    "php-mbstring",
    "php-gd",
    "php-bcmath",
    "php-xml",
    "procps",
)
PORT = 8080
USER, PASSWORD = "Admin", "zabbix"  # what Zabbix has after its installation
READY_S = 90.0
_NAME = "zabbix"

_PREPARE = """
pg_ctlcluster 15 main start
as() { su -s /bin/sh -c "$2" "$1"; }
as postgres "createuser zabbix && createdb --owner=zabbix --encoding=UTF8 --template=template0 zabbix"
for part in schema images data; do
    zcat /usr/share/zabbix-server-pgsql/$part.sql.gz
done | as zabbix "psql --quiet --single-transaction --set=ON_ERROR_STOP=1 zabbix >/dev/null"
echo 'fsync = off' >>/etc/postgresql/15/main/postgresql.conf
echo "listen_addresses = ''" >>/etc/postgresql/15/main/postgresql.conf
pg_ctlcluster 15 main stop
"""
_RUN = f"""
install -d -o zabbix -g zabbix /run/zabbix /var/log/zabbix-server
install -d -o postgres -g postgres /run/postgresql
pg_ctlcluster 15 main start
su -s /bin/sh -c 'exec zabbix_server --foreground' zabbix >/var/log/zabbix.out 2>&1 &
cd /usr/share/zabbix
su -s /bin/sh -c 'PHP_CLI_SERVER_WORKERS=2 exec php -d max_execution_time=300 -d post_max_size=16M \
    -d max_input_time=300 -d memory_limit=256M -S 127.0.0.1:{PORT}' zabbix >/var/log/frontend.out 2>&1
"""
_SERVER_CONF = """DBHost=
DBName=zabbix
DBUser=zabbix
LogType=console
PidFile=/run/zabbix/zabbix_server.pid
StartPollers=4
StartPreprocessors=2
StartPollersUnreachable=1
StartPingers=0
StartDiscoverers=0
StartTrappers=0
CacheUpdateFrequency=5
Timeout=4
FpingLocation=/bin/true
"""
_FRONTEND_CONF = """<?php
$DB['TYPE'] = 'POSTGRESQL';
$DB['SERVER'] = '';
$DB['PORT'] = '0';
$DB['DATABASE'] = 'zabbix';
$DB['USER'] = 'zabbix';
$DB['PASSWORD'] = '';
$DB['SCHEMA'] = '';
$DB['ENCRYPTION'] = false;
$DB['DOUBLE_IEEE754'] = true;
$ZBX_SERVER_NAME = 'failoverd lab';
"""


def root(say: Callable[[str], None]) -> Path:
    """Give the cached root; build it where it is missing. For whoever has the lab for itself."""
    debian.install_outside_packages(say)
    clear_half_built()
    key = digest(PACKAGES, _PREPARE, inspect.getsource(_build))
    return layer("zabbix", key, say, _build)


def _build(place: Path) -> None:
    sources = [str(debian.SOURCES)] if debian.SOURCES.exists() else []
    run(
        *cgroups.joining(
            layout.BUILD_CGROUP,
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=APT::Install-Recommends "false"',
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info")),
                "bookworm",
                str(place),
                *sources,
            ],
        ),
        timeout_s=900,
    )
    run_in_root(place, _PREPARE, timeout_s=300)


class ApiError(LabError):
    """What Zabbix's API refused, in its own words."""


class ZabbixServer:
    """It runs from `with` to its end, in the network namespace `network_of`."""

    def __init__(self, base: Path, place: Path, network_of: Path) -> None:
        self._base, self._place, self._network = base, place, network_of
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._session = ""

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self._place / name).mkdir(parents=True)
        mounted = self._place / "root"
        mount_overlay([self._base], self._place / "upper", self._place / "work", mounted)
        try:
            self._start(mounted)
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self, mounted: Path) -> None:
        (mounted / "etc/zabbix/zabbix_server.conf").write_text(_SERVER_CONF)
        (mounted / "etc/zabbix/zabbix.conf.php").write_text(_FRONTEND_CONF)
        conf = mounted / "usr/share/zabbix/conf/zabbix.conf.php"
        conf.unlink(missing_ok=True)
        conf.symlink_to("/etc/zabbix/zabbix.conf.php")
        with (self._place / "console").open("wb") as console:
            self._process = subprocess.Popen(
                cgroups.joining(
                    cgroups.group_of(_NAME),
                    [
                        "nsenter",
                        f"--net={self._network}",
                        "systemd-nspawn",
                        "--quiet",
                        "--register=no",
                        "--keep-unit",
                        "--as-pid2",
                        "--settings=no",
                        "--console=pipe",
                        "--resolv-conf=off",
                        "--timezone=off",
                        "--link-journal=no",
                        f"--directory={mounted}",
                        f"--machine={_NAME}",
                        "/bin/sh",
                        "-ec",
                        _RUN,
                    ],
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        wait_for("Zabbix's API answers", self._answers, READY_S, every_s=0.2, why_not=self.last_words)
        self._session = self.call("user.login", username=USER, password=PASSWORD)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        run("umount", str(self._place / "root"))
        shutil.rmtree(self._place)

    def last_words(self) -> str:
        """What its programs printed last."""
        logs = ("root/var/log/zabbix.out", "root/var/log/frontend.out", "console")
        said = [self._place / name for name in logs]
        return "\n  ".join(line for file in said if file.exists() for line in file.read_text().splitlines()[-6:])

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"Zabbix has ended: {self.last_words()}")
        try:
            return bool(self.call("apiinfo.version"))
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def call(self, method: str, **parameters: object) -> Any:
        """Ask the API; raises ApiError for what it refuses."""
        asked = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": next(self._numbers)}
        if self._session and method != "apiinfo.version":
            asked["auth"] = self._session
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        try:
            with network.namespace(self._network):
                connection.connect()
            connection.request("POST", "/api_jsonrpc.php", json.dumps(asked), {"Content-Type": "application/json-rpc"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise ApiError(f"{method}: {answer['error']['message']} {answer['error']['data']}")
        return answer["result"]
