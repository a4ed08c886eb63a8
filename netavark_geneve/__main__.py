# SPDX-License-Identifier: Apache-2.0
"""The plugin's process: the only place that touches argv, standard streams, signals and the exit status."""

import os
import signal
import sys

from . import log
from .errors import GeneveError
from .frontends.netavark import Reply, failure, handle


def main(request: bytes | None = None) -> int:
    """Entry point `geneve-ovs`. stdout carries one reply of the protocol and nothing else.

    `request` is standard input when the thin client has read it already.
    """
    log.install(os.environ)
    arguments = sys.argv[1:]
    try:
        _heed_sigterm()
        # Read to the end even what is not needed: netavark fails with "Broken pipe" otherwise.
        if request is None:
            request = sys.stdin.buffer.read() if arguments and arguments[0] != "info" else b""
        reply = handle(arguments, request, os.environ)
    except GeneveError as error:
        reply = failure(error)
    except KeyboardInterrupt:
        reply = failure("interrupted; everything done so far was undone")
    except Exception as error:  # noqa: BLE001 - the edge: netavark must get JSON, whatever happened
        log.logger.debug("unexpected failure", exc_info=True)
        kind = type(error).__name__
        reply = failure(f"unexpected {kind}: {error}; this is a bug in geneve-ovs, RUST_LOG=debug shows where")
    try:
        sys.stdout.buffer.write(reply.output)
        sys.stdout.buffer.flush()
    except OSError as error:
        _nobody_listens(reply, arguments, request or b"", error)
        return 1
    return reply.status


def _nobody_listens(reply: Reply, arguments: list[str], request: bytes, error: OSError) -> None:
    """Nobody knows that the container is attached: as if the setup had been killed, but that we can undo it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
    log.logger.warning("cannot answer, is netavark gone? %s", error.strerror)
    if arguments[:1] == ["setup"] and reply.status == 0:
        try:
            handle(["teardown", *arguments[1:]], request, os.environ)
        except GeneveError as failed:
            log.logger.warning("could not undo: %s; the next attach or detach of this container will", failed)


def _heed_sigterm() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # So that a setup that is asked to stop undoes what it did. netavark ignores the signal during
        # teardown, and so do we, by inheritance.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
