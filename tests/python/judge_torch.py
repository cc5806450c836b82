#!/usr/bin/python3
"""PyTorch judges files that Sconce wrote: each must load as the tree that expected.json (of the folder of the original) describes.

    judge_torch.py EXPECTED_JSON FILE...            judges FILEs, each by the entry of its own name
    judge_torch.py --rewrite TOOL FOLDER...         rewrites every file of the FOLDERs with TOOL first, and judges the results; with
                                                    --shared also those of the shared fixtures, where they are

Every file is loaded plainly, and, where this PyTorch has them, with weights_only=True and with mmap=True. Exits 77 without PyTorch.
"""

import argparse
import collections
import hashlib
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: this Python has no torch (apt-get install python3-torch)")
    sys.exit(77)

VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split("a")[0].split(".")[:2])
# Modules, not trees.
NOT_REWRITTEN = {"bnnet_scripted_train_mode.pt", "bnnet_traced.pt"}
# PyTorch 1.13 has another function for these than newer ones, so no file can be for both.
COMPRESSED = {"sparse_csr": ("crow", "col"), "sparse_csc": ("ccol", "row"), "sparse_bsr": ("crow", "col"), "sparse_bsc": ("ccol", "row")}


class Mismatch(Exception):
    pass


class Judge:
    """Compares one loaded file with its tree."""

    def __init__(self):
        self.tags = {}  # data pointer of a storage: the tag in the file
        self.storage_of = {}  # number in the tree: data pointer
        self.number_of = {}

    def map_location(self, storage, location):
        self.tags[storage.data_ptr()] = location
        return storage

    def check(self, value, node, path):
        kind = node["kind"]
        try:
            getattr(self, "check_" + kind, self.check_scalar)(value, node, path)
        except Mismatch:
            raise
        except Exception as error:  # a wrong type shows as any error at all
            raise Mismatch(f"{path}: {type(value).__name__} where a {kind} should be: {error!r}") from error

    def equal(self, got, expected, path):
        if got != expected or type(got) is not type(expected):
            raise Mismatch(f"{path}: {got!r}, expected {expected!r}")

    def check_scalar(self, value, node, path):
        expected = {
            "none": lambda v: None,
            "bool": bool,
            "int": int,
            "str": str,
            "bytes": bytes.fromhex,
            "dtype": lambda v: getattr(torch, v.split(".")[1]),
            "device": torch.device,
            "size": torch.Size,
        }[node["kind"]](node["value"])
        self.equal(value, expected, path)

    def check_float(self, value, node, path):
        self.equal(value.hex(), float.fromhex(node["value"]).hex(), path)

    def check_complex(self, value, node, path):
        self.equal([value.real.hex(), value.imag.hex()], [float.fromhex(v).hex() for v in node["value"]], path)

    def check_items(self, values, node, path):
        self.equal(len(values), len(node["items"]), path + " length")
        for i, (value, item) in enumerate(zip(values, node["items"])):
            self.check(value, item, f"{path}/{i}")

    def check_list(self, value, node, path):
        self.equal(type(value), list, path)
        self.check_items(value, node, path)

    def check_tuple(self, value, node, path):
        self.equal(type(value), tuple, path)
        self.check_items(value, node, path)

    def check_dict(self, value, node, path, expected_type=dict):
        self.equal(type(value), expected_type, path)
        self.equal(len(value), len(node["items"]), path + " length")
        for (key, element), (key_node, element_node) in zip(value.items(), node["items"]):
            self.check(key, key_node, f"{path} key")
            self.check(element, element_node, f"{path}/{key}")

    def check_ordered_dict(self, value, node, path):
        self.check_dict(value, node, path, collections.OrderedDict)

    def check_counter(self, value, node, path):
        self.check_dict(value, node, path, collections.Counter)

    def check_tensor(self, t, node, path):
        self.equal(str(t.dtype), "torch." + node["dtype"], path + " dtype")
        self.equal(list(t.shape), node["shape"], path + " shape")
        if "layout" in node:
            self.equal(str(t.layout), "torch." + node["layout"], path + " layout")
            if node["layout"] == "sparse_coo":
                parts = {"indices": t._indices(), "values": t._values()}
            else:
                parts = {name: getattr(t, name + "_indices")() for name in COMPRESSED[node["layout"]]}
                parts["values"] = t.values()
            for name, part in parts.items():
                self.check_tensor(part, node[name], f"{path}/{name}")
            return
        self.equal(list(t.stride()), node["stride"], path + " stride")
        self.equal(t.requires_grad, node["requires_grad"], path + " requires_grad")
        self.equal(isinstance(t, torch.nn.Parameter), node["parameter"], path + " is a Parameter")
        t = t.detach()
        if node["device"] == "meta":
            self.equal(t.device.type, "meta", path + " device")
            return
        self.equal(t.storage_offset(), node["storage_offset"], path + " storage_offset")
        storage = (t.untyped_storage() if hasattr(t, "untyped_storage") else t.storage()).data_ptr()
        if t.numel() != 0:
            self.equal(self.tags[storage], node["device"], path + " device tag")
        if "storage" in node:
            self.equal(self.storage_of.setdefault(node["storage"], storage), storage, path + " shares its storage")
            self.equal(self.number_of.setdefault(storage, node["storage"]), node["storage"], path + " has its own storage")
        self.equal(hashlib.sha256(contiguous_bytes(t)).hexdigest(), node["sha256"], path + " sha256")


