#!/usr/bin/env python3
"""Plants known bugs into a copy of the sources, one at a time, and sees whether the tests catch them.

  bazel run //tests/sim:mutants                          all of them
  bazel run //tests/sim:mutants -- --sample 5            five, others every day
  bazel run //tests/sim:mutants -- --only NAME...        these
  bazel run //tests/sim:mutants -- --markdown FILE       all of them, and writes the table

Each mutant is a patch beside this file, listed in mutants.json with the named test, or the run of the simulator, that
must catch it. First all those tests run on the clean copy, where they must pass. Then for each mutant: the patch is
applied, the test is built and run, and the patch is taken back. It is caught if the test fails. The exit code is 0
only if all were caught. The checkout itself is never changed.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
MANIFEST = HERE / "mutants.json"
SIM = "//tests/sim:sim"
OPTIMIZED = "--compilation_mode=opt"  # it runs for long
FIRST_SEEDS = (1, 1_000_001, 2_000_001, 3_000_001, 4_000_001)
SIM_TIMEOUT_SECONDS = 3600
BUILD_FAILED, TESTS_FAILED = 1, 3  # exit codes of `bazel test`
MUTANT_TIMEOUT_SECONDS = 60  # each test takes a few


def say(text):
    print(text, flush=True)


class Failure(Exception):
    """What ends the run, in a sentence."""


# ------------------------------------------------------------------------------------------------ manifest and patches


def load(manifest=MANIFEST):
    rows = json.loads(manifest.read_text())
    problems = []
    names = [row["name"] for row in rows]
    problems += [f"{name} stands twice in {manifest.name}" for name in set(names) if names.count(name) > 1]
    for row in rows:
        known = {"name", "patch", "imitates", "caught_by", "note"}
        problems += [f"{row['name']}: the field {field} is not known" for field in set(row) - known]
        if not row.get("imitates"):
            problems.append(f"{row['name']}: it does not say what it imitates")
        if row.get("patch") is None:
            if not row.get("note"):
                problems.append(f"{row['name']}: without a patch it must say why, in a note")
            continue
        by = row.get("caught_by", {})
        if sorted(by) not in (["filter", "target"], ["seeds", "sim"]):
            problems.append(f"{row['name']}: caught_by must be a target and a filter, or sim and seeds")
    listed = {row["patch"] for row in rows if row.get("patch")}
    present = {path.name for path in manifest.parent.glob("*.patch")}
    problems += [f"{name} is not in {manifest.name}" for name in sorted(present - listed)]
    problems += [f"{manifest.name} names {name}, which is not there" for name in sorted(listed - present)]
    return rows, problems


def touched(patch):
    """The files that a patch changes."""
    return [m[1] for m in re.finditer(r"^\+\+\+ b/(\S+)", patch.read_text(), re.MULTILINE)]


def apply(tree, patch, dry_run):
    command = ["patch", "-p1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-"]
    done = subprocess.run(
        command + (["--dry-run"] if dry_run else []) + ["-i", str(patch)], cwd=tree, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Failure(f"{patch.name} does not apply to these sources:\n{done.stdout}{done.stderr}")


def check(root):
    """What is wrong with the manifest, the folder or the patches; builds nothing."""
    rows, problems = load()
    for row in rows:
        if not row.get("patch") or not (HERE / row["patch"]).exists():
            continue
        files = touched(HERE / row["patch"])
        problems += [f"{row['patch']} changes {f}, a test" for f in files if re.search(r"(^tests/|test\w*\.\w+$)", f)]
        if not files:
            problems.append(f"{row['patch']} changes nothing")
        try:
            apply(root, HERE / row["patch"], dry_run=True)
        except Failure as failure:
            problems.append(str(failure))
    return rows, problems


# ------------------------------------------------------------------------------------------------ the copy


def checkout():
    """The top folder of the sources."""
    return pathlib.Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", HERE.parents[2]))


def copy_sources(root, tree):
    """Makes `tree` what git knows of `root`; a file that is the same already is not written."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    wanted = {name for name in names if name and (root / name).exists()}
    for path in [p for p in tree.rglob("*") if p.is_file() or p.is_symlink()]:
        if str(path.relative_to(tree)) not in wanted:
            path.unlink()
    for name in sorted(wanted):
        source, target = root / name, tree / name
        data = source.read_bytes()
        if target.is_file() and target.read_bytes() == data and os.access(target, os.X_OK) == os.access(source, os.X_OK):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


