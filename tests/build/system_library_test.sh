#!/usr/bin/env bash
# What the rule system_library makes of pkg-config's answers, and what it says where there is none.
set -euo pipefail

fail() { echo "FAILED: $*"; exit 1; }

tree=$(dirname "$(realpath WORKSPACE)")
workspace=$TEST_TMPDIR/workspace
mkdir -p "$workspace" "$TEST_TMPDIR/pkgconfig" "$TEST_TMPDIR/bin" "$TEST_TMPDIR/elsewhere"
cp -R "$tree/third_party" "$workspace/third_party"
cd "$workspace"

cat >WORKSPACE <<'END'
load("//third_party:system_library.bzl", "system_library")

[local_repository(name = name, path = "third_party/" + name) for name in ["rules_cc", "rules_java"]]

system_library(
    name = "absent",
    debian_package = "libabsent-dev",
    targets = {":absent": ["absent-module"]},
)

system_library(
    name = "elsewhere",
    debian_package = "libelsewhere-dev",
    targets = {"some/package:lib": ["elsewhere"]},
)

system_library(
    name = "odd",
    debian_package = "libodd-dev",
    targets = {":odd": ["odd"]},
)
END
cat >BUILD.bazel <<'END'
cc_binary(
    name = "program",
    srcs = ["program.cc"],
    deps = ["@elsewhere//some/package:lib"],
)
END
cat >program.cc <<'END'
#include <elsewhere.h>
int main() { return ELSEWHERE - elsewhere(42); }
END
# A warning in the library's header must not stop a build that takes warnings for errors.
echo 'inline int elsewhere(int a) { int unused; return a; }' >"$TEST_TMPDIR/elsewhere/elsewhere.h"
cat >"$TEST_TMPDIR/pkgconfig/elsewhere.pc" <<END
Name: elsewhere
Description: a library outside of the compiler's search path
Version: 1
Cflags: -I$TEST_TMPDIR/elsewhere -DELSEWHERE=42 -pthread
Libs: -lm
END
cat >"$TEST_TMPDIR/pkgconfig/odd.pc" <<END
Name: odd
Description: a library that wants to change how we compile
Version: 1
Cflags: -ffast-math
END

export HOME=$TEST_TMPDIR PKG_CONFIG_PATH=$TEST_TMPDIR/pkgconfig
startup=(--output_user_root="$TEST_TMPDIR/bazel" --max_idle_secs=20)
trap 'bazel "${startup[@]}" shutdown' EXIT
bazel_build() { bazel "${startup[@]}" build --nosandbox_debug --copt=-Wall --copt=-Werror "$@" 2>&1; }

expect_refusal() {
  local target=$1 out word
  shift
  if out=$(bazel_build "$target"); then fail "$target was built"; fi
  for word in "$@"; do
    [[ $out == *"$word"* ]] || fail "$target: no '$word' in: $out"
  done
}

echo "== a library elsewhere: its -I and -D reach the compiler"
bazel_build //:program || fail "it does not build"
bazel-bin/program || fail "the program answers $?"

echo "== a module is missing"
expect_refusal @absent//:absent "does not find absent-module for @absent" "sudo apt-get install libabsent-dev"

echo "== a flag that is not understood"
expect_refusal @odd//:odd "-ffast-math" "only -I, -D and -pthread are understood"

echo "== pkg-config itself is missing"
bazel "${startup[@]}" shutdown
for tool in /usr/bin/* /bin/*; do
  [[ $tool == *pkg-config* || $tool == *pkgconf* ]] || ln -sf "$tool" "$TEST_TMPDIR/bin/"
done
PATH=$TEST_TMPDIR/bin expect_refusal @absent//:absent "needs pkg-config, which is not installed" "sudo apt-get install pkg-config"
