"""The package as a whole: its version, its types, its examples, and that it installs without a compiler."""

import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import sconce
from conftest import SOURCE

PACKAGE = SOURCE / "client/python"


def modules():
    return sorted(module.name for module in pkgutil.walk_packages(sconce.__path__, "sconce."))


def test_its_version_is_the_projects():
    project = re.search(r"^project\(sconce VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert sconce.__version__ == project


# Modules that need what may not be here, or not as new; their examples are tested where it is.
NEEDS = {"lightning": "Lightning", "_lightning_files": "fsspec", "transformers": "transformers"}
NEEDS.update({name: "PyTorch 2.3" for name in ("distributed", "_distributed_index", "_distributed_read")})


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        needed = "PyTorch" if error.name == "torch" else NEEDS.get(name.partition(".")[2])
        if needed is None:
            raise
        pytest.skip(f"no {needed} here: {error}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_importing_it_imports_no_torch():
    code = "import sconce, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, check=False).returncode == 0


def test_mypy_finds_nothing(tmp_path):
    if shutil.which("mypy") is None:
        pytest.skip("no mypy here: apt install mypy")
    result = subprocess.run(["mypy", "--strict", "--cache-dir", tmp_path], cwd=PACKAGE, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def source(tmp_path):
    """A copy of the package to build in."""
    pytest.importorskip("wheel", reason="no python3-wheel here")
    folder = tmp_path / "source"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "tests", "build", "*.egg-info"))
    return folder


def build(source, what, into):
    code = f"from setuptools import build_meta; import sys; build_meta.build_{what}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(into)], cwd=source, check=True, capture_output=True)
    return next(into.glob("*.whl" if what == "wheel" else "*.tar.gz"))


def files_of_the_package():
    files = (path for path in (PACKAGE / "sconce").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(PACKAGE)) for path in files}


def test_a_wheel_has_all_of_it(source, tmp_path):
    wheel = build(source, "wheel", tmp_path)
    assert wheel.name == f"sconce-{sconce.__version__}-py3-none-any.whl"
    assert files_of_the_package() <= set(zipfile.ZipFile(wheel).namelist())


def test_a_source_distribution_makes_the_same_wheel(source, tmp_path):
    archive = build(source, "sdist", tmp_path)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked")
    wheel = build(next((tmp_path / "unpacked").iterdir()), "wheel", tmp_path)
    assert files_of_the_package() <= set(zipfile.ZipFile(wheel).namelist())


def fresh_environment(folder, *options):
    try:
        import ensurepip  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
    except ImportError:
        pytest.skip("no python3-venv here")
    subprocess.run([sys.executable, "-m", "venv", *options, str(folder)], check=True, capture_output=True)
    return folder / "bin/python"


def pip(python, *words):
    return subprocess.run([str(python), "-m", "pip", *words], capture_output=True, text=True, check=False, cwd="/", timeout=600)


def test_pip_installs_it_beside_the_systems_packages(source, tmp_path):
    """Without network: what it needs is there."""
    python = fresh_environment(tmp_path / "venv", "--system-site-packages")
    installed = pip(python, "install", "--no-build-isolation", "--no-index", str(source))
    assert installed.returncode == 0, installed.stdout + installed.stderr
    code = "import sconce, sys; print(sconce.__version__, sconce.__file__)"
    out = subprocess.run([str(python), "-c", code], cwd="/", check=True, capture_output=True, text=True).stdout.split()
    assert out[0] == sconce.__version__ and str(tmp_path / "venv") in out[1]


def test_pip_installs_it_with_what_it_needs(source, tmp_path):
    """With the newest releases of grpcio and protobuf, which come from the network."""
    python = fresh_environment(tmp_path / "venv")
    installed = pip(python, "install", "--retries", "0", "--timeout", "20", str(source))
    if installed.returncode and ("No matching distribution" in installed.stderr or "onnection" in installed.stderr):
        pytest.skip(f"no network here: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    code = "import grpc, sconce; run = sconce.connect('localhost:1', retries=1).run('r'); print(grpc.__version__); run.info()"
    out = subprocess.run([str(python), "-c", code], cwd="/", check=False, capture_output=True, text=True)
    assert "UnavailableError" in out.stderr and "cannot reach the server at localhost:1" in out.stderr, out.stderr
