#!/usr/bin/env bash
# A program outside of this build uses an installed coord: plain g++ and pkg-config, shared and static.
set -euo pipefail

program=$PWD/tests/build/install_program.cc
prefix=$TEST_TMPDIR/prefix
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig

fail() { echo "FAILED: $*"; exit 1; }

echo "== the installer"
[[ $(./install_as_built --help) == *"--prefix=DIR"* ]] || fail "--help does not say --prefix=DIR"
if ./install_as_built 2>"$TEST_TMPDIR/error"; then fail "it ran without --prefix"; fi
grep -q 'prefix=DIR is needed' "$TEST_TMPDIR/error" || fail "unclear: $(<"$TEST_TMPDIR/error")"
if ./install_as_built --prefix 2>"$TEST_TMPDIR/error"; then fail "it ran without a folder"; fi
grep -q 'needs a folder' "$TEST_TMPDIR/error" || fail "unclear: $(<"$TEST_TMPDIR/error")"

./install_as_built --prefix=/opt/coord --destdir="$TEST_TMPDIR/package"
grep -qx 'prefix=/opt/coord' "$TEST_TMPDIR/package/opt/coord/lib/pkgconfig/coord.pc" || fail "destdir was recorded"
./install_as_built --prefix "$prefix"
./install_as_built --prefix "$prefix" >/dev/null || fail "a second installation over the first"

echo "== the installed headers include nothing that is not installed"
headers=$TEST_TMPDIR/headers.cc
(cd "$prefix/include" && find . -name '*.h' | sort | sed 's|^\./|#include "|; s|$|"|') >"$headers"
[[ $(wc -l <"$headers") -ge 20 ]] || fail "too few headers: $(<"$headers")"
g++ -std=c++17 -fsyntax-only -Wall -Wextra -Werror $(pkg-config --cflags coord) "$headers" || fail "they do not compile"

echo "== the shared library"
library=$prefix/lib/libcoord.so
[[ $(readelf -d "$library") == *"SONAME"*"[libcoord.so.0]"* ]] || fail "no soname"
nm -DC --defined-only "$library" >"$TEST_TMPDIR/symbols"
grep -q ' T kv::Open(' "$TEST_TMPDIR/symbols" || fail "kv::Open is not exported"
for symbol in coord::Cluster::Join coord::OpenBackends coord::NatsEvents kv::OpenNatsStore kv::OpenMemcachedStore kv::WipeSecrets; do
  grep -q " T $symbol(" "$TEST_TMPDIR/symbols" || fail "$symbol is not exported"
done
for needed in libnats libmemcached libsqlite3; do
  [[ $(readelf -d "$library") == *NEEDED*"[$needed.so"* ]] || fail "it does not name $needed"
  [[ $(pkg-config --libs coord-static) == *" -l${needed#lib}"* ]] || fail "coord-static.pc does not name $needed"
done

g++ -std=c++17 -Wall -Wextra -Werror "$program" $(pkg-config --cflags --libs coord) -o "$TEST_TMPDIR/shared"
[[ $(ldd "$TEST_TMPDIR/shared") == *"libcoord.so.0 => not found"* ]] || fail "it is not linked to libcoord.so.0"
out=$(LD_LIBRARY_PATH=$prefix/lib "$TEST_TMPDIR/shared")
[[ $out =~ ^fence\ [1-9][0-9]*$ ]] || fail "the program printed: $out"

echo "== the static library"
g++ -std=c++17 -Wall -Wextra -Werror "$program" $(pkg-config --cflags --libs coord-static) -o "$TEST_TMPDIR/static"
[[ $(ldd "$TEST_TMPDIR/static") != *libcoord* ]] || fail "it is linked to the shared library"
out=$("$TEST_TMPDIR/static")
[[ $out =~ ^fence\ [1-9][0-9]*$ ]] || fail "the program printed: $out"
