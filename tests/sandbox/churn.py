"""One of several processes that attach and detach a container of their own, over and over."""

import subprocess
import sys

from .conftest import attach, detach, make_plan, ports

ROUNDS = 15


def main(number: int) -> None:
    for round_ in range(ROUNDS):
        plan = make_plan(number)
        attach(plan)
        try:
            found = ports()
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"round {round_}: the bridge is gone under {plan.veth.name}: {error.stderr}") from error
        if plan.veth.name not in found or not {"gv7-2", "gv7-3"} <= set(found):
            raise SystemExit(f"round {round_}: {plan.veth.name} or a tunnel is missing among {found}")
        detach(plan)


if __name__ == "__main__":
    main(int(sys.argv[1]))
