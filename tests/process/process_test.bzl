"""Tests that run workers."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def process_test(name, deps = [], tags = [], size = "medium", worker = "//tests/process:worker"):
    """A test NAME.cc whose processes are workers."""
    cc_test(
        name = name,
        size = size,
        srcs = [name + ".cc"],
        data = [worker],
        env = {"COORD_TEST_WORKER": "$(rootpath %s)" % worker},
        tags = tags,
        deps = [
            "//tests/process",
            "@com_google_absl//absl/status",
            "@com_google_absl//absl/strings",
            "@com_google_absl//absl/time",
            "@com_google_googletest//:gtest_main",
        ] + deps,
    )
