"""One fuzzing target: NAME is the fuzzer, NAME_test runs the corpus and some mutations of it in every build."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def fuzz_target(name, srcs, deps, runs = 20000):
    """`srcs` define LLVMFuzzerTestOneInput; `runs`: how many mutations the test makes."""
    corpus = native.glob(["corpus/%s/**" % name])
    folder = "tests/fuzz/corpus/" + name
    cc_library(
        name = name + "_harness",
        srcs = srcs,
        deps = deps + [":check"],
        alwayslink = True,
    )
    cc_test(
        name = name + "_test",
        size = "small",
        srcs = ["driver.cc"],
        args = [folder, str(runs)],
        data = corpus,
        deps = [":" + name + "_harness"],
    )

    # It links with --config=fuzz alone.
    cc_binary(
        name = name,
        args = [folder],
        data = corpus,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_harness"],
    )
