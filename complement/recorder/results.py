"""Results of tests: read from `go test -json`, kept as one line a test, compared."""

import json
from dataclasses import dataclass, field

PASS, FAIL, SKIP = "pass", "fail", "skip"


@dataclass(frozen=True, order=True)
class Test:
    """A test or subtest of a package, which bears the last part of its path as its name."""

    package: str
    name: str

    @property
    def top(self):
        """The test that this is a part of, or itself."""
        return Test(self.package, self.name.split("/", 1)[0])

    @property
    def is_top(self):
        return "/" not in self.name

    def __str__(self):
        return f"{self.package}.{self.name}"


@dataclass
class Results:
    """What came out, and what was tested."""

    about: dict = field(default_factory=dict)
    actions: dict = field(default_factory=dict)

    def tops(self):
        """The tests that are no subtests, in order."""
        return sorted(test for test in self.actions if test.is_top)

    def parts(self, top):
        """The subtests of a test, in order."""
        return sorted(test for test in self.actions if test.top == top and not test.is_top)

    def count(self, action, tests=None):
        tests = self.actions if tests is None else tests
        return sum(self.actions.get(test) == action for test in tests)


def read_run(lines):
    """Reads the output of `go test -json`.

    A test that began and never ended has failed: its package crashed or ran out of time. Lines that are no JSON are what
    the Go tool says about packages that do not build.
    """
    actions, noise = {}, []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            noise.append(line.rstrip())
            continue
        if "Test" not in event:
            continue
        test = Test(event["Package"].rsplit("/", 1)[-1], event["Test"])
        action = event["Action"]
        if action in (PASS, FAIL, SKIP):
            actions[test] = action
        elif action == "run":
            actions.setdefault(test, FAIL)
    return Results(actions=actions), noise


def read_recorded(lines):
    """Reads what `written` gave."""
    results = Results()
    for line in lines:
        record = json.loads(line)
        if "Test" in record:
            results.actions[Test(record["Package"], record["Test"])] = record["Action"]
        else:
            results.about = record
    return results


def written(results):
    """The lines to keep: what was tested, then one for each test, sorted."""
    yield json.dumps(results.about, separators=(",", ":")) + "\n"
    for test, action in sorted(results.actions.items()):
        record = {"Package": test.package, "Test": test.name, "Action": action}
        yield json.dumps(record, separators=(",", ":")) + "\n"


def regressions(before, now):
    """What passed before and does not now, as sentences."""
    for test, action in sorted(before.actions.items()):
        if action != PASS:
            continue
        outcome = now.actions.get(test)
        if outcome is None:
            yield f"{test} passed before and is gone"
        elif outcome != PASS:
            yield f"{test} passed before, and now: {outcome}"
