#!/usr/bin/env python3
"""tools/count_tests.py over runs of every outcome."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest


def configured(label):
    return {"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}


def completed(label):
    return {"id": {"targetCompleted": {"label": label}}, "completed": {"success": True}}


def finished(name):
    return {"id": {"buildFinished": {}}, "finished": {"exitCode": {"name": name}}}


def result(label, status, report):
    outputs = [{"name": "test.log", "uri": "file:///log"}] + ([{"name": "test.xml", "uri": report.as_uri()}] if report else [])
    return {"id": {"testResult": {"label": label}}, "testResult": {"status": status, "testActionOutput": outputs}}


class CountTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def report(self, name, cases):
        path = self.folder / f"{name} test.xml"
        path.write_text(f"<testsuites><testsuite name='S'>{cases}</testsuite></testsuites>")
        return path

    def count(self, *events):
        path = self.folder / "plain.json"
        path.write_text("\n".join(map(json.dumps, events)))
        done = subprocess.run([sys.executable, "tools/count_tests.py", path], stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    def test_all_pass(self):
        report = self.report("a", "<testcase name='One' classname='S'/><testcase name='Two' classname='S'/>")
        events = configured("//a"), completed("//a"), result("//a", "PASSED", report), finished("SUCCESS")
        self.assertEqual(self.count(*events), (0, ["2 passed, 0 failed"]))

    def test_a_case_fails_and_one_is_skipped(self):
        cases = "<testcase name='One' classname='S'><failure message='no'/></testcase>"
        cases += "<testcase name='Two' classname='S'><skipped/></testcase><testcase name='Three' classname='S'/>"
        events = configured("//a"), completed("//a"), result("//a", "FAILED", self.report("a", cases)), finished("TESTS_FAILED")
        self.assertEqual(self.count(*events), (1, ["FAILED [plain] //a S.One", "1 skipped", "1 passed, 1 failed"]))

    def test_a_crash_is_a_failure(self):
        report = self.report("a", "<testcase name='One' classname='S'/>")
        events = configured("//a"), completed("//a"), result("//a", "FAILED", report), finished("TESTS_FAILED")
        crash = "FAILED [plain] //a (ended early: a crash or the time limit)"
        self.assertEqual(self.count(*events), (1, [crash, "1 passed, 1 failed"]))

    def test_a_time_limit_without_a_report_is_a_failure(self):
        status, lines = self.count(configured("//a"), completed("//a"), result("//a", "TIMEOUT", None), finished("TESTS_FAILED"))
        self.assertEqual((status, lines[-1]), (1, "0 passed, 1 failed"))

    def test_a_target_that_does_not_build_is_a_failure(self):
        lines = ["FAILED [plain] //a (did not build)", "0 passed, 1 failed"]
        self.assertEqual(self.count(configured("//a"), finished("BUILD_FAILURE")), (1, lines))

    def test_a_target_that_a_filter_leaves_out_is_nothing(self):
        self.assertEqual(self.count(configured("//a"), completed("//a"), finished("SUCCESS")), (0, ["0 passed, 0 failed"]))

    def test_a_build_that_never_began_is_a_failure(self):
        status, lines = self.count(finished("PARSING_FAILURE"))
        self.assertEqual((status, lines[-1]), (1, "0 passed, 1 failed"))
        self.assertIn("Bazel says PARSING_FAILURE", lines[0])

    def test_a_bazel_that_dies_is_a_failure(self):
        status, lines = self.count()
        self.assertEqual((status, lines[-1]), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
