"""Libraries of the system as Bazel repositories, found by pkg-config.

    system_library(
        name = "com_google_absl",
        debian_package = "libabsl-dev",
        targets = {"absl/status:statusor": ["absl_statusor"]},
    )

makes @com_google_absl//absl/status:statusor link what `pkg-config --libs absl_statusor` says. The labels are those of
the library's own Bazel build, so that BUILD files do not tell where a library comes from. Headers outside of the
compiler's own search path are linked into the repository, and so are system headers to the compiler: our warnings do
not apply to them. Other compiler flags than -I and -D are refused, for a dependency should not change how we compile.
"""

def _install_hint(package):
    return "install it with: sudo apt-get install " + package

def _pkg_config(ctx, flag, modules):
    tool = ctx.which("pkg-config")
    if not tool:
        fail("\n\n@%s needs pkg-config, which is not installed; %s\n" % (ctx.name, _install_hint("pkg-config")))
    result = ctx.execute([tool, flag] + modules)
    if result.return_code != 0:
        fail("\n\npkg-config does not find %s for @%s. It is in the Debian package %s; %s\n\n%s" % (
            " ".join(modules),
            ctx.name,
            ctx.attr.debian_package,
            _install_hint(ctx.attr.debian_package),
            result.stderr,
        ))
    return [word for word in result.stdout.strip().split(" ") if word]

def _compile_attributes(ctx, package, name, modules):
    """Attributes of cc_library for the -I and -D of `modules`; links the folders of -I into `package`."""
    includes, defines = [], []
    for word in _pkg_config(ctx, "--cflags", modules):
        if word.startswith("-D"):
            defines.append(word[2:])
        elif word.startswith("-I"):
            folder = "%s_include_%d" % (name, len(includes))
            ctx.symlink(word[2:], (package + "/" if package else "") + folder)
            includes.append(folder)
        elif word != "-pthread":
            fail("pkg-config --cflags %s says %s: only -I, -D and -pthread are understood" % (modules, word))
    headers = ["%s/**" % folder for folder in includes]
    return "    defines = %r,\n    includes = %r,\n    hdrs = glob(%r),\n" % (defines, includes, headers)

def _target(ctx, label, modules):
    package, _, name = label.partition(":")
    name = name or package.split("/")[-1]
    linkopts = ctx.attr.extra_linkopts.get(label, []) + _pkg_config(ctx, "--libs", modules)
    return package, "cc_library(\n    name = %r,\n%s    linkopts = %r,\n)\n" % (
        name,
        _compile_attributes(ctx, package, name, modules),
        linkopts,
    )

def _system_library_impl(ctx):
    packages = {}
    for label, modules in ctx.attr.targets.items():
        package, text = _target(ctx, label, modules)
        packages.setdefault(package, []).append(text)
    for package, targets in packages.items():
        ctx.file(
            (package + "/" if package else "") + "BUILD.bazel",
            "\n".join(['package(default_visibility = ["//visibility:public"])\n'] + targets),
        )

system_library = repository_rule(
    implementation = _system_library_impl,
    attrs = {
        "debian_package": attr.string(
            mandatory = True,
            doc = "named when a module is missing",
        ),
        "extra_linkopts": attr.string_list_dict(
            doc = "label -> linker words that come before those of pkg-config",
        ),
        "targets": attr.string_list_dict(
            mandatory = True,
            doc = "label, without the repository -> pkg-config modules",
        ),
    },
    environ = ["PKG_CONFIG_PATH"],
    local = True,
)
