#!/usr/bin/env python3
"""Counts the test cases of Bazel runs: count_tests.py EVENTS.json..., as --build_event_json_file writes them.

Prints what failed, then `N passed, N failed` on a line of its own. A target that did not build, and a test program that
ended without a failed case of its own (a crash, a time limit), count as one failure each. Exits with 1 if anything failed.
"""

import collections
import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree


def count_cases(path, counts):
    """Adds the cases of one test.xml to `counts`, returns the names of those that failed."""
    failed = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname') or ''}.{case.get('name')}".lstrip(".")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            counts["skipped"] += 1
        else:
            counts["passed"] += 1
    counts["failed"] += len(failed)
    return failed


class Run:
    """What one file of events says."""

    def __init__(self, path):
        self.outcome = "Bazel ended early"
        self.not_built = set()
        self.results = collections.defaultdict(list)  # label -> (passed, path of test.xml or None) of each shard
        for line in path.read_text().splitlines() if path.exists() else []:
            event = json.loads(line)
            (kind, key), *_ = event["id"].items()
            self.read(kind, key, event)

    def read(self, kind, key, event):
        if kind == "targetConfigured":
            self.not_built.add(key["label"])
        elif kind == "targetCompleted" and event.get("completed", {}).get("success"):
            # If it is a test without a result, a filter of its configuration left it out on purpose.
            self.not_built.discard(key["label"])
        elif kind == "testResult" and "testResult" in event:
            result = event["testResult"]
            uris = [o.get("uri", "") for o in result.get("testActionOutput", []) if o["name"] == "test.xml"]
            report = urllib.parse.unquote(urllib.parse.urlparse(uris[0]).path) if uris else None
            self.results[key["label"]].append((result["status"] == "PASSED", report))
        elif kind == "buildFinished" and "finished" in event:
            self.outcome = event["finished"].get("exitCode", {}).get("name", "SUCCESS")


def count_result(label, passed, report, counts):
    failed = []
    if report and pathlib.Path(report).exists():
        try:
            failed = [f"{label} {name}" for name in count_cases(report, counts)]
        except xml.etree.ElementTree.ParseError:
            pass  # the program died while it wrote: counted below
    if not passed and not failed:
        counts["failed"] += 1
        failed = [f"{label} (ended early: a crash or the time limit)"]
    return failed


def count_run(path, counts):
    run = Run(path)
    failures = [f"{label} (did not build)" for label in sorted(run.not_built)]
    if run.outcome != "SUCCESS" and not failures and all(ok for runs in run.results.values() for ok, _ in runs):
        failures.append(f"(no test to blame; Bazel says {run.outcome}, see above)")
    counts["failed"] += len(failures)
    for label, results in sorted(run.results.items()):
        for passed, report in results:
            failures += count_result(label, passed, report, counts)
    return failures


def main(paths):
    counts = collections.Counter()
    for path in map(pathlib.Path, paths):
        for failure in count_run(path, counts):
            print(f"FAILED [{path.stem}] {failure}")
    if counts["skipped"]:
        print(f"{counts['skipped']} skipped")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
