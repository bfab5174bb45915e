"""KernelGate in a real kernel: real TCP, real ARP, in network namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from gate_stage import CLIENT, OTHER, OWN, PEER, SERVICE, SILENCE_S, VIP, Echo, Stage, flows, sent_again, silent

from failoverd.actions import CODES, arp
from failoverd.actions.gate import KernelGate
from failoverd.actions.nft import Nft, NftError
from failoverd.core.model import Outcome
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.ports import Clock, Result

pytestmark = pytest.mark.root

SECOND_MS = 1000
CLOCK = BootClock()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    try:
        yield made
    finally:
        while _HANDLES:
            made.node.do(_HANDLES.pop().gate.release)
        made.close()


_HANDLES: list[Handle] = []


class Handle:
    """A gate whose calls run in the node's worker thread, as in the daemon."""

    def __init__(self, stage: Stage, clock: Clock = CLOCK) -> None:
        self._stage = stage
        _HANDLES.append(self)
        self.gate = stage.node.do(
            lambda: KernelGate(
                interface="wire0",
                vip=VIP,
                prefix=24,
                own_address=OWN,
                cluster_addresses=[OWN, PEER],
                ports=[24, SERVICE],
                clock=clock,
            )
        )

    def install(self) -> Result:
        """As the port."""
        return self._stage.node.do(self.gate.install)

    def close(self) -> Result:
        """As the port."""
        return self._stage.node.do(self.gate.close)

    def verify(self) -> Result:
        """As the port."""
        return self._stage.node.do(self.gate.verify)

    def open(self, rest_ms: int, *, announce: bool = False) -> Result:
        """As the port, the bound told from now."""
        return self._stage.node.do(lambda: self.gate.open(until_ms=CLOCK.now_ms() + rest_ms, announce=announce))


def ok(result: Result) -> None:
    assert (result.outcome, result.code, result.reason) == (Outcome.SUCCEEDED, "", "")


def opened(stage: Stage, rest_ms: int = 60_000) -> Handle:
    handle = Handle(stage)
    ok(handle.install())
    ok(handle.open(rest_ms))
    return handle


def test_nothing_is_cut_off_before_the_first_word(stage: Stage) -> None:
    stage.node.run("ip", "address", "add", f"{VIP}/24", "dev", "wire0")
    stream = stage.stream(VIP)
    assert stream is not None
    handle = Handle(stage)
    ok(handle.install())
    assert flows(stream)
    assert stage.reaches(VIP)
    assert stage.reaches(OWN)
    ok(handle.close())
    assert silent(stream)
    ok(handle.install())  # for good: it stays closed
    assert stage.refuses(OWN)


def test_closed_drops_what_is_new_and_what_stands(stage: Stage) -> None:
    handle = opened(stage)
    to_vip, to_own = stage.stream(VIP), stage.stream(OWN)
    from_peer, not_gated = stage.stream(OWN, source=PEER), stage.stream(OWN, OTHER)
    assert to_vip is not None
    assert to_own is not None
    assert from_peer is not None
    assert not_gated is not None
    assert all(flows(stream) for stream in (to_vip, to_own, from_peer, not_gated))

    ok(handle.close())
    assert VIP not in stage.addresses()
    assert silent(to_vip)
    assert silent(to_own)
    assert stage.refuses(VIP)
    assert stage.refuses(OWN)
    assert flows(from_peer)
    assert stage.reaches(OWN, source=PEER)
    assert flows(not_gated)
    assert stage.stream(OWN, source=OWN, place=stage.node) is not None, "the node's own probes"

    ok(handle.open(60_000))
    assert flows(to_vip), "a connection that stood still goes on"
    assert flows(to_own)
    assert stage.reaches(VIP)


def test_the_vip_is_gated_for_cluster_nodes_and_for_the_node_itself(stage: Stage) -> None:
    handle = opened(stage)
    from_peer = stage.stream(VIP, source=PEER)
    local = stage.stream(VIP, source=OWN, place=stage.node)
    assert from_peer is not None
    assert local is not None
    ok(handle.close())
    stage.node.run("ip", "address", "add", f"{VIP}/24", "dev", "wire0")  # an administrator's hand
    assert silent(from_peer)
    assert silent(local)
    assert stage.stream(VIP, source=OWN, place=stage.node, seconds=SILENCE_S) is None
    assert stage.refuses(VIP, OTHER, source=PEER)


