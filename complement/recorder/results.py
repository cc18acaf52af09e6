"""Results of tests: read from `go test -json`, kept as one line a test, compared."""

import json
from dataclasses import dataclass, field
from datetime import datetime

PASS, FAIL, SKIP = "pass", "fail", "skip"
WORST = (FAIL, SKIP, PASS)


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
    """Reads the output of `go test -json`: the results, and the lines that are worth telling besides."""
    run = _Run()
    for line in lines:
        run.take(line)
    return run.results(), run.noise


class _Run:
    """What has been read so far.

    A test that began and never ended has failed: its package crashed or ran out of time. Of one that ran several times
    the worst counts.
    """

    def __init__(self):
        self.noise = []
        self._actions = {}
        self._open = set()
        self._said = {}
        self._times = []

    def take(self, line):
        event = _event(line)
        if event is None:
            self.noise.append(line.rstrip())
            return
        if "Time" in event:
            self._times.append(event["Time"])
        action, package = event.get("Action"), event.get("Package", "")
        if action == "build-output":
            self.noise.append(event.get("Output", "").rstrip())
        elif action == "output":
            self._hear(package, event)
        elif "Test" in event:
            self._take_test(Test(package.rsplit("/", 1)[-1], event["Test"]), action)
        elif action == FAIL:
            self.noise.extend(self._said.pop(package, []))

    def results(self):
        actions = self._actions | dict.fromkeys(self._open, FAIL)
        return Results({"seconds": _seconds(self._times)} if self._times else {}, actions)

    def _hear(self, package, event):
        """Keeps what a package says itself, and the panic that ends it; it is told if the package fails."""
        text = event.get("Output", "").rstrip()
        if text and ("Test" not in event or text.startswith("panic: ")):
            self._said.setdefault(package, []).append(text)

    def _take_test(self, test, action):
        if action == "run":
            self._open.add(test)
        elif action in WORST:
            self._open.discard(test)
            self._actions[test] = min(action, self._actions.get(test, PASS), key=WORST.index)


def _event(line):
    """The event of a line, if it is one: the Go tool says other things, too."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _seconds(times):
    """How long it was from the first time to the last."""
    times = [datetime.fromisoformat(time) for time in times]
    return round((max(times) - min(times)).total_seconds())


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
