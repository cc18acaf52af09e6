"""Tests of the recorder."""

import io
import json
import tempfile
import unittest
from pathlib import Path

from . import page, tested
from .command import FILES, Files, Streams, main
from .reference import PEERS, Known, Reasons, absent_tests, read_peers
from .results import Results, Test, read_recorded, read_run, regressions, written


def event(action, name=None, package="tests/csapi", **more):
    record = {"Action": action, "Package": f"github.com/matrix-org/complement/{package}"}
    if name:
        record["Test"] = name
    return json.dumps(record | more)


def results(**actions):
    """Results of package p: the name with two underscores for the slash."""
    tests = {Test("p", name.replace("__", "/")): action for name, action in actions.items()}
    return Results({"commit": "abc", "room_version": "11", "complement": "def"}, tests)


class Reading(unittest.TestCase):
    def test_the_last_part_of_the_path_names_the_package(self):
        run, noise = read_run([event("run", "TestA"), event("pass", "TestA"), event("skip", "TestA/part")])

        self.assertEqual(run.actions, {Test("csapi", "TestA"): "pass", Test("csapi", "TestA/part"): "skip"})
        self.assertEqual(noise, [])

    def test_two_packages_may_have_a_test_of_one_name(self):
        run, _ = read_run([event("pass", "TestSync"), event("fail", "TestSync", "tests/msc4222")])

        self.assertEqual(run.actions[Test("csapi", "TestSync")], "pass")
        self.assertEqual(run.actions[Test("msc4222", "TestSync")], "fail")

    def test_what_never_ended_has_failed(self):
        run, _ = read_run([event("run", "TestA"), event("output", "TestA"), event("fail")])

        self.assertEqual(run.actions, {Test("csapi", "TestA"): "fail"})

    def test_of_several_runs_the_worst_counts(self):
        def worst(*actions):
            run, _ = read_run(event(action, "TestA") for action in actions)
            return run.actions[Test("csapi", "TestA")]

        self.assertEqual(worst("run", "fail", "run", "pass"), "fail")
        self.assertEqual(worst("run", "pass", "run", "fail"), "fail")
        self.assertEqual(worst("run", "skip", "run", "pass"), "skip")
        self.assertEqual(worst("run", "skip", "run", "fail"), "fail")
        self.assertEqual(worst("run", "pass", "run"), "fail")
        self.assertEqual(worst("run", "pass", "run", "pass"), "pass")

    def test_it_is_known_how_long_the_run_took(self):
        run, _ = read_run(
            [
                event("start", Time="2026-11-26T00:22:35.007319176Z"),
                event("pass", "TestA", Time="2026-11-26T00:30:39.760534295Z"),
                event("output", Time="2026-11-26T00:30:38Z"),
            ]
        )

        self.assertEqual(run.about, {"seconds": 485})

    def test_what_is_no_event_is_told(self):
        run, noise = read_run(["# tests/csapi\n", "7\n", "null\n", '["Test"]\n'])

        self.assertEqual((run.actions, noise), ({}, ["# tests/csapi", "7", "null", '["Test"]']))

    def test_what_does_not_build_is_told(self):
        build = {"ImportPath": "x [x.test]", "Action": "build-output", "Output": "./x_test.go:3:27: undefined: foo\n"}

        _, noise = read_run([json.dumps(build), '{"ImportPath":"x [x.test]","Action":"build-fail"}'])

        self.assertEqual(noise, ["./x_test.go:3:27: undefined: foo"])

    def test_what_a_package_says_is_told_if_it_fails(self):
        said = [
            event("output", Output="FAIL\n"),
            event("output", "TestA", Output="panic: test timed out after 1s\n"),
            event("output", "TestA", Output="goroutine 17 [running]:\n"),
            event("output", package="tests", Output="PASS\n"),
        ]

        _, noise = read_run([*said, event("fail"), event("pass", package="tests")])

        self.assertEqual(noise, ["FAIL", "panic: test timed out after 1s"])


class Keeping(unittest.TestCase):
    def test_what_was_written_is_read_again(self):
        kept = results(TestB="fail", TestA="pass", TestA__part="pass")

        lines = list(written(kept))

        self.assertEqual(read_recorded(lines), kept)
        self.assertEqual(json.loads(lines[0])["commit"], "abc")
        names = [json.loads(line)["Test"] for line in lines[1:]]
        self.assertEqual(names, ["TestA", "TestA/part", "TestB"])

    def test_only_what_passed_before_can_get_worse(self):
        before = results(TestA="pass", TestB="fail", TestC="pass", TestD="pass")

        worse = list(regressions(before, results(TestA="pass", TestB="fail", TestC="skip", TestE="fail")))

        self.assertEqual(worse, ["p.TestC passed before, and now: skip", "p.TestD passed before and is gone"])


