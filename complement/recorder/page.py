"""`docs/conformance.md`: how Hearth does, for people."""

from .reference import PEERS
from .results import FAIL, PASS, SKIP

OTHER = "Others"


def render(results, known, reasons):
    """The page as text."""
    about = results.about
    tops = results.tops()
    subs = [test for test in results.actions if not test.is_top]
    lines = [
        "# Conformance",
        "",
        "How Hearth does in [Complement](https://github.com/matrix-org/complement), the conformance suite for Matrix homeservers.",
        "This page is written by `complement/record` from `complement/results.jsonl`;",
        "[complement/README.md](../complement/README.md) says how to run the suite.",
        "",
        f"Of {len(tops)} tests {results.count(PASS, tops)} pass, {results.count(FAIL, tops)} fail and "
        f"{results.count(SKIP, tops)} are skipped; of {len(subs)} subtests {results.count(PASS, subs)} pass, "
        f"{results.count(FAIL, subs)} fail and {results.count(SKIP, subs)} are skipped.",
        "",
        f"Tested was commit `{about.get('commit', '?')}` with room version {about.get('room_version', '?')}, "
        f"by Complement at `{about.get('complement', '?')}`.",
        *_duration(about),
        "",
        "## By area",
        "",
        *_areas(tops, results, known),
        "",
        "The numbers are tests that pass, subtests not counted. A peer that does not run a test has not passed it here.",
        "",
        "- Synapse 1.163 was run for this page, by the same suite with the same settings and with the build tag",
        "  `synapse_blacklist`, under which it skips 4 tests. Hearth is tested without a tag.",
        "- Those of Tuwunel (August 2026) and Palpo (April 2026) are what they publish, from other versions of the suite.",
        "",
        "## What does not pass",
        "",
        *_rest(tops, results, reasons),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _duration(about):
    """How long the run took, if that is known, beside a peer."""
    if "seconds" in about:
        minutes, seconds = divmod(about["seconds"], 60)
        yield f"The run took {minutes}:{seconds:02} minutes. Synapse's took about ten on two cores (nine to fourteen, with compiling)."


def _areas(tops, results, known):
    """The table, with areas in the order in which they are known."""
    areas = {}
    for test, what in known.items():
        if test in results.actions:
            areas.setdefault(what.area, []).append(test)
    others = [test for test in tops if test not in known]
    if others:
        areas[OTHER] = others
    yield f"| area | tests | Hearth | {' | '.join(PEERS)} |"
    yield "|---|---:|---:|" + "---:|" * len(PEERS)
    for area, tests in areas.items():
        yield _row(area, tests, results, known)
    yield _row("**All**", tops, results, known)


def _row(area, tests, results, known):
    peers = [
        str(sum(test in known and known[test].peers[peer] == PASS for test in tests)) for peer in PEERS
    ]
    return f"| {area} | {len(tests)} | {results.count(PASS, tests)} | {' | '.join(peers)} |"


def _rest(tops, results, reasons):
    """Each test that fails, is skipped, or has a part that is, under its reason."""
    groups = {}
    for test in tops:
        parts = results.parts(test)
        bad = [part for part in parts if results.actions[part] != PASS]
        if results.actions[test] == PASS and not bad:
            continue
        for why, line in _told(test, parts, bad, results, reasons):
            groups.setdefault(why, []).append(line)
    if not groups:
        yield "Everything passes."
    # What nobody has looked into yet comes last.
    for why in sorted(groups, key=lambda why: (why is None, why or "")):
        yield f"### {why or 'Not looked into yet'}"
        yield ""
        yield from (f"- {line}" for line in groups[why])
        yield ""


def _told(test, parts, bad, results, reasons):
    """A test with its reason, and apart from it those of its parts that have another or are named by themselves."""
    leaves = [part for part in bad if not any(_inside(other, part) for other in bad)]
    action = results.actions[test]
    own = reasons.find(test)
    if own is None and len({reasons.find(part) for part in leaves}) == 1:
        own = reasons.find(leaves[0])
    if action != PASS:
        yield own, f"`{test}`{_said(action)}{_counted(parts, results)}"
    for part in leaves:
        why = reasons.find(part)
        if action == PASS or why != own or reasons.names(part):
            yield why, f"`{part}`{_said(results.actions[part])}"


def _counted(parts, results):
    """How the subtests of a test fared, if it has any."""
    if not parts:
        return ""
    skipped = results.count(SKIP, parts)
    more = f", {skipped} skipped" if skipped else ""
    return f" ({results.count(PASS, parts)} of {len(parts)} subtests pass{more})"


def _inside(part, whole):
    return part.package == whole.package and part.name.startswith(whole.name + "/")


def _said(action):
    return " is skipped" if action == SKIP else ""