def contiguous_bytes(t):
    if t.numel() == 0:
        return b""
    # Through bytes of the storage, since contiguous() lacks some of the dtypes.
    storage = t.untyped_storage() if hasattr(t, "untyped_storage") else t.storage().untyped()
    size = t.element_size()
    raw = torch.tensor([], dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))
    parts = raw.as_strided(
        tuple(t.shape) + (size,), tuple(s * size for s in t.stride()) + (1,), t.storage_offset() * size
    )
    return parts.contiguous().numpy().tobytes()


def ways_of_loading(name):
    yield "plain", {"weights_only": False} if VERSION >= (2, 0) else {}
    if VERSION >= (2, 6):  # the weights-only loader of 1.13 knows no floats
        yield "weights_only", {"weights_only": True}
        yield "mmap", {"weights_only": True, "mmap": True}


def needs_newer_torch(node):
    """A dtype or layout in the tree that this PyTorch does not know (from our files), or None."""
    if isinstance(node, dict):
        if node.get("layout") in COMPRESSED and VERSION < (2, 0):
            return "torch." + node["layout"]
        if node.get("kind") == "tensor" and not hasattr(torch, node["dtype"]):
            return node["dtype"]
        return next(filter(None, map(needs_newer_torch, node.values())), None)
    if isinstance(node, list):
        return next(filter(None, map(needs_newer_torch, node)), None)
    return None


def judge(path, entry):
    missing = needs_newer_torch(entry["tree"])
    if missing or (VERSION < (2, 1) and has_untyped(path)):
        print(f"{path}: not judged, {missing or 'its dtypes'} came after this PyTorch, or changed")
        return
    for way, options in ways_of_loading(path):
        one = Judge()
        try:
            loaded = torch.load(path, map_location=one.map_location, **options)
            one.check(loaded, entry["tree"], "")
        except Exception as error:
            raise Mismatch(f"{path}, loaded {way} by PyTorch {torch.__version__}: {error}") from error


def has_untyped(path):
    with open(path, "rb") as file:
        return b"_rebuild_tensor_v3" in file.read()


def judge_folder(expected_json, paths):
    with open(expected_json, encoding="utf-8") as file:
        expected = json.load(file)
    failures = 0
    for path in paths:
        try:
            judge(path, expected[os.path.basename(path)])
        except Mismatch as error:
            print(error)
            failures += 1
    return failures


def rewrite(tool, folder, target):
    with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
        names = [n for n, entry in json.load(file).items() if "tree" in entry and n not in NOT_REWRITTEN]
    for name in names:
        if os.path.exists(os.path.join(folder, name)):
            subprocess.run([tool, os.path.join(folder, name), os.path.join(target, name)], check=True)
    return [os.path.join(target, name) for name in names if os.path.exists(os.path.join(target, name))]


def shared_folders():
    source = os.environ.get("SCONCE_SOURCE_DIR", ".")
    for shared in (os.environ.get("SCONCE_SHARED_DIR", ""), os.path.join(source, "..", "shared")):
        fixtures = os.path.join(shared, "fixtures")
        if shared and os.path.isdir(fixtures):
            return sorted(os.path.join(fixtures, name) for name in os.listdir(fixtures) if name.startswith("torch-"))
    print("the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR): only the repository's own files are judged")
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rewrite", metavar="TOOL")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    if options.shared:
        options.arguments += shared_folders()
    judged = failures = 0
    if options.rewrite:
        for folder in options.arguments:
            with tempfile.TemporaryDirectory() as target:
                paths = rewrite(options.rewrite, folder, target)
                judged += len(paths)
                failures += judge_folder(os.path.join(folder, "expected.json"), paths)
    else:
        judged = len(options.arguments) - 1
        failures = judge_folder(options.arguments[0], options.arguments[1:])
    print(f"{judged} files, {failures} wrong, by PyTorch {torch.__version__}")
    return 1 if failures or not judged else 0


if __name__ == "__main__":
    sys.exit(main())
