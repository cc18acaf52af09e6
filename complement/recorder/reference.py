"""What is known about tests beforehand: their area, how peers do, why they do not pass here."""

import csv
import tomllib
from dataclasses import dataclass

from .results import Test

PEERS = ("Synapse", "Tuwunel", "Palpo")


@dataclass(frozen=True)
class Known:
    """The area of a test, and the actions that peers publish, `-` where they publish none."""

    area: str
    peers: dict


def read_peers(lines):
    """Reads `peers.tsv`: test -> Known, in the order of the file."""
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    return {
        Test(*row["test"].split(".", 1)): Known(row["area"], {peer: row[peer] for peer in PEERS})
        for row in rows
    }


def absent_packages(known, results):
    """The packages of the suite of which there are no results."""
    return sorted({test.package for test in known} - {test.package for test in results.actions})


class Reasons:
    """Why tests do not pass; the longest name that a test begins with counts."""

    def __init__(self, text):
        groups = tomllib.loads(text).get("reason", [])
        self._why = {name: group["why"] for group in groups for name in group["tests"]}

    def find(self, test):
        full = str(test)
        fitting = [
            name for name in self._why if full == name or full.startswith((name + "/", name + "."))
        ]
        return self._why[max(fitting, key=len)] if fitting else None

    def idle(self, results):
        """Names that no failing or skipped test bears: the reason has gone away."""
        for name in sorted(self._why):
            bad = (test for test, action in results.actions.items() if action != "pass")
            if not any(str(test) == name or str(test).startswith((name + "/", name + ".")) for test in bad):
                yield name
