#!/usr/bin/env python3
"""Fails when a source file includes what its layer may not use.

    check_layers.py [SOURCE_DIR]      check a tree (default: the one this file is in)
    check_layers.py --self-test       check that the check notices

The table below is docs/architecture.md's picture as data. A folder may include itself and what its row names, nothing
else: permission is not inherited. The longest row that matches a file's path decides.
"""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Third-party names -> how their headers are spelled.
THIRD_PARTY = {
    "absl": r"absl/",
    "openssl": r"openssl/",
    "xxhash": r"xxhash\.h$",
    "isal": r"(isa-l|isa-l/.*|crc\.h|crc64\.h|igzip_lib\.h)$",
    "records": r"storage/catalog/records\.pb\.h$",  # what is persisted; the wire's messages are "protobuf"
    "protobuf": r"google/protobuf/|(?!storage/).*\.pb\.h$",
    "grpc": r"(grpc|grpcpp|grpc\+\+)/|.*\.grpc\.pb\.h$",
    "rocksdb": r"rocksdb/",
    "torch": r"(torch|ATen|c10|caffe2)/",
    "prometheus": r"prometheus/",
    "json": r"nlohmann/",
    "gtest": r"(gtest|gmock)/",
    "benchmark": r"benchmark/",
}

# Folder -> (folders of ours it may include, third parties it may include). "*" is everything of ours but torch_runtime.
LAYERS = {
    "base": ([], ["absl", "openssl", "xxhash", "isal"]),
    "storage/format": (["base"], ["absl", "xxhash", "isal"]),
    "storage/blob": (["base"], ["absl", "xxhash"]),
    "storage/catalog": (["base"], ["absl", "protobuf", "records", "rocksdb"]),
    "storage/repository": (["base", "storage/format", "storage/blob", "storage/catalog"], ["absl", "records", "xxhash"]),
    "proto/wire": (["base", "storage/format"], ["absl", "protobuf", "grpc", "xxhash"]),
    "server/rpc": (["base", "proto/wire"], ["absl", "protobuf", "grpc"]),
    "server/services": (
        ["base", "storage/format", "storage/repository", "proto/wire", "server/rpc", "server/inference"],
        ["absl", "protobuf", "grpc", "xxhash"],
    ),
    "server/worker_protocol": (["base", "storage/format"], ["absl"]),
    "server/inference": (["base", "storage/format", "server/worker_protocol"], ["absl"]),
    "server/torch_runtime": (["base", "storage/format", "server/worker_protocol"], ["absl", "torch"]),
    "server/observability": (["base"], ["absl", "prometheus"]),
    "server": (["*"], ["absl", "grpc"]),  # the composition root: server/*.cc itself
    "client/cpp": (["base", "storage/format", "proto/wire"], ["absl", "openssl", "protobuf", "grpc", "xxhash"]),
    "client/cli": (["base", "storage/format", "proto/wire", "client/cpp"], ["absl", "protobuf", "grpc"]),
    "tests": (["*", "tests"], sorted(set(THIRD_PARTY) - {"torch"})),
    "tests/bench": (["*", "tests", "server/torch_runtime"], sorted(THIRD_PARTY)),
    "tests/unit/server/torch_runtime": (["*", "tests", "server/torch_runtime"], sorted(THIRD_PARTY)),
}

