"""Programs that a test needs fast, whatever the rest is built like."""

def _to_opt_impl(_settings, _attr):
    return {"//command_line_option:compilation_mode": "opt"}

_to_opt = transition(
    implementation = _to_opt_impl,
    inputs = [],
    outputs = ["//command_line_option:compilation_mode"],
)

def _optimized_impl(ctx):
    binary = ctx.attr.binary[0][DefaultInfo]
    program = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = program, target_file = binary.files_to_run.executable, is_executable = True)
    return [DefaultInfo(executable = program, runfiles = binary.default_runfiles)]

optimized = rule(
    doc = "The program `binary`, built with -c opt.",
    implementation = _optimized_impl,
    executable = True,
    attrs = {
        "binary": attr.label(cfg = _to_opt, mandatory = True),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
