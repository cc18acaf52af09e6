"""Tests of the recorder."""

import json
import unittest

from . import page
from .reference import PEERS, Known, Reasons, absent_packages, read_peers
from .results import Results, Test, read_recorded, read_run, regressions, written


def event(action, name=None, package="tests/csapi"):
    record = {"Action": action, "Package": f"github.com/matrix-org/complement/{package}"}
    if name:
        record["Test"] = name
    return json.dumps(record)


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

    def test_what_is_no_result_is_told(self):
        run, noise = read_run(["# tests/csapi\n", event("output")])

        self.assertEqual((run.actions, noise), ({}, ["# tests/csapi"]))


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

    def test_a_run_of_some_packages_is_not_the_whole_suite(self):
        known = {Test("p", "TestA"): None, Test("q", "TestB"): None}

        self.assertEqual(absent_packages(known, results(TestA="fail")), ["q"])


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

        self.assertEqual(text[text.index("### ") :], "### Pots\n\n- `p.TestA` (1 of 2 subtests pass)\n")

    def test_a_part_that_is_skipped_is_told_although_the_whole_passes(self):
        self.assertIn("- `p.TestA/lid` is skipped\n", self.show(TestA="pass", TestA__lid="skip"))

    def test_reasons_that_went_away_are_found(self):
        self.assertEqual(list(self.REASONS.idle(results(TestA="pass", TestA__pot="fail"))), [])
        self.assertEqual(list(self.REASONS.idle(results(TestAB="fail"))), ["p.TestA", "p.TestA/pot"])


if __name__ == "__main__":
    unittest.main()