def test_a_closed_node_reaches_the_vip_elsewhere(stage: Stage) -> None:
    handle = Handle(stage)
    ok(handle.install())
    ok(handle.close())
    stage.outside.run("ip", "address", "add", f"{VIP}/32", "dev", "wire1")
    server = Echo(stage.outside, SERVICE)
    try:
        stream = stage.stream(VIP, source=OWN, place=stage.node)
        assert stream is not None
        assert flows(stream)
    finally:
        server.close()


OPENER = textwrap.dedent(
    f"""
    import sys
    from failoverd.actions.gate import KernelGate
    from failoverd.runtime.clock import BootClock
    gate = KernelGate(interface="wire0", vip="{VIP}", prefix=24, own_address="{OWN}",
                      cluster_addresses=["{OWN}", "{PEER}"], ports=[{SERVICE}], clock=BootClock())
    assert not gate.install().code
    until_ms = BootClock().now_ms() + 2500
    result = gate.open(until_ms=until_ms, announce=False)
    assert not result.code, result
    print(until_ms, flush=True)
    sys.stdin.read()
    """
)


def test_it_ends_by_itself_while_every_process_of_failoverd_is_stopped(stage: Stage) -> None:
    with stage.node.do(
        lambda: subprocess.Popen(
            [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    ) as process:
        try:
            assert process.stdout is not None
            until_ms = int(process.stdout.readline())
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            to_vip, to_own = stage.stream(VIP), stage.stream(OWN)
            assert to_vip is not None
            assert to_own is not None
            last_ms = 0
            while flows(to_vip, 0.1):
                last_ms = CLOCK.now_ms()
            assert last_ms <= until_ms
            print(f"closed by itself {until_ms - last_ms} ms before the deadline")
            assert last_ms > until_ms - 1300, "no earlier than the whole second of the absolute bound"
            while CLOCK.now_ms() < until_ms:
                assert not flows(to_vip, 0.1) or CLOCK.now_ms() < until_ms
            assert silent(to_vip)
            assert silent(to_own)
            while VIP in stage.addresses():
                assert CLOCK.now_ms() < until_ms + SECOND_MS
        finally:
            process.kill()


class StillClock:
    """A clock of one moment: nobody notices that time went on."""

    def __init__(self) -> None:
        self._now_ms = CLOCK.now_ms()

    def now_ms(self) -> int:
        """Always the same."""
        return self._now_ms


class LateNft:
    """The process is frozen right before the kernel call that opens."""

    def __init__(self, nft: Nft, wake_ms: int) -> None:
        self._nft = nft
        self._wake_ms = wake_ms

    def run(self, script: str) -> str:
        """Wait before what opens."""
        while "failoverd lease { ipv4" in script and CLOCK.now_ms() < self._wake_ms:
            time.sleep(0.01)
        return self._nft.run(script)


@pytest.mark.parametrize("noticed", [False, True])
def test_a_timeout_set_late_opens_nothing(stage: Stage, *, noticed: bool) -> None:
    handle = Handle(stage, CLOCK if noticed else StillClock())
    ok(handle.install())
    ok(handle.close())
    until_ms = CLOCK.now_ms() + SECOND_MS
    handle.gate._nft = LateNft(handle.gate._nft, until_ms + 50)  # type: ignore[assignment]
    result = stage.node.do(lambda: handle.gate.open(until_ms=until_ms, announce=False))
    if noticed:
        assert (result.outcome, result.code) == (Outcome.FAILED, "GATE_LATE")
        assert VIP not in stage.addresses()
        assert "ipv4" not in stage.node.run("nft", "list", "table", "inet", "failoverd").split("chain")[0]
    else:
        ok(result)
        assert "ipv4" in stage.node.run("nft", "list", "table", "inet", "failoverd").split("chain")[0]
    assert stage.refuses(VIP)
    assert stage.refuses(OWN)


class OvertakenNft:
    """The kernel holds the opening call up, and another thread closes before it goes on."""

    def __init__(self, nft: Nft, close: Callable[[], object]) -> None:
        self._nft = nft
        self._close = close
        self.refused = False

    def run(self, script: str) -> str:
        """Close first, then do what was asked."""
        if "failoverd lease { ipv4" in script:
            self._close()
        try:
            return self._nft.run(script)
        except NftError:
            self.refused = True
            raise


def test_a_gate_closed_while_it_is_opened_stays_closed(stage: Stage) -> None:
    handle = Handle(stage, CLOCK)
    ok(handle.install())
    overtaken = OvertakenNft(handle.gate._nft, handle.gate.close)
    handle.gate._nft = overtaken  # type: ignore[assignment]
    result = handle.open(10 * SECOND_MS)
    assert overtaken.refused, "by the kernel: between opening and the second closing a client would have got through"
    assert (result.outcome, result.code) == (Outcome.FAILED, "GATE_LATE")
    assert VIP not in stage.addresses()
    assert stage.refuses(VIP)
    assert stage.refuses(OWN)


def test_a_deadline_that_has_passed_closes(stage: Stage) -> None:
    handle = opened(stage)
    result = handle.open(-1)
    assert (result.outcome, result.code) == (Outcome.FAILED, "GATE_LATE")
    assert result.code in CODES
    assert stage.refuses(OWN)


def test_a_restart_of_failoverd_is_not_felt(stage: Stage) -> None:
    opened(stage)
    stream = stage.stream(VIP)
    assert stream is not None
    again = Handle(stage)
    for _ in range(50):
        ok(again.install())
        assert flows(stream)
    ok(again.open(60_000))
    assert flows(stream)
    assert sent_again(stream) == 0


def test_a_permanent_address_gets_a_lifetime_without_an_absence(stage: Stage) -> None:
    stage.node.run("ip", "address", "add", f"{VIP}/24", "dev", "wire0")
    assert "dynamic" not in stage.addresses()
    monitor = stage.node.do(
        lambda: subprocess.Popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE, text=True)
    )
    try:
        opened(stage, 5500)
        assert monitor.stdout is not None
        seen = monitor.stdout.readline()
        assert "Deleted" not in seen
        assert VIP in seen
    finally:
        monitor.kill()
        monitor.communicate()
    line = next(line for line in stage.addresses().splitlines() if VIP in line)
    assert "dynamic" in line
    lifetime = stage.addresses().split(VIP)[1].split("valid_lft ")[1].split("sec")[0]
    assert int(lifetime) <= 5


def test_an_address_of_another_prefix_goes_as_well(stage: Stage) -> None:
    stage.node.run("ip", "address", "add", f"{VIP}/32", "dev", "wire0")
    handle = opened(stage)
    ok(handle.close())
    assert VIP not in stage.addresses()
    ok(handle.close())
    assert OWN in stage.addresses()


@contextlib.contextmanager
def arp_socket(stage: Stage) -> Iterator[socket.socket]:
    """Hears and speaks ARP outside."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp.ETHERTYPE))
        made.bind(("wire1", arp.ETHERTYPE))
        return made

    with contextlib.closing(stage.outside.do(make)) as made:
        yield made


def arp_frames(wire: socket.socket, seconds: float = 0.3, *, enough: int = 0) -> list[tuple[int, str]]:
    """(operation, sender's address) of all frames that come within `seconds`, or until `enough` are VIP's."""
    found: list[tuple[int, str]] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (enough and sum(sender == VIP for _, sender in found) >= enough):
        wire.settimeout(left)
        with contextlib.suppress(TimeoutError):
            frame = wire.recv(128)
            found.append((struct.unpack("!H", frame[20:22])[0], socket.inet_ntoa(frame[28:32])))
    return found


def test_a_closed_node_is_silent_in_arp(stage: Stage) -> None:
    handle = opened(stage)
    link = stage.outside.run("ip", "link", "show", "dev", "wire1").split()
    hardware = bytes.fromhex(link[link.index("link/ether") + 1].replace(":", ""))
    question = b"\xff" * 6 + hardware + struct.pack("!HHHBBH", arp.ETHERTYPE, 1, 0x0800, 6, 4, 1) + hardware
    question += socket.inet_aton(CLIENT) + b"\0" * 6 + socket.inet_aton(VIP)
    with arp_socket(stage) as wire:
        wire.send(question)
        assert (2, VIP) in arp_frames(wire)
        ok(handle.close())
        stage.node.run("ip", "address", "add", f"{VIP}/24", "dev", "wire0")
        arp_frames(wire)
        wire.send(question)
        assert VIP not in {sender for _, sender in arp_frames(wire)}


def test_the_new_place_is_announced_on_the_wire(stage: Stage) -> None:
    handle = Handle(stage)
    ok(handle.install())
    with arp_socket(stage) as wire:
        ok(handle.open(60_000, announce=True))
        heard = [operation for operation, sender in arp_frames(wire, 5.0, enough=6) if sender == VIP]
        assert heard.count(1) >= 3
        assert heard.count(2) >= 3
        ok(handle.open(60_000))
        assert VIP not in {sender for _, sender in arp_frames(wire)}


@pytest.mark.parametrize("hand", ["flush ruleset", "flush table inet failoverd", "delete table arp failoverd"])
def test_an_administrators_hand_is_put_right_by_the_next_call(stage: Stage, hand: str) -> None:
    handle = opened(stage)
    stage.node.run("nft", hand)
    ok(handle.open(60_000))
    assert stage.reaches(VIP)
    stage.node.run("nft", hand)
    ok(handle.close())
    assert stage.refuses(OWN)
    assert "drop" in stage.node.run("nft", "list", "table", "arp", "failoverd")


@pytest.mark.parametrize(
    "hand",
    [
        "flush ruleset",
        "delete table inet failoverd",
        "delete table arp failoverd",
        "flush chain inet failoverd gate",
        "insert rule inet failoverd input accept",
    ],
)
def test_a_closed_gate_that_somebody_opens_is_closed_again_and_told(stage: Stage, hand: str) -> None:
    gate = Handle(stage)
    ok(gate.close())
    ok(gate.verify())
    stage.node.run("nft", *hand.split())
    found = gate.verify()
    assert (found.outcome, found.code) == (Outcome.FAILED, "GATE_CHANGED")
    assert hand.split()[2] in found.reason if "table" in hand else found.reason
    ok(gate.verify())
    assert stage.refuses(OWN)
    assert stage.reaches(OWN, OTHER)


def test_an_open_gate_needs_no_look(stage: Stage) -> None:
    gate = Handle(stage)
    ok(gate.verify())  # nobody has said yet what it should be
    ok(gate.open(20 * SECOND_MS))
    ok(gate.verify())
    assert stage.reaches(VIP)


def test_services_are_gated_on_ipv6_as_well(stage: Stage) -> None:
    node, client = "fd00:6:6::11", "fd00:6:6::200"
    stage.node.run("ip", "address", "add", f"{node}/64", "dev", "wire0", "nodad")
    stage.outside.run("ip", "address", "add", f"{client}/64", "dev", "wire1", "nodad")

    def reaches(port: int) -> bool:
        def connect() -> bool:
            with socket.socket(socket.AF_INET6) as made:
                made.settimeout(0.5)
                try:
                    made.connect((node, port))
                except OSError:
                    return False
                return True

        return stage.outside.do(connect)

    def listen(port: int) -> socket.socket:
        return stage.node.do(lambda: socket.create_server((node, port), family=socket.AF_INET6))

    with listen(SERVICE), listen(OTHER):
        gate = Handle(stage)
        ok(gate.install())
        assert any(reaches(SERVICE) for _ in range(10)), "the neighbours have not found each other"
        ok(gate.close())
        assert not reaches(SERVICE)
        assert reaches(OTHER)
        ok(gate.open(20 * SECOND_MS))
        assert reaches(SERVICE)


def test_a_missing_interface_is_named(stage: Stage) -> None:
    handle = opened(stage)
    stage.node.run("ip", "link", "set", "wire0", "name", "gone0")
    result = handle.open(60_000)
    assert (result.outcome, result.code) == (Outcome.FAILED, "VIP_NO_INTERFACE")
    ok(handle.close())


def test_what_a_renewal_costs(stage: Stage) -> None:
    handle = opened(stage)

    def costs() -> str:
        times = []
        for _ in range(200):
            started = time.perf_counter()
            ok(handle.open(60_000))
            times.append((time.perf_counter() - started) * 1000)
        return f"median {statistics.median(times):.2f} ms, max {max(times):.2f} ms"

    print("a renewal:", costs())
    many = ", ".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(50_000))
    stage.node.run("nft", "add table inet banned; add set inet banned s { type ipv4_addr; }")
    stage.node.do(
        lambda: subprocess.run(
            ["nft", "-f", "-"], input=f"add element inet banned s {{ {many} }}", check=True, text=True
        )
    )
    print("beside a set of 50,000 in another table:", costs())
