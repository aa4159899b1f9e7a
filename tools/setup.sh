# Sourced by ./test, ./quickstart and .ci/run, from the top folder: installs what the build needs, and runs Bazel.
#
#   setup [PACKAGE...]      installs the packages of the build, and those named, as far as they are missing
#   run_bazel COMMAND...    Bazel, with its output in a folder that can be written
#   stop_bazel              ends Bazel's server, so that nothing is left running

BUILD_PACKAGES=(
  bazel-bootstrap g++ pkg-config python3
  libabsl-dev libbenchmark-dev libcpp-httplib-dev libgmock-dev libicu-dev libmemcached-dev libnats-dev
  libsqlite3-dev libssl-dev nlohmann-json3-dev
)
# What tests and examples start, in folders and at ports of their own. Installing them may start a service of the machine
# as well; nothing here talks to it.
SERVER_PACKAGES=(iproute2 libfaketime memcached nats-server openssl patch)

say() { printf '%s\n' "$*" >&2; }

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# One line in fifty of what apt-get says, all of it in a log that is shown when it fails.
apt_get() {
  local log status=0 as_root=()
  [[ $(id -u) == 0 ]] || as_root=(sudo)
  log=$(mktemp)
  (
    set -o pipefail
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" 2>&1 | tee "$log" |
      awk '/^(Get:|Unpacking|Setting up)/ && ++n % 50 == 0 {print "  " $0; fflush()}' >&2
  ) || status=$?
  ((status == 0)) || tail -n 20 "$log" >&2
  rm -f "$log"
  return "$status"
}

setup() {
  local package missing=()
  if ! command -v dpkg-query >/dev/null; then
    say "The set-up knows Debian's packages only. Install what these hold, then go on: ${BUILD_PACKAGES[*]} $*"
    return 69
  fi
  for package in "${BUILD_PACKAGES[@]}" "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if [[ $(id -u) != 0 ]] && ! command -v sudo >/dev/null; then
    say "Packages are missing, and there is no sudo. Run as root: apt-get update && apt-get install ${missing[*]}"
    return 77
  fi
  say "Installing with apt-get: ${missing[*]}"
  apt_get update || say "The lists of packages could not be renewed; trying with those at hand."
  apt_get install --no-install-recommends "${missing[@]}" || {
    say "Not installed. Try: apt-get update && apt-get install ${missing[*]}"
    return 69
  }
}

run_bazel() {
  local options=()
  # Bazel keeps its output under the home folder; a service or a container may have none.
  if [[ -z ${HOME-} || ! -w ${HOME-} ]]; then
    options=(--output_user_root="${TMPDIR:-/tmp}/coord-bazel-$(id -u)")
  fi
  HOME=${HOME:-/} bazel "${options[@]}" "$@"
}

stop_bazel() { run_bazel shutdown >/dev/null 2>&1 || true; }
