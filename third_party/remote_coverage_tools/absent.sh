#!/bin/sh
echo "bazel coverage is not supported: its tools would have to be downloaded" >&2
exit 1