class Reference(unittest.TestCase):
    PEERS = ["# By hand.", "area\ttest\tSynapse\tTuwunel\tPalpo", "Tea\tp.TestA\tpass\tfail\t-"]

    def test_peers_are_read_by_area(self):
        known = read_peers(self.PEERS)

        self.assertEqual(known, {Test("p", "TestA"): Known("Tea", {"Synapse": "pass", "Tuwunel": "fail", "Palpo": "-"})})

    def test_a_run_of_some_tests_is_not_the_whole_suite(self):
        known = {Test("p", "TestA"): None, Test("p", "TestC"): None, Test("q", "TestB"): None}

        absent = absent_tests(known, results(TestA="fail"))

        self.assertEqual(absent, [Test("p", "TestC"), Test("q", "TestB")])


class Showing(unittest.TestCase):
    KNOWN = {Test("p", "TestA"): Known("Tea", dict.fromkeys(PEERS, "pass"))}
    REASONS = Reasons('[[reason]]\nwhy = "Cups"\ntests = ["p.TestA"]\n[[reason]]\nwhy = "Pots"\ntests = ["p.TestA/pot"]')

    def show(self, **actions):
        return page.render(results(**actions), self.KNOWN, self.REASONS)

    def test_areas_are_counted_beside_peers(self):
        text = self.show(TestA="pass", TestB="fail")

        self.assertIn("| Tea | 1 | 1 | 1 | 1 | 1 |", text)
        self.assertIn("| Others | 1 | 0 | 0 | 0 | 0 |", text)
        self.assertIn("| **All** | 2 | 1 | 1 | 1 | 1 |", text)

    def test_what_does_not_pass_stands_under_its_reason(self):
        text = self.show(TestA="fail", TestA__pot="fail", TestA__lid="fail", TestB="fail")

        rest = text[text.index("### ") :]
        cups = "### Cups\n\n- `p.TestA` (0 of 2 subtests pass)\n\n"
        pots = "### Pots\n\n- `p.TestA/pot`\n\n"
        self.assertEqual(rest, cups + pots + "### Not looked into yet\n\n- `p.TestB`\n")

    def test_a_test_fails_for_the_reason_of_its_parts(self):
        reasons = Reasons('[[reason]]\nwhy = "Pots"\ntests = ["p.TestA/pot"]')

        text = page.render(results(TestA="fail", TestA__pot="fail", TestA__lid="pass"), self.KNOWN, reasons)

        self.assertEqual(text[text.index("### ") :], "### Pots\n\n- `p.TestA` (1 of 2 subtests pass)\n- `p.TestA/pot`\n")

    def test_parts_without_a_reason_of_their_own_are_counted(self):
        reasons = Reasons('[[reason]]\nwhy = "Cups"\ntests = ["p"]')

        text = page.render(results(TestA="fail", TestA__pot="fail", TestA__lid="skip"), self.KNOWN, reasons)

        self.assertEqual(text[text.index("### ") :], "### Cups\n\n- `p.TestA` (0 of 2 subtests pass, 1 skipped)\n")

    def test_it_says_how_long_the_run_took(self):
        run = results(TestA="pass")
        self.assertNotIn("The run took", page.render(run, self.KNOWN, self.REASONS))

        run.about["seconds"] = 485
        self.assertIn("The run took 8:05 minutes.", page.render(run, self.KNOWN, self.REASONS))

    def test_a_part_that_is_skipped_is_told_although_the_whole_passes(self):
        self.assertIn("- `p.TestA/lid` is skipped\n", self.show(TestA="pass", TestA__lid="skip"))

    def test_reasons_that_went_away_are_found(self):
        self.assertEqual(list(self.REASONS.idle(results(TestA="pass", TestA__pot="fail"))), [])
        self.assertEqual(list(self.REASONS.idle(results(TestAB="fail"))), ["p.TestA", "p.TestA/pot"])


class Committed(unittest.TestCase):
    def test_the_page_is_what_is_rendered(self):
        self.assertEqual(FILES.page.read_text(), FILES.rendered(FILES.recorded()), "run: complement/record --render")

    def test_the_image_bears_the_labels_that_are_read(self):
        script = (FILES.results.parent / "image").read_text()

        for label in (tested.REVISION, tested.ROOM_VERSION):
            self.assertIn(f"--label {label}=", script)


class Tested(unittest.TestCase):
    LABELS = {tested.REVISION: "abc", tested.ROOM_VERSION: "11"}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.checkout = Path(folder.name)
        (self.checkout / "go.mod").write_text("module github.com/matrix-org/complement\n\ngo 1.25.0\n")

    def about(self, labels):
        def output(command):
            return json.dumps(labels) if command[0] == "docker" else "def"

        return tested.about("tea", self.checkout, output)

    def refusal(self, labels):
        with self.assertRaises(tested.Refused) as refused:
            self.about(labels)
        return str(refused.exception)

    def test_the_image_says_what_was_tested(self):
        self.assertEqual(self.about(self.LABELS), {"commit": "abc", "room_version": "11", "complement": "def"})

    def test_an_image_without_labels_is_refused(self):
        self.assertIn(tested.REVISION, self.refusal(None))
        self.assertIn(tested.REVISION, self.refusal({tested.ROOM_VERSION: "11"}))
        self.assertIn(tested.ROOM_VERSION, self.refusal({tested.REVISION: "abc"}))
        self.assertIn(tested.ROOM_VERSION, self.refusal(self.LABELS | {tested.ROOM_VERSION: ""}))

    def test_changes_that_are_not_committed_are_refused(self):
        self.assertIn("not committed", self.refusal(self.LABELS | {tested.REVISION: "abc-dirty"}))

    def test_another_checkout_is_refused(self):
        (self.checkout / "go.mod").write_text("module example.org/tea\n")
        self.assertIn("no checkout of Complement", self.refusal(self.LABELS))

        (self.checkout / "go.mod").unlink()
        self.assertIn("no checkout of Complement", self.refusal(self.LABELS))

    def test_commands_that_fail_are_refused(self):
        for command in (["/nowhere/docker"], ["sh", "-c", "echo No such image >&2; exit 1"]):
            with self.assertRaises(tested.Refused):
                tested.output_of(command)