OURS = ("base/", "storage/", "proto/", "server/", "client/", "tests/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """The row of LAYERS that a path (of a file, or as an include spells it) falls under, or None."""
    rows = [row for row in LAYERS if path.startswith(row + "/")]
    return max(rows, key=len, default=None)


def third_party_of(header):
    """Names of the third parties a header belongs to; a .grpc.pb.h is both protobuf's and gRPC's."""
    return [name for name, pattern in THIRD_PARTY.items() if re.match(pattern, header)]


def problems_of_include(layer, quote, header):
    folders, libraries = LAYERS[layer]
    parties = third_party_of(header)
    if parties:
        return [f"{layer} may not use {p}: {header}" for p in parties if p not in libraries]
    if not header.startswith(OURS):
        return [f"nobody knows what {header} is: name it by its path from the top of the tree"] if quote == '"' else []
    target = layer_of(header)
    if target is None:
        return [f"{header} is in no layer: add its folder to cmake/check_layers.py and docs/architecture.md"]
    allowed = target == layer or target in folders or any(target.startswith(f + "/") for f in folders)
    if "*" in folders and target != "server/torch_runtime" and not target.startswith("tests"):
        allowed = True
    return [] if allowed else [f"{layer} may not include {target}: {header}"]


def check(root):
    problems = []
    count = 0
    for top in OURS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            count += 1
            name = path.relative_to(root).as_posix()
            layer = layer_of(name)
            if layer is None:
                problems.append(f"{name}: this folder is in no layer: add it to cmake/check_layers.py and docs/architecture.md")
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if match:
                    problems += [f"{name}:{number}: {p}" for p in problems_of_include(layer, match[1], match[2])]
    return count, problems


def self_test():
    """Each case is a file with one include; the check must refuse exactly those marked False."""
    cases = [
        ("base/a.h", '"storage/format/manifest.h"', False),
        ("base/a.h", "<grpcpp/grpcpp.h>", False),
        ("base/a.h", '"absl/status/status.h"', True),
        ("base/a.h", "<vector>", True),
        ("storage/format/a.cc", '"storage/blob/blob_store.h"', False),
        ("storage/format/a.cc", '"base/error.h"', True),
        ("storage/blob/a.cc", "<rocksdb/db.h>", False),
        ("storage/catalog/a.cc", "<rocksdb/db.h>", True),
        ("storage/repository/a.cc", '"sconce/v1/checkpoint.pb.h"', False),
        ("storage/repository/a.cc", '"storage/catalog/catalog.h"', True),
        ("storage/repository/a.cc", '"storage/catalog/records.pb.h"', True),
        ("server/services/a.cc", '"storage/catalog/records.pb.h"', False),
        ("server/services/a.cc", '"storage/catalog/catalog.h"', False),
        ("server/services/a.cc", '"sconce/v1/checkpoint_service.grpc.pb.h"', True),
        ("server/inference/a.cc", '"server/services/x.h"', False),
        ("server/inference/a.cc", "<torch/script.h>", False),
        ("server/torch_runtime/a.cc", "<ATen/ATen.h>", True),
        ("server/torch_runtime/a.cc", "<grpcpp/grpcpp.h>", False),
        ("server/server.cc", '"server/torch_runtime/worker.h"', False),
        ("server/server.cc", '"storage/catalog/rocksdb_catalog.h"', True),
        ("client/cli/a.cc", '"client/cpp/client.h"', True),
        ("client/cli/a.cc", '"storage/repository/repository.h"', False),
        ("tests/unit/storage/blob/a_test.cc", "<rocksdb/db.h>", True),
        ("tests/unit/storage/blob/a_test.cc", "<torch/script.h>", False),
        ("tests/unit/server/torch_runtime/a_test.cc", "<torch/script.h>", True),
        ("base/a.h", '"neighbour.h"', False),
        ("storage/newcomer/a.h", "<vector>", False),
    ]
    wrong = []
    for path, include, allowed in cases:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True)
            file.write_text(f"#include {include}\n", encoding="utf-8")
            count, problems = check(pathlib.Path(folder))
            if count != 1 or bool(problems) == allowed:
                wrong.append(f"{path} including {include} should be {'allowed' if allowed else 'refused'}: {problems}")
    return len(cases), wrong


def main(arguments):
    if arguments == ["--self-test"]:
        count, problems = self_test()
    else:
        count, problems = check(pathlib.Path(arguments[0]).resolve() if arguments else ROOT)
        if count == 0:
            problems = ["no source files found"]
    for problem in problems:
        print(problem)
    print(f"layering: {count} checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
