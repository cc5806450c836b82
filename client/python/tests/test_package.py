"""The package as a whole: its version, its types, its examples, and that it installs without a compiler."""

import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
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


def test_a_wheel_has_all_of_it(tmp_path):
    pytest.importorskip("wheel", reason="no python3-wheel here")
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    build = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.name == f"sconce-{sconce.__version__}-py3-none-any.whl"
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (PACKAGE / "sconce").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {str(path.relative_to(PACKAGE)) for path in files} <= packed
