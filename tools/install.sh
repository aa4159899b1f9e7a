#!/usr/bin/env bash
# Installs headers, libcoord.so, libcoord.a and the pkg-config files.
#
#   bazel run //:install -- --prefix=DIR [--destdir=DIR]
#
#   --prefix=DIR   where the library will be used: DIR/include, DIR/lib, DIR/lib/pkgconfig
#   --destdir=DIR  put in front of every path written, but of none recorded: for building packages
#
# Afterwards, with DIR/lib/pkgconfig in PKG_CONFIG_PATH unless it is searched anyway:
#
#   c++ -std=c++17 main.cc $(pkg-config --cflags --libs coord)           links libcoord.so
#   c++ -std=c++17 main.cc $(pkg-config --cflags --libs coord-static)    links libcoord.a
set -euo pipefail

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() { printf 'install: %s\n' "$1" >&2; exit 64; }

# Bazel runs this in its own folder; relative paths are meant from the caller's.
absolute() { [[ $1 == /* ]] && echo "$1" || echo "${BUILD_WORKING_DIRECTORY:-$caller}/$1"; }

caller=$PWD prefix='' destdir=''
while (($#)); do
  case $1 in
    --prefix=?*) prefix=${1#*=} ;;
    --destdir=?*) destdir=${1#*=} ;;
    --prefix | --destdir)
      [[ -n ${2-} ]] || fail "$1 needs a folder"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) fail "unknown argument $1; see --help" ;;
  esac
  shift
done
[[ -n $prefix ]] || fail "--prefix=DIR is needed: where should the library go? See --help"
prefix=$(absolute "$prefix")
root=${destdir:+$(absolute "$destdir")}$prefix

[[ ! -d ${BASH_SOURCE[0]}.runfiles ]] || cd "${BASH_SOURCE[0]}.runfiles/coord"
shared=$(echo libcoord.so.*.*.*)
soname=${shared%.*.*}

install -d "$root/lib/pkgconfig" "$root/include"
cp -RL --no-preserve=mode include/. "$root/include/"
install -m 755 "$shared" "$root/lib/$shared"
ln -sfn "$shared" "$root/lib/$soname"
ln -sfn "$soname" "$root/lib/libcoord.so"
install -m 644 libcoord.a "$root/lib/libcoord.a"
for file in coord.pc coord-static.pc; do
  text=$(<"$file")
  printf '%s\n' "${text//@prefix@/$prefix}" >"$root/lib/pkgconfig/$file"
  chmod 644 "$root/lib/pkgconfig/$file"
done
echo "installed below $root: include, lib/$shared, lib/libcoord.a, lib/pkgconfig/coord.pc"
