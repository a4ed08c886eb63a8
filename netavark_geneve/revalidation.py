# SPDX-License-Identifier: Apache-2.0
"""When the flows that ovs-vswitchd has cached follow its configuration: a while after cur_cfg says that it does.

Until then what is for a MAC that comes back still goes where it was before.
"""

import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .log import logger
from .ovsdb import DAEMON, RUNDIR, RUNDIR_VARIABLE

REQUEST = {"id": 0, "method": "revalidator/wait", "params": []}  # answered when a round through all flows ends
WAIT_MAX = 0.5  # seconds; with nothing to do there is a round in each (max-revalidator, ovs-vswitchd.conf.db(5))
NUDGE_AFTER = 0.002  # seconds; the next time twice as long
WAIT_BLIND = 0.02  # seconds instead where it cannot say; with 200 containers it took 16 ms


class Rounds:
    """Those that ovs-vswitchd makes through its flows, by its control socket (ovs-appctl(8)).

    Nobody waits where it cannot be asked: an attach does not depend on it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = Path(environ.get(RUNDIR_VARIABLE, RUNDIR))
        self._asked: socket.socket | None = None

    def ask(self) -> None:
        """Begin to wait for the end of the round that is under way, or else of the next one."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.settimeout(WAIT_MAX)
        try:
            pid = (self._directory / f"{DAEMON}.pid").read_text(encoding="utf-8").strip()
            control.connect(str(self._directory / f"{DAEMON}.{pid}.ctl"))
            control.send(json.dumps(REQUEST).encode())
        except (OSError, ValueError) as error:  # the latter when no number is in the file
            logger.debug("cannot ask %s for its flows: %s", DAEMON, error)
            control.close()
        else:
            self._asked = control

    def wait(self, nudge: Callable[[], None]) -> None:
        """Until the round has ended that was asked for; at once when none was.

        It may have ended before the request was read, so every now and then `nudge` has to give cause for another.
        """
        if self._asked is None:
            return
        end, pause, answer = time.monotonic() + WAIT_MAX, NUDGE_AFTER, b""
        try:
            while not answer and (left := end - time.monotonic()) > 0:
                self._asked.settimeout(min(pause, left))
                try:
                    answer = self._asked.recv(4096) or b"closed"
                except TimeoutError:
                    pause *= 2
                    nudge()
        except OSError:
            answer = b""
        finally:
            self.close()
        if not answer:
            logger.debug("%s does not say when its flows are up to date", DAEMON)
        elif b'"error":null' not in answer:  # there are two datapaths: it waits for one only
            time.sleep(WAIT_BLIND)

    def close(self) -> None:
        if self._asked is not None:
            self._asked.close()
            self._asked = None