class Unread:
    """An input that must not be touched."""

    def __iter__(self):
        raise AssertionError("the input was read")


class Commanded(unittest.TestCase):
    WHOLE = (event("pass", "TestA"), event("fail", "TestB", "tests/q"))

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = Path(folder.name)
        for name in ("complement", "docs"):
            (root / name).mkdir()
        (root / "go.mod").write_text("module github.com/matrix-org/complement\n")
        self.root, self.files = root, Files(root)
        self.files.peers.write_text(
            "area\ttest\tSynapse\tTuwunel\tPalpo\nTea\tcsapi.TestA\tpass\tpass\tpass\nTea\tq.TestB\tpass\tpass\tpass\n"
        )
        self.files.reasons.write_text('[[reason]]\nwhy = "Cups"\ntests = ["csapi.TestA", "q.TestB"]\n')
        self.files.results.write_text('{"commit":"old"}\n{"Package":"csapi","Test":"TestA","Action":"pass"}\n')
        self.files.page.write_text("old")
        self.labels = Tested.LABELS

    def run_main(self, given, *arguments):
        """The exit code and what was said, on the output and on the error."""

        def output(command):
            return json.dumps(self.labels) if command[0] == "docker" else "def"

        streams = Streams(given, io.StringIO(), io.StringIO())
        code = main(["--complement", str(self.root), *arguments], streams, self.files, output)
        return code, streams.out.getvalue(), streams.err.getvalue()

    def assert_nothing_written(self):
        self.assertEqual(self.files.recorded().about, {"commit": "old"})
        self.assertEqual(self.files.page.read_text(), "old")

    def test_the_whole_suite_is_recorded(self):
        code, out, err = self.run_main(self.WHOLE)

        self.assertEqual(code, 0)
        self.assertIn("all: 2 tests, 1 pass, 1 fail, 0 skip\n", out)
        self.assertEqual(err, "reasons.toml: csapi.TestA is no reason any more\n")
        kept = self.files.recorded()
        self.assertEqual(kept.about, {"commit": "abc", "room_version": "11", "complement": "def"})
        self.assertEqual(kept.actions, {Test("csapi", "TestA"): "pass", Test("q", "TestB"): "fail"})
        self.assertEqual(self.files.page.read_text(), self.files.rendered(kept))

    def test_a_part_of_the_suite_is_refused(self):
        code, _, err = self.run_main(self.WHOLE[:1])

        self.assertEqual(code, 2)
        self.assertIn("no q.TestB.", err)
        self.assert_nothing_written()

    def test_what_complement_dropped_may_be_missing(self):
        code, _, _ = self.run_main(self.WHOLE[:1], "--allow-missing")

        self.assertEqual(code, 0)
        self.assertEqual(list(self.files.recorded().actions), [Test("csapi", "TestA")])

    def test_without_results_nothing_is_recorded(self):
        code, _, err = self.run_main(["go: not found\n"])

        self.assertEqual((code, err), (2, "go: not found\nThere are no results on the standard input.\n"))
        self.assert_nothing_written()

    def test_what_cannot_be_recorded_is_refused_before_it_runs(self):
        self.labels = {}

        code, out, err = self.run_main(Unread())

        self.assertEqual((code, out, err.count("\n")), (2, "", 1))
        self.assert_nothing_written()

    def test_a_check_fails_when_something_is_worse(self):
        self.labels = {}

        code, out, _ = self.run_main([event("fail", "TestA")], "--check")

        self.assertEqual(code, 1)
        self.assertTrue(out.endswith("csapi.TestA passed before, and now: fail\n"))
        self.assert_nothing_written()

    def test_a_check_of_what_passed_passes(self):
        code, out, _ = self.run_main(self.WHOLE, "--check")

        self.assertEqual(code, 0)
        self.assertTrue(out.endswith("Nothing is worse than recorded.\n"))
        self.assert_nothing_written()

    def test_a_check_of_nothing_fails(self):
        self.assertEqual(self.run_main([], "--check")[0], 2)

    def test_the_page_can_be_written_anew(self):
        code, _, _ = self.run_main(Unread(), "--render")

        self.assertEqual(code, 0)
        self.assertEqual(self.files.page.read_text(), self.files.rendered(self.files.recorded()))


if __name__ == "__main__":
    unittest.main()
