"""What `bazel run //:install` lays out: one static library, the public headers, and the pkg-config files."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _files(ctx, files):
    """Files to build that are also found by a program that has the target among its data."""
    return DefaultInfo(files = files, runfiles = ctx.runfiles(transitive_files = files))

def _linker_inputs(ctx):
    return [i for dep in ctx.attr.deps for i in dep[CcInfo].linking_context.linker_inputs.to_list()]

def _system_flags(ctx):
    """The -l words of the system libraries below, each once, where the linker needs it last."""
    flags = []
    for linker_input in _linker_inputs(ctx):
        for flag in linker_input.user_link_flags:
            if flag.startswith("-l") or flag == "-pthread":
                if flag in flags:
                    flags.remove(flag)
                flags.append(flag)
    return flags

def _merged_library_impl(ctx):
    cc_toolchain = find_cpp_toolchain(ctx)
    archives = {}
    for linker_input in _linker_inputs(ctx):
        for library in linker_input.libraries:
            archive = library.pic_static_library or library.static_library
            if not archive:
                fail("%s: no archive to merge" % linker_input.owner)
            archives[archive] = None
    merged = ctx.actions.declare_file("lib%s.a" % ctx.attr.library)
    script = ctx.actions.declare_file(ctx.attr.name + ".mri")
    lines = ["CREATE " + merged.path] + ["ADDLIB " + a.path for a in archives] + ["SAVE", "END"]
    ctx.actions.write(script, "\n".join(lines) + "\n")
    ctx.actions.run_shell(
        command = '"$1" -M <"$2"',
        arguments = [cc_toolchain.ar_executable, script.path],
        inputs = depset([script] + archives.keys(), transitive = [cc_toolchain.all_files]),
        outputs = [merged],
        mnemonic = "MergeArchives",
    )
    library = cc_common.create_library_to_link(
        actions = ctx.actions,
        feature_configuration = cc_common.configure_features(ctx = ctx, cc_toolchain = cc_toolchain),
        cc_toolchain = cc_toolchain,
        pic_static_library = merged,
        alwayslink = True,
    )
    linker_input = cc_common.create_linker_input(
        owner = ctx.label,
        libraries = depset([library]),
        user_link_flags = depset(_system_flags(ctx)),
    )
    linking_context = cc_common.create_linking_context(linker_inputs = depset([linker_input]))
    return [_files(ctx, depset([merged])), CcInfo(linking_context = linking_context)]

merged_library = rule(
    doc = """lib<library>.a of everything first-party below `deps`. As a dependency it is linked whole, so that a
    cc_binary(linkshared = 1) over it exports all its symbols.""",
    implementation = _merged_library_impl,
    attrs = {
        "deps": attr.label_list(
            mandatory = True,
            providers = [CcInfo],
        ),
        "library": attr.string(mandatory = True),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

def _public_headers_impl(ctx):
    tree = ctx.actions.declare_directory(ctx.attr.name)
    contexts = [dep[CcInfo].compilation_context for dep in ctx.attr.deps]
    arguments = ctx.actions.args()
    arguments.add(tree.path)
    arguments.add_all([header for c in contexts for header in c.direct_public_headers])
    ctx.actions.run(
        executable = ctx.file._collect,
        arguments = [arguments],
        inputs = depset(transitive = [c.headers for c in contexts]),
        outputs = [tree],
        mnemonic = "CollectHeaders",
    )
    return [_files(ctx, depset([tree]))]

public_headers = rule(
    doc = "A folder with the headers of `deps` themselves and whatever of this project they include.",
    implementation = _public_headers_impl,
    attrs = {
        "deps": attr.label_list(
            mandatory = True,
            providers = [CcInfo],
        ),
        "_collect": attr.label(
            default = "//tools:collect_headers.py",
            allow_single_file = True,
        ),
    },
)

def _pkg_config_files_impl(ctx):
    outputs = []
    for template in ctx.files.templates:
        output = ctx.actions.declare_file(template.basename[:-len(".in")])
        ctx.actions.expand_template(
            template = template,
            output = output,
            substitutions = {
                "@system_libraries@": " ".join(_system_flags(ctx)),
                "@version@": ctx.attr.version,
            },
        )
        outputs.append(output)
    return [_files(ctx, depset(outputs))]

pkg_config_files = rule(
    doc = "Fills NAME.pc.in with the version and the system libraries; the installer fills in @prefix@.",
    implementation = _pkg_config_files_impl,
    attrs = {
        "deps": attr.label_list(
            mandatory = True,
            providers = [CcInfo],
        ),
        "templates": attr.label_list(
            mandatory = True,
            allow_files = [".pc.in"],
        ),
        "version": attr.string(mandatory = True),
    },
)

def _to_opt(_settings, _attr):
    return {"//command_line_option:compilation_mode": "opt"}

_opt_transition = transition(
    implementation = _to_opt,
    inputs = [],
    outputs = ["//command_line_option:compilation_mode"],
)

def _optimized_impl(ctx):
    return [_files(ctx, depset(transitive = [s[DefaultInfo].files for s in ctx.attr.srcs]))]

optimized = rule(
    doc = "The files of `srcs`, built with -c opt whatever the command line says.",
    implementation = _optimized_impl,
    attrs = {
        "srcs": attr.label_list(
            mandatory = True,
            cfg = _opt_transition,
        ),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