class Copy:
    """A copy of the sources with a Bazel of its own."""

    def __init__(self, root, work, bazel_args):
        self.tree = work / "tree"
        self.log = work / "log.txt"
        self.bazel_args = bazel_args
        self.startup = ["bazel", f"--output_base={work / 'ob'}"]
        self.tree.mkdir(parents=True, exist_ok=True)
        copy_sources(root, self.tree)

    def bazel(self, command, *arguments):
        # No links in the tree, and none of the variables by which `bazel run` started this program.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("BUILD_", "RUNFILES", "TEST_"))}
        line = [*self.startup, command, "--symlink_prefix=/", "--curses=no", "--color=no", *self.bazel_args, *arguments]
        with self.log.open("ab") as log:
            log.write(f"\n$ {shlex.join(line)}\n".encode())
            return subprocess.run(line, cwd=self.tree, stdout=log, stderr=log, env=environment, check=False).returncode

    def info(self, what, *options):
        line = [*self.startup, "info", *self.bazel_args, *options, what]
        done = subprocess.run(line, cwd=self.tree, check=True, capture_output=True, text=True)
        return pathlib.Path(done.stdout.strip())

    def test(self, target, test_filter, *options):
        options = ["--test_output=summary", f"--test_filter={test_filter}", "--nocache_test_results", *options]
        return self.bazel("test", *options, target)

    def shut_down(self):
        subprocess.run([*self.startup, "shutdown"], cwd=self.tree, check=False, capture_output=True)

    def last_lines(self, count=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class Planted:
    """A mutant in the copy, for the length of a `with`."""

    def __init__(self, copy, patch):
        self.copy, self.patch = copy, patch

    def __enter__(self):
        apply(self.copy.tree, self.patch, dry_run=True)
        self.before = {name: (self.copy.tree / name).read_bytes() for name in touched(self.patch)}
        apply(self.copy.tree, self.patch, dry_run=False)

    def __exit__(self, *_):
        for name, data in self.before.items():
            (self.copy.tree / name).write_bytes(data)


# ------------------------------------------------------------------------------------------------ judging


def tests_of(copy, target):
    """Names of the test cases of the last run of `target`, and of those that failed."""
    folder = copy.info("bazel-testlogs") / target.removeprefix("//").replace(":", "/")
    ran, failed = set(), set()
    for path in folder.rglob("test.xml"):
        try:
            root = xml.etree.ElementTree.parse(path).getroot()
        except xml.etree.ElementTree.ParseError:
            continue  # the program ended before its last line
        for case in root.iter("testcase"):
            if case.get("status") == "notrun":
                continue
            name = f"{case.get('classname')}.{case.get('name')}"
            ran.add(name)
            if case.find("failure") is not None:
                failed.add(name)
    return ran, failed


def matches(test_filter, name):
    patterns = [re.escape(p).replace(r"\*", ".*").replace(r"\?", ".") for p in test_filter.split(":")]
    return any(re.fullmatch(p, name) for p in patterns)


def run_clean(copy, rows):
    """All that is to catch something passes on the clean copy; otherwise nothing is proven."""
    targets = {}
    for row in rows:
        by = row["caught_by"]
        if "target" in by:
            targets.setdefault(by["target"], set()).add(by["filter"])
    for number, (target, filters) in enumerate(sorted(targets.items()), 1):
        say(f"clean {number}/{len(targets)}: {target}")
        code = copy.test(target, ":".join(sorted(filters)))
        if code != 0:
            raise Failure(f"{target} does not pass on the clean sources, so that nothing is proven:\n{copy.last_lines()}")
        ran, _ = tests_of(copy, target)
        for test_filter in filters:
            if not any(matches(test_filter, name) for name in ran):
                raise Failure(f"{target} has no test {test_filter}")
    for by in {json.dumps(row["caught_by"]): row["caught_by"] for row in rows if "sim" in row["caught_by"]}.values():
        say(f"clean: the simulator {by['sim']}")
        found, _ = simulate(copy, by["sim"], FIRST_SEEDS[0], min(by["seeds"], 2000))
        if found is not None:
            raise Failure(f"the simulator finds a violation on the clean sources, seed {found}: {by['sim']}")


def simulate(copy, arguments, first, seeds):
    """The first seed that fails, or None, and what the simulator printed."""
    if copy.bazel("build", OPTIMIZED, SIM) != 0:
        raise Failure(f"{SIM} cannot be built:\n{copy.last_lines()}")
    program = copy.info("bazel-bin", OPTIMIZED) / "tests/sim/sim"
    line = [str(program), *shlex.split(arguments), f"--seeds={seeds}", f"--first_seed={first}", "--jobs=1"]
    line += ["--stop_after=1", "--noshrink"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=SIM_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"the simulator took more than {SIM_TIMEOUT_SECONDS} s: {shlex.join(line)}") from expired
    failed = [int(m[1]) for m in re.finditer(r"^seed (\d+) FAILS", done.stdout, re.MULTILINE)]
    if failed:
        return min(failed), done.stdout
    if done.returncode != 0 or "violations: 0" not in done.stdout:
        raise Failure(f"the simulator ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return None, done.stdout


def judge(copy, row):
    """Plants one, and returns (caught, how, seeds)."""
    by = row["caught_by"]
    with Planted(copy, HERE / row["patch"]):
        if "target" in by:
            # Some bugs make a test wait for ever.
            code = copy.test(by["target"], by["filter"], f"--test_timeout={MUTANT_TIMEOUT_SECONDS}")
            if code == 0:
                return False, f"{by['target']} passed with {by['filter']}", "-"
            if code == TESTS_FAILED:
                hangs = ", which hangs" if re.search(rf"^{by['target']} +TIMEOUT", copy.last_lines(), re.MULTILINE) else ""
                return True, f"`{by['target']}` {by['filter']}{hangs}", "-"
            what = "it cannot be built" if code == BUILD_FAILED else f"bazel ended with {code}"
            raise Failure(f"{row['name']}: {what}:\n{copy.last_lines()}")
        counts = []
        for first in FIRST_SEEDS:
            found, _ = simulate(copy, by["sim"], first, by["seeds"])
            if found is None:
                return False, f"the simulator passed {by['seeds']} seeds from {first} on", "-"
            counts.append(found - first + 1)
        middle = int(statistics.median(counts))
        return True, f"simulator `{by['sim']}`".replace(" ``", ""), f"median {middle}, worst {max(counts)}"


class Past:
    """The newest result of each mutant in this work folder, for as long as neither its patch nor what catches it changes."""

    def __init__(self, file):
        self.file = file
        self.results = json.loads(file.read_text()) if file.exists() else {}

    @staticmethod
    def key(row):
        return hashlib.sha256((json.dumps(row) + (HERE / row["patch"]).read_text()).encode()).hexdigest()

    def add(self, row, result):
        self.results[self.key(row)] = result
        self.file.write_text(json.dumps(self.results, indent=1))

    def of(self, rows):
        keys = [self.key(row) for row in rows if row.get("patch")]
        return [self.results[key] for key in keys if key in self.results]


# ------------------------------------------------------------------------------------------------ the run


def choose(rows, options):
    """Those to run, of those that have a patch."""
    planted = [row for row in rows if row.get("patch")]
    if options.only:
        unknown = set(options.only) - {row["name"] for row in planted}
        if unknown:
            raise Failure(f"there is no mutant {', '.join(sorted(unknown))}; --list prints them")
        return [row for row in planted if row["name"] in options.only]
    if options.sample and options.sample < len(planted):
        day = (datetime.datetime.now(datetime.timezone.utc).date() - datetime.date(1970, 1, 1)).days
        first = day * options.sample
        return [planted[(first + i) % len(planted)] for i in range(options.sample)]
    return planted


def table(results, rows):
    lines = ["| mutant | imitates | caught by | seeds until caught | seconds |", "|---|---|---|---|---|"]
    by_name = {result["name"]: result for result in results}
    for row in rows:
        if not row.get("patch"):
            lines.append(f"| {row['name']} | {row['imitates']} | not planted: {row['note']} | - | - |")
        elif result := by_name.get(row["name"]):
            how = result["how"] if result["caught"] else f"NOT CAUGHT: {result['how']}"
            lines.append(f"| {row['name']} | {row['imitates']} | {how} | {result['seeds']} | {result['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


HEAD = """# Mutants

Bugs that other libraries of this kind have had, and each rule of this one taken out, planted into the sources one at a
time: every one must be caught by a named test or by the simulator. The patches, each with what it imitates and where
it is planted, are in `tests/sim/mutants`. This page is made by
`bazel run //tests/sim:mutants -- --markdown docs/mutants.md`; the seconds include the build.

"""


def run(options):
    root = checkout()
    rows, problems = check(root)
    if problems:
        raise Failure("\n".join(problems))
    chosen = choose(rows, options)
    print(f"{len(chosen)} of {len([r for r in rows if r.get('patch')])}:", *(row["name"] for row in chosen), flush=True)
    work = pathlib.Path(options.work or os.path.join(tempfile.gettempdir(), "coord-mutants"))
    copy = Copy(root, work.resolve(), options.bazel_arg)
    past = Past(work / "results.json")
    results = []
    try:
        run_clean(copy, chosen)
        begun = time.monotonic()
        for number, row in enumerate(chosen, 1):
            started = time.monotonic()
            try:
                caught, how, seeds = judge(copy, row)
            except Failure as failure:
                say(f"FAILED: {failure}")
                caught, how, seeds = False, str(failure).splitlines()[0], "-"
            seconds = time.monotonic() - started
            results.append({"name": row["name"], "caught": caught, "how": how, "seeds": seeds, "seconds": seconds})
            past.add(row, results[-1])
            left = (time.monotonic() - begun) / number * (len(chosen) - number)
            verdict = "caught" if caught else "NOT CAUGHT"
            say(f"{number}/{len(chosen)} {row['name']}: {verdict}: {how} ({seconds:.0f} s; about {left / 60:.0f} min left)")
    finally:
        copy.shut_down()
    missed = [result["name"] for result in results if not result["caught"]]
    print("\n" + table(results, rows if len(chosen) > 1 else chosen))
    if options.markdown:
        file = pathlib.Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), options.markdown)
        known = past.of(rows)
        caught = sum(result["caught"] for result in known)
        file.write_text(HEAD + f"{caught} of {len(known)} caught.\n\n" + table(known, rows))
    print(f"{len(results) - len(missed)} of {len(results)} caught" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants alone")
    parser.add_argument("--sample", type=int, metavar="K", help="K of them, others every day")
    parser.add_argument("--list", action="store_true", help="print them, and what catches them, and run nothing")
    parser.add_argument("--check", action="store_true", help="only see that manifest, folder and sources agree")
    parser.add_argument("--work", help="folder of the copy, kept between runs (default: coord-mutants among temporary files)")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there, of the newest results in the work folder")
    parser.add_argument("--bazel-arg", action="append", default=[], metavar="ARG", help="handed to Bazel; repeatable")
    options = parser.parse_args()
    try:
        if options.list:
            for row in load()[0]:
                print(row["name"], "|", row["imitates"], "|", json.dumps(row.get("caught_by", row.get("note"))))
            return 0
        if options.check:
            rows, problems = check(checkout())
            print(*problems, f"{len(rows)} mutants, {len(problems)} problems", sep="\n")
            return 1 if problems else 0
        return run(options)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
