#!/usr/bin/env python3
"""Fails when a header cannot be included alone.

    check_headers.py BUILD_DIR        a configured and built tree, for its compile_commands.json
    check_headers.py --self-test

A header with a .cc of the same name needs no compile of its own: the .cc must include it before anything else, so the build
has already proved it. Only the others are compiled here, with the flags of the nearest source file (and through ccache where that is
installed, so that a second time costs little).
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("base", "storage", "proto", "server", "client", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def first_include(source):
    match = INCLUDE.search(source.read_text(encoding="utf-8"))
    return match[1] if match else None


def nearest_flags(header, commands):
    """Compiler and include flags of a source file in the header's folder, or else in the closest one above that has any."""
    folder = header.parent
    while folder != folder.parent:
        for source, words in commands:
            if folder in source.parents:
                flags = [words[0]]
                rest = iter(words[1:])
                for word in rest:
                    if word in ("-isystem", "-I", "-include"):
                        flags += [word, next(rest)]
                    elif word.startswith(("-I", "-D", "-std=", "-isystem")):
                        flags.append(word)
                return flags
        folder = folder.parent
    return ["c++", "-std=c++17", f"-I{ROOT}"]


def compile_alone(name, flags, build):
    """The compiler's complaint about a source file that includes nothing but this header, or ""."""
    stub = build / "header_checks" / (name + ".cc")
    stub.parent.mkdir(parents=True, exist_ok=True)
    text = f'#include "{name}"\n'
    if not stub.exists() or stub.read_text(encoding="utf-8") != text:
        stub.write_text(text, encoding="utf-8")
    launcher = ["ccache"] if shutil.which("ccache") else []
    command = [*launcher, *flags, "-c", str(stub), "-o", str(stub.with_suffix(".o"))]
    environment = {"CCACHE_NOHASHDIR": "1", "CCACHE_BASEDIR": str(build.parent.parent), **os.environ}
    result = subprocess.run(command, cwd=build, env=environment, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stderr


def check(root, build):
    commands = []
    with open(build / "compile_commands.json", encoding="utf-8") as file:
        for entry in json.load(file):
            words = shlex.split(entry["command"])
            if pathlib.Path(words[0]).name == "ccache":
                words = words[1:]
            commands.append((pathlib.Path(entry["directory"], entry["file"]).resolve(), words))
    torch_built = any("torch_runtime" in source.parts for source, _ in commands)

    problems, alone, count = [], [], 0
    for folder in FOLDERS:
        for header in sorted((root / folder).rglob("*.h")):
            name = header.relative_to(root).as_posix()
            if "torch_runtime" in header.parts and not torch_built:
                continue
            count += 1
            source = header.with_suffix(".cc")
            if not source.exists():
                alone.append((name, nearest_flags(header, commands)))
            elif first_include(source) != name:
                problems.append(f"{source.relative_to(root)}: includes {first_include(source)} before its own header {name}")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda item: compile_alone(*item, build), alone)
        for (name, _), error in zip(alone, results):
            if error:
                problems.append(f"{name} cannot be included alone:\n{error}")
    return count, len(alone), problems


def self_test():
    """A tree with one good and one bad header of each sort; exactly the bad ones must be named."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        files = {
            "base/good.h": "#include <string>\ninline std::string Good();\n",
            "base/needy.h": "inline std::string Needy();\n",
            "base/first.h": "int First();\n",
            "base/first.cc": '#include "base/first.h"\n#include <string>\n',
            "base/late.h": "int Late();\n",
            "base/late.cc": '#include <string>\n#include "base/late.h"\n',
        }
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        entry = {"directory": folder, "file": "base/first.cc", "command": f"c++ -std=c++17 -I{folder} -c base/first.cc"}
        (root / "compile_commands.json").write_text(json.dumps([entry]), encoding="utf-8")
        count, alone, problems = check(root, root)
        named = sorted(re.match(r"base/\w+", p)[0] for p in problems)
        return count, [] if (count, alone, named) == (4, 2, ["base/late", "base/needy"]) else [f"found {named} of {count}"]


def main(arguments):
    if arguments == ["--self-test"]:
        count, problems = self_test()
        alone = count
    elif len(arguments) == 1:
        count, alone, problems = check(ROOT, pathlib.Path(arguments[0]).resolve())
        if count == 0:
            problems = ["no headers found"]
    else:
        sys.exit(__doc__)
    for problem in problems:
        print(problem)
    print(f"headers: {count} checked, {alone} of them compiled alone, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
