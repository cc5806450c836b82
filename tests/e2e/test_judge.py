"""The judge itself, which must see every difference that other tests rely on it to see; and the files that Sconce writes before the
PyTorch of this machine and, where a root of another Debian release is ready, before that one's."""

import collections
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import conftest
import judge
import pytest
import sconced
import torch

TOOLS = sconced.BIN.parent / "tests"
ROOTS = pathlib.Path(os.environ.get("DEBIAN_ROOTS", "/var/tmp/debian-roots"))
RELEASES = ["here", "trixie", "forky"]  # PyTorch 1.13, 2.6, 2.14


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


BASE = torch.arange(12, dtype=torch.float32).reshape(3, 4)


def tied():
    return {"a": BASE[0], "b": BASE}


def with_metadata(version):
    value = collections.OrderedDict(w=BASE)
    value._metadata = {"": {"version": version}}
    return value


def sparse(column):
    return torch.sparse_coo_tensor([[0], [column]], [1.0], (2, 2))


def quantized(scale):
    return torch.quantize_per_tensor(BASE * scale, scale, 0, torch.quint8)  # of the same integers


SHARED_LIST = [1]
SHARED_TENSOR = torch.ones(2)


@pytest.mark.parametrize(
    "one, other",
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({0: 1}, {"0": 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, collections.OrderedDict(a=1)),
        ({"a": 0.0}, {"a": -0.0}),
        ([1, 2], (1, 2)),
        (BASE, BASE.double()),
        (BASE, BASE + 0.5),
        (BASE, BASE.t().contiguous().t()),
        (BASE, torch.nn.Parameter(BASE)),
        (tied(), {"a": BASE[0].clone(), "b": BASE}),
        (torch.zeros(2), torch.full((2,), -0.0)),
        (with_metadata(1), with_metadata(2)),
        ([SHARED_LIST, SHARED_LIST], [[1], [1]]),
        ([SHARED_TENSOR, SHARED_TENSOR], [SHARED_TENSOR, SHARED_TENSOR[:]]),
        (sparse(0), sparse(1)),
        (sparse(0), sparse(0).to_dense().to_sparse_csr()),
        (quantized(0.5), quantized(0.25)),
        (BASE.numpy(), BASE.t().contiguous().t().numpy()),
        (BASE.numpy(), BASE.numpy() + 1),
        (BASE.numpy(), BASE.numpy().astype("f8")),
        (BASE.numpy()[0, 1], 1.0),
    ],
)
def test_differences_are_seen(one, other):
    plain = {"weights_only": False} if judge.VERSION >= (2, 0) else {}
    assert judge.described(saved(one), **plain) == judge.described(saved(one), **plain)
    assert judge.described(saved(one), **plain) != judge.described(saved(other), **plain)


def test_an_exact_look_sees_what_no_tensor_does():
    whole = torch.zeros(100)
    other = whole.clone()
    other[50] = 1
    assert judge.described(saved(whole[:2])) == judge.described(saved(other[:2])) == judge.described(saved(whole[:2].clone()))
    looks = [judge.described(saved(value), exact=True) for value in (whole[:2], other[:2], whole[:2].clone())]
    assert len(set(looks)) == 3


# Modules, which hold no tree of values.
NOT_REWRITTEN = {"bnnet_scripted_train_mode.pt", "bnnet_traced.pt"}


def originals():
    """Every file by a real PyTorch whose tree an expected.json beside it gives."""
    tops = [conftest.DATA] + ([conftest.shared_fixtures()] if conftest.shared_fixtures() else [])
    for top in tops:
        for expected in sorted(top.rglob("expected.json")):
            for name, entry in sorted(json.loads(expected.read_text(encoding="utf-8")).items()):
                path = expected.parent / name
                if "tree" in entry and name not in NOT_REWRITTEN and path.suffix in (".pt", ".pth", ".tar") and path.exists():
                    yield top.name + "/" + str(path.relative_to(top)), path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with `originals`, what Sconce made of them (`rewritten`), and files of trees made by hand (`kinds`)."""
    folder = tmp_path_factory.mktemp("written")
    for name, path in originals():
        original, rewritten = folder / "originals" / name, folder / "rewritten" / name
        original.parent.mkdir(parents=True, exist_ok=True)
        rewritten.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, original)
        subprocess.run([TOOLS / "rewrite_torch", path, rewritten], check=True)
    (folder / "kinds").mkdir()
    subprocess.run([TOOLS / "write_kinds", folder / "kinds"], check=True)
    return folder


def judged(release, folder, script, *arguments):
    """The last line of what a script of tests/python says in that release's PyTorch about folders in `folder`."""
    if release == "here":
        command = [sys.executable, conftest.SOURCE / "tests/python" / script]
        return last_line([*command, *(a if a[0] == "-" else folder / a for a in arguments)])
    root = ROOTS / release
    if os.geteuid() != 0 or not (root / "usr/lib/python3/dist-packages/torch").is_dir():
        pytest.skip(f"needs to be root, and PyTorch in a root of Debian {release}: tests/python/judge_in_root.sh {release} makes one")
    with tempfile.TemporaryDirectory(dir=root / "tmp") as inside:
        place = pathlib.Path(inside)
        for name in ("python", "support"):
            shutil.copytree(conftest.SOURCE / "tests" / name, place / "tests" / name)
        for argument in arguments:
            if argument[0] != "-":
                shutil.copytree(folder / argument, place / argument)
        seen = pathlib.Path("/tmp") / place.name
        command = ["chroot", root, "python3", seen / "tests/python" / script]
        return last_line([*command, *(a if a[0] == "-" else seen / a for a in arguments)])


def last_line(command):
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_read_and_written_again_is_equal(written, release):
    line = judged(release, written, "judge_pairs.py", "originals", "rewritten")
    equal, wrong = int(line.split()[0]), int(line.split()[2])
    assert wrong == 0 and equal >= 20, line


@pytest.mark.parametrize("release", RELEASES)
def test_every_kind_of_value_is_written_as_pytorch_reads_it(written, release):
    line = judged(release, written, "judge_written.py", "--files", "kinds")
    loads, wrong = int(line.split()[0]), int(line.split()[2])
    assert wrong == 0 and loads >= (3 if release == "here" else 30), line
