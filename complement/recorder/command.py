"""The command line."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from . import page
from .reference import Reasons, absent_tests, read_peers
from .results import FAIL, PASS, SKIP, read_recorded, read_run, regressions, written
from .tested import Refused, about, output_of


class Files:
    """Where things are kept."""

    def __init__(self, root):
        root = Path(root)
        self.peers = root / "complement" / "peers.tsv"
        self.reasons = root / "complement" / "reasons.toml"
        self.results = root / "complement" / "results.jsonl"
        self.page = root / "docs" / "conformance.md"

    def known(self):
        return read_peers(self.peers.read_text().splitlines())

    def why(self):
        return Reasons(self.reasons.read_text())

    def recorded(self):
        return read_recorded(self.results.read_text().splitlines())

    def rendered(self, results):
        return page.render(results, self.known(), self.why())


@dataclass
class Streams:
    """Where input comes from, and where words go."""

    given: object
    out: object
    err: object


FILES = Files(Path(__file__).resolve().parent.parent.parent)


def main(arguments=None, streams=None, files=FILES, output=output_of):
    """Returns the exit code: 0, 1 when something is worse than recorded, 2 when there is nothing to go by."""
    streams = streams or Streams(sys.stdin, sys.stdout, sys.stderr)
    options = _options().parse_args(arguments)
    try:
        if options.render:
            files.page.write_text(files.rendered(files.recorded()))
            return 0
        if options.check:
            return _check(_read(streams), streams, files)
        # Asked first: what cannot be recorded need not run to its end.
        what = about(options.image, options.complement, output)
        return _record(_read(streams), what, options, streams, files)
    except Refused as refused:
        print(refused, file=streams.err)
        return 2


def _options():
    parser = argparse.ArgumentParser(
        prog="record", description="Reads `go test -json` of Complement and records the results."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is worse than recorded")
    parser.add_argument("--render", action="store_true", help="only write docs/conformance.md anew, reading no input")
    parser.add_argument("--image", default="hearth-complement", help="the image that was tested (%(default)s)")
    parser.add_argument("--complement", default=".", help="the checkout of Complement (the current folder)")
    parser.add_argument(
        "--allow-missing", action="store_true", help="record although tests of peers.tsv are missing: Complement dropped them"
    )
    return parser


def _read(streams):
    """The results on the input, counted on the output."""
    results, noise = read_run(streams.given)
    for line in noise:
        print(line, file=streams.err)
    if not results.actions:
        raise Refused("There are no results on the standard input.")
    for package in sorted({test.package for test in results.actions}):
        _say(package, results, [test for test in results.tops() if test.package == package], streams)
    _say("all", results, results.tops(), streams)
    return results


def _check(results, streams, files):
    worse = list(regressions(files.recorded(), results))
    print("\n".join(worse) if worse else "Nothing is worse than recorded.", file=streams.out)
    return 1 if worse else 0


def _record(results, what, options, streams, files):
    missing = absent_tests(files.known(), results)
    if missing and not options.allow_missing:
        names = ", ".join(str(test) for test in missing)
        raise Refused(f"This is not the whole suite, so nothing is recorded (--allow-missing if it is): no {names}.")
    results.about = what | results.about
    files.results.write_text("".join(written(results)))
    files.page.write_text(files.rendered(results))
    for name in files.why().idle(results):
        print(f"reasons.toml: {name} is no reason any more", file=streams.err)
    return 0


def _say(what, results, tests, streams):
    counts = (f"{results.count(action, tests)} {action}" for action in (PASS, FAIL, SKIP))
    print(f"{what}: {len(tests)} tests, {', '.join(counts)}", file=streams.out)
