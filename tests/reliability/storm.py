"""Containers come and go at random on several hosts, and at random the plugin, its helper and Open vSwitch are killed.

The hosts' daemons are started again at once, as their service manager would. A container whose call was killed or
has failed half-way is attached again, detached, or given up with its namespace, as Podman and its user may do.
"""

import json
import random
import subprocess
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

from tests.e2e.conftest import SOCKET_VARIABLE, helper
from tests.e2e.fabric import plugin_error
from tests.e2e.faults import BOUND
from tests.e2e.guests import Guest
from tests.lab import Host

SOCKET, COLD = "/run/storm.sock", "/nonexistent"
FRAMES = "/run/frames.py"
KILLED = 0.15  # of the calls
LONGEST = {SOCKET: 0.1, COLD: 0.6}  # seconds until it is killed; most calls take no longer
REST = 6.0  # seconds at most between two calls for a container
CALM = 6.0  # seconds at most between two kills of a daemon
HELPER_KILLED = "the helper ended in the middle"
EXCUSES = (HELPER_KILLED, "is Open vSwitch running?", "is already in use")  # the last by a call that goes on unheard
HALF_DONE = ("could not undo", HELPER_KILLED)  # what says that something may be left


class Frames:
    """The program on one host that sends and judges frames."""

    def __init__(self, host: Host, addresses: dict[str, list[str]]) -> None:
        pipe = subprocess.PIPE
        host.write(FRAMES, Path(__file__).with_name("frames.py").read_text(encoding="utf-8"))
        self._process = host.popen("python3", FRAMES, json.dumps(addresses), stdin=pipe, stdout=pipe)
        self._lock = Lock()

    def tell(self, *words: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(" ".join(words) + "\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == "done\n", f"the frames' program has ended: {words}"

    def end(self) -> dict[str, Any]:
        """What it has counted."""
        with self._process:
            said, _ = self._process.communicate(timeout=BOUND)
        return dict(json.loads(said))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Life:
    """One container after another under one name; each call for it may be killed."""

    guest: Guest
    free: deque[tuple[str, ...]]  # the addresses of its network that nobody has on its host
    frames: Frames
    chance: random.Random
    state: str = "away"  # or attached, or doubtful: a call was killed or has failed half-way
    counts: Counter[str] = field(default_factory=Counter)

    def go_on(self) -> None:
        """Whatever may come next."""
        if self.state == "doubtful":
            self.chance.choice((self.set_up, self.tear_down, self.give_up))()
        elif self.state == "attached":
            self.tear_down()
        else:
            self.set_up()

    def set_up(self) -> None:
        if self.state == "away":
            self.guest = replace(self.guest, addresses=self.free.popleft())
        done = self._call("setup")
        if done is None or any(words in done.stdout + done.stderr for words in HALF_DONE):
            self.state = "doubtful"
        elif done.returncode == 0:
            self.state = "attached"
            self.frames.tell("up", self.guest.name, self.guest.addresses[0])
        elif self.state == "away":
            self._leave()

    def tear_down(self) -> None:
        self.frames.tell("down", self.guest.name)
        done = self._call("teardown")
        if done is not None and done.returncode == 0:
            self._leave()
        else:
            self.state = "doubtful"

    def give_up(self) -> None:
        """Its namespace goes, and nobody asks for this container again: what is left of it is gc's."""
        self.counts["given up"] += 1
        self.frames.tell("del", self.guest.name)
        self.guest.host.run("ip", "netns", "del", self.guest.name)
        self.guest.host.run("ip", "netns", "add", self.guest.name)
        self.frames.tell("add", self.guest.name, str(self.guest.network["name"]))
        self._leave()

    def settle(self) -> None:
        """It is attached, whatever was before."""
        if self.state == "away":
            self.guest = replace(self.guest, addresses=self.free.popleft())
        if self.state != "attached":
            self.guest.must("setup")
            self.state = "attached"

    def _leave(self) -> None:
        self.state = "away"
        self.free.append(self.guest.addresses)
        self.guest = replace(self.guest, life=self.guest.life + 1)

    def _call(self, verb: str) -> subprocess.CompletedProcess[str] | None:
        """What became of it; None when it was killed."""
        pipe, longest = subprocess.PIPE, LONGEST[self.guest.env[SOCKET_VARIABLE]]
        is_killed = self.chance.random() < KILLED
        command = self.guest.command(verb)
        with self.guest.host.popen(*command, env=self.guest.env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                patience = self.chance.uniform(0, longest) if is_killed else 2 * BOUND
                stdout, stderr = process.communicate(self.guest.request(), patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate(timeout=BOUND)
                assert is_killed, f"{verb} of {self.guest.name} takes over {2 * BOUND:g} s"
                self.counts[f"{verb} killed"] += 1
                return None
        done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
        self._judge(verb, done)
        return done

    def _judge(self, verb: str, done: subprocess.CompletedProcess[str]) -> None:
        self.counts[f"{verb} {'refused' if done.returncode else 'done'}"] += 1
        assert "Traceback" not in done.stderr, done
        if done.returncode:
            assert any(words in plugin_error(done) for words in EXCUSES), done


class Daemons:
    """What runs on the hosts besides, and is killed and started again."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = hosts
        self.kills: Counter[str] = Counter()
        self._helpers = {host.name: ExitStack() for host in hosts}
        self._pids: dict[str, int] = {}

    def start(self) -> None:
        for host in self.hosts:
            self._start_helper(host)

    def stop(self) -> None:
        for stack in self._helpers.values():
            stack.close()

    def strike(self, chance: random.Random) -> None:
        """Kill one of one host."""
        kinds: dict[str, Callable[[Host], None]] = {
            "helper": self._kill_helper,
            "ovs-vswitchd": _kill_vswitchd,
            "ovsdb-server": _kill_ovsdb,
        }
        kind = chance.choice(sorted(kinds))
        kinds[kind](chance.choice(self.hosts))
        self.kills[kind] += 1

    def _start_helper(self, host: Host) -> None:
        self._pids[host.name] = self._helpers[host.name].enter_context(helper(host, SOCKET)).pid

    def _kill_helper(self, host: Host) -> None:
        host.run("kill", "-KILL", str(self._pids[host.name]))
        self._helpers[host.name].close()
        self._start_helper(host)


def _kill_vswitchd(host: Host) -> None:
    host.stop_vswitchd(crash=True)
    host.start_vswitchd()


def _kill_ovsdb(host: Host) -> None:
    host.stop_ovsdb(crash=True)
    host.start_ovsdb()


def wait_in_step(host: Host) -> None:
    """Until ovs-vswitchd has seen the database as it is now."""
    row = ("Open_vSwitch", ".")
    for change in (("set", *row, "external_ids:storm=over"), ("remove", *row, "external_ids", "storm")):
        host.run("ovs-vsctl", "--timeout=30", *change)


def rage(lives: Sequence[Life], daemons: Daemons, seconds: float, chance: random.Random) -> None:
    """Let it all happen for so long; whatever goes wrong in one thread ends the others too."""
    over = Event()

    def live(life: Life) -> None:
        with _ending(over):
            while not over.wait(life.chance.uniform(0, REST)):
                life.go_on()

    def strike() -> None:
        with _ending(over):
            while not over.wait(chance.uniform(0, CALM)):
                daemons.strike(chance)

    with ThreadPoolExecutor(len(lives) + 1) as pool:
        running = [pool.submit(live, life) for life in lives]
        running.append(pool.submit(strike))
        over.wait(seconds)
        over.set()
    for each in running:
        each.result()


@contextmanager
def _ending(over: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        over.set()
        raise
