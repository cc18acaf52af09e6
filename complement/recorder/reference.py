"""What is known about tests beforehand: their area, how peers do, why they do not pass here."""

import csv
import tomllib
from dataclasses import dataclass

from .results import PASS, Test

PEERS = ("Synapse", "Tuwunel", "Palpo")


@dataclass(frozen=True)
class Known:
    """The area of a test, and how it ended with peers, `-` where that is not known."""

    area: str
    peers: dict


def read_peers(lines):
    """Reads `peers.tsv`: test -> Known, in the order of the file."""
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    return {
        Test(*row["test"].split(".", 1)): Known(row["area"], {peer: row[peer] for peer in PEERS})
        for row in rows
    }


def absent_tests(known, results):
    """The tests of the suite of which there are no results."""
    return sorted(test for test in known if test not in results.actions)


class Reasons:
    """Why tests do not pass; the longest name that a test begins with counts."""

    def __init__(self, text):
        groups = tomllib.loads(text).get("reason", [])
        self._why = {name: group["why"] for group in groups for name in group["tests"]}

    def find(self, test):
        name = self._name(test)
        return self._why[name] if name else None

    def names(self, part):
        """Whether a reason is given for this part of a test, and not only for the whole."""
        name = self._name(part)
        return name is not None and name.startswith(f"{part.top}/")

    def _name(self, test):
        return max((name for name in self._why if _fits(name, test)), key=len, default=None)

    def idle(self, results):
        """Names that no failing or skipped test bears: the reason has gone away."""
        for name in sorted(self._why):
            bad = (test for test, action in results.actions.items() if action != PASS)
            if not any(_fits(name, test) for test in bad):
                yield name


def _fits(name, test):
    full = str(test)
    return full == name or full.startswith((name + "/", name + "."))
