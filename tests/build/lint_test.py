#!/usr/bin/env python3
"""Habits of the sources that no compiler checks. Each finding names the file, the line and what to do.

Reads the tree that WORKSPACE lies in, so that new files are covered without being listed anywhere.
"""

import os
import pathlib
import re
import sys

ROOT = pathlib.Path("WORKSPACE").resolve().parent
CODE = {".cc", ".h"}
TEXT = CODE | {".bzl", ".bazel", ".in", ".md", ".py", ".sh", ".yml", ""}
SKIPPED = {".git", "corpus", "testdata"}

# A folder of somebody's machine.
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home/\w+|root|Users)/")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')

# Tests stand on stores, and on servers that they start.
TEST = re.compile(r"(\w+/)*(test_\w+|\w+_test|\w+_test_util)\.(h|cc)")
SERVERS = "tests/servers/servers.h"

# What of kv/ the primitives may know: the seam. Beside tests, these files exist to join the two sides.
SEAM = {"kv/store.h", "kv/store_wrapper.h", "kv/internal/mutex.h"}
JOINTS = re.compile(r"coord/(coord\.h|(open_events|testing|nats_events|internal/nats_event_\w+)\.(h|cc))")


def text_findings(path, text):
    if text and not text.endswith("\n"):
        yield len(text.splitlines()), "the last line has no newline"
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "white space at the end"
        if "\t" in line:
            yield number, "a tab: indent with spaces"
        if MACHINE_PATH.search(line):
            yield number, "a path of one machine: make it relative, or take it from the environment"
        if UNFINISHED.search(line):
            yield number, "an unfinished mark: finish it, or write down the limit where users look"


def guard_findings(path, text):
    guard = re.sub(r"[^A-Z0-9]", "_", str(path).upper()) + "_"
    expected = [f"#ifndef {guard}", f"#define {guard}"]
    lines = [line for line in text.splitlines() if line.startswith("#")]
    if lines[:2] != expected or f"#endif  // {guard}" not in text:
        yield 1, f"the header guard should be {guard}, with a comment at its #endif"


def include_findings(path, text):
    """Dependencies point one way: coord/ to the seam kv/store.h, kv/ to nothing of this project but itself."""
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header, folder, is_test = match[1], path.parts[0], TEST.fullmatch(str(path))
        joins = is_test or JOINTS.fullmatch(str(path))
        if folder == "coord" and header.startswith("kv/") and header not in SEAM and not joins:
            yield number, f"coord/ knows kv/store.h and nothing below it, not {header}"
        if folder == "kv" and header.startswith("coord/"):
            yield number, f"kv/ must not know coord/: {header}"
        is_program = header.split("/")[0] in ("examples", "benchmarks", "tests")
        if folder in ("coord", "kv") and is_program and not (is_test and header == SERVERS):
            yield number, f"a library must not know programs: {header}"
        if folder in ("examples", "benchmarks") and "/internal/" in header:
            yield number, f"programs use public headers, not {header}"


def findings(path):
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [(1, "not UTF-8")]
    found = [] if str(path) == "tests/build/lint_test.py" else list(text_findings(path, text))
    if path.suffix == ".h":
        found += guard_findings(path, text)
    if path.suffix in CODE:
        found += include_findings(path, text)
    return found


def sources():
    for folder, folders, files in os.walk(ROOT):
        # Bazel's links into its output are no folders of the tree.
        folders[:] = [f for f in folders if f not in SKIPPED and not (pathlib.Path(folder) / f).is_symlink()]
        for name in files:
            path = (pathlib.Path(folder) / name).relative_to(ROOT)
            if path.suffix in TEXT and not (ROOT / path).is_symlink():
                yield path


def main():
    assert (ROOT / "coord").is_dir() and (ROOT / "kv").is_dir(), f"{ROOT} is not the tree"
    paths = sorted(sources())
    found = [(path, number, what) for path in paths for number, what in findings(path)]
    for path, number, what in found:
        print(f"{path}:{number}: {what}")
    print(f"{len(paths)} files, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
