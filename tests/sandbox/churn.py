"""One of several processes that attach and detach a container of their own, over and over."""

import sys

from netavark_geneve.errors import GeneveError

from .conftest import attach, detach, make_plan, ports

ROUNDS = 30


def main(number: int) -> str | None:
    """What went wrong, in a line."""
    for round_ in range(ROUNDS):
        plan = make_plan(number)
        try:
            attach(plan)
            missing = {plan.veth.name, "gv7-2", "gv7-3"} - set(ports())
            if missing:
                return f"round {round_}: {missing} are missing"
            detach(plan)
        except GeneveError as error:
            return f"round {round_}: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
