"""How much memory loading and saving take beyond the tensors themselves: at most a tenth of them, in a process of its own.

Measured is the peak of the resident set from just before the call on. MARGIN is for what does not grow with the checkpoint: messages, windows of HTTP/2, what
malloc keeps, and modules that Python imports meanwhile: seen were 10 to 50 MiB, and 65 on a machine so busy that more waited to be read. A second copy would be
four times as much.
"""

import subprocess
import sys

import pytest
import sconce
from conftest import SOURCE

torch = pytest.importorskip("torch")

MIB = 1 << 20
LAYERS, SIDE = 24, 2048
SIZE = LAYERS * SIDE * SIDE * 4  # 384 MiB
MARGIN = 96 * MIB

_CODE = """
import pathlib, re, sys
sys.path.insert(0, sys.argv[3])
import torch
import sconce

def status(field):
    return int(re.search(rf"^{field}:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)[1]) << 10

def model(dtype=torch.float32):
    made = torch.nn.ModuleList(torch.nn.Linear(SIDE, SIDE, bias=False) for _ in range(LAYERS)).to(dtype)
    for parameter in made.parameters():
        torch.nn.init.zeros_(parameter)
    return made

run = sconce.connect(sys.argv[1]).run(sys.argv[2])
SETUP
run.get(1)  # a connection, and all modules
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
CALL
print(status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def saved(server):
    torch.manual_seed(1)
    with sconce.connect(server.target) as client:
        run = client.run("large")
        run.save({f"{number}.weight": torch.rand(SIDE, SIDE) for number in range(LAYERS)}, progress=False)
        yield run


def peak(server, call, setup="pass"):
    code = _CODE
    for name, value in {"SETUP": setup, "CALL": call, "LAYERS": LAYERS, "SIDE": SIDE}.items():
        code = code.replace(name, str(value))
    command = [sys.executable, "-c", code, server.target, "large", str(SOURCE / "client/python")]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize("call", ["loaded = run.load(1)", 'loaded = run.load(1, map_location="cpu", only="/**")'])
def test_of_a_load(server, saved, call):
    taken = peak(server, call + f"\nassert sum(t.numel() for t in loaded.values()) == {SIZE // 4}")
    assert SIZE * 0.9 < taken < SIZE * 1.1 + MARGIN, taken / MIB


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_of_a_load_into_a_model(server, saved, dtype):
    """Which has its memory already: what comes besides is a tenth of it at most, also where every tensor is converted."""
    taken = peak(server, "run.load_into(target, 1)\nassert all(p[0, 0] != 0 for p in target.parameters())", f"target = model(torch.{dtype})")
    assert taken < SIZE * 0.1 + MARGIN, taken / MIB


def test_of_a_save_in_the_background(server, saved):
    """One copy of the tensors, and the second save uses the memory of the first."""
    setup = "state = {k: v.uniform_() for k, v in model().state_dict().items()}"
    call = """
for number in range(3):
    run.save_async(state)
    for tensor in state.values():
        tensor.add_(1)
run.wait()
"""
    taken = peak(server, call, setup)
    assert SIZE * 0.9 < taken < SIZE * 1.1 + MARGIN, taken / MIB
