"""What becomes of a setup in which something fails: all is well all the same, or undone, and a sentence says why."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.common import table
from tests.e2e.fabric import plugin_error
from tests.unit.makers import check_style

from .victim import Killed, Victim, anonymous

PREFIX = "attach c1 to network net1: "
# What could not be done, or who did not do it.
STEPS = (
    *("cannot ", "aardvark-dns did not start: ", "Open vSwitch did not take the change"),
    *("ovsdb-server does not answer", "ovsdb-server refused the change: ", "the helper ended in the middle of"),
)


@dataclass
class Seen:
    """What became of the failures."""

    failures: int = 0
    harmless: int = 0
    sentences: Counter[str] = field(default_factory=Counter)

    def look_at(self, victim: Victim, done: Killed, why: str) -> None:
        """Count it; the test fails unless nothing is left, and the next setup works."""
        assert all(line.startswith("[WARNING geneve-ovs] ") for line in done.stderr.splitlines()), f"{why}: {done}"
        self.failures += 1
        if done.status:
            self._look_at_error(victim, done, why)
            victim.must("setup", why)
        else:
            self.harmless += 1
            assert "interfaces" in json.loads(done.stdout), f"{why}: {done}"
        assert victim.answers(), f"{why}: {done}"
        victim.must("teardown", why)

    def _look_at_error(self, victim: Victim, done: Killed, why: str) -> None:
        sentence = plugin_error(done.result)
        check_style(sentence)
        said = sentence.removeprefix(PREFIX)
        assert said.startswith(STEPS), f"{why}: {done}"
        self.sentences[anonymous(said)] += 1
        victim.assert_clean(f"{why}: {done}")


def lines(what: Sequence[str], shards: Sequence[Seen], seconds: float) -> list[str]:
    """A section of the report."""
    sentences = sum((each.sentences for each in shards), Counter[str]())
    head = ("failures", "setup worked all the same", "setup failed", "left behind", "next setup failed")
    failures, harmless = (sum(getattr(each, name) for each in shards) for name in ("failures", "harmless"))
    row = (str(failures), str(harmless), str(failures - harmless), "0", "0")
    said = [(str(sentences[text]), f"`{text}`") for text in sorted(sentences)]
    end = f"Its sentences, after `{PREFIX}`; {seconds:.0f} s:"
    return [*what, "", *table(head, row), "", end, "", *table(("times", "sentence"), *said)]
