"""The command line."""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from . import page
from .reference import Reasons, absent_packages, read_peers
from .results import FAIL, PASS, SKIP, read_recorded, read_run, regressions, written

HERE = Path(__file__).resolve().parent.parent
RESULTS = HERE / "results.jsonl"
PAGE = HERE.parent / "docs" / "conformance.md"
REVISION = "org.opencontainers.image.revision"


def main(arguments=None):
    options = _options().parse_args(arguments)
    known = read_peers((HERE / "peers.tsv").read_text().splitlines())
    reasons = Reasons((HERE / "reasons.toml").read_text())
    if options.render:
        results = read_recorded(RESULTS.read_text().splitlines())
        PAGE.write_text(page.render(results, known, reasons))
        return 0

    results, noise = read_run(sys.stdin)
    for line in noise:
        print(line, file=sys.stderr)
    if not results.actions:
        print("There are no results on the standard input.", file=sys.stderr)
        return 2
    for package in sorted({test.package for test in results.actions}):
        _say(package, results, [test for test in results.tops() if test.package == package])
    _say("all", results, results.tops())
    if options.check:
        before = read_recorded(RESULTS.read_text().splitlines())
        worse = list(regressions(before, results))
        print("\n".join(worse) if worse else "Nothing is worse than recorded.")
        return 1 if worse else 0
    missing = absent_packages(known, results)
    if missing:
        print(f"This is not the whole suite, so nothing is recorded: no {', '.join(missing)}.", file=sys.stderr)
        return 2
    results.about = _about(options)
    RESULTS.write_text("".join(written(results)))
    PAGE.write_text(page.render(results, known, reasons))
    for name in reasons.idle(results):
        print(f"reasons.toml: {name} is no reason any more", file=sys.stderr)
    return 0


def _options():
    parser = argparse.ArgumentParser(
        prog="record", description="Reads `go test -json` of Complement and records the results."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is worse than recorded")
    parser.add_argument("--render", action="store_true", help="only write docs/conformance.md anew, reading no input")
    parser.add_argument("--image", default="hearth-complement", help="the image that was tested (%(default)s)")
    parser.add_argument("--complement", default=".", help="the checkout of Complement (the current folder)")
    return parser


def _about(options):
    """What was tested, by what: the image says of which commit it was built."""
    image = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", options.image]
    settings = tomllib.loads((HERE / "hearth.toml").read_text())
    return {
        "commit": (json.loads(_output(image)) or {}).get(REVISION, "unknown"),
        "room_version": settings["rooms"]["default_version"],
        "complement": _output(["git", "-C", options.complement, "rev-parse", "HEAD"]),
    }


def _output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _say(what, results, tests):
    counts = (f"{results.count(action, tests)} {action}" for action in (PASS, FAIL, SKIP))
    print(f"{what}: {len(tests)} tests, {', '.join(counts)}")
