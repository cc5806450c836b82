"""The examples do what they say, several processes at once."""

import os
import re
import signal
import subprocess
import sys

import pytest
import stubs
import torch
from same_values import assert_same


def example(name, server, *arguments):
    command = [sys.executable, stubs.SOURCE / "examples" / name, "--target", server.target, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(stubs.SOURCE / "client/python"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def pulled(server, folder, ref):
    server.sconce("pull", ref, "-o", folder / f"{ref}.pt")
    return torch.load(folder / f"{ref}.pt")


def test_one_process_trains_and_another_serves_the_best(server, rpc):
    serving = example("serve_best.py", server, "--run", "cnn", "--epochs", "4")
    training = example("train_loop.py", server, "--run", "cnn", "--epochs", "4")
    trained, served = said(training), said(serving)
    assert [line.split(":")[0] for line in trained.splitlines()[:-1]] == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    best = rpc.checkpoints.GetCheckpoint(stubs.checkpoints.GetCheckpointRequest(name="projects/default/runs/cnn/checkpoints/best"), timeout=10)
    assert best.version == 3, "the last epoch goes wrong on purpose"
    assert trained.splitlines()[-1] == "the latest is cnn@4, the best is cnn@3"
    assert f"the best is version {best.version}" in served.splitlines()[-1]
    assert f"serving version {best.version} (epoch {best.epoch}" in served


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_was_killed_goes_on_bit_for_bit(server, tmp_path, optimizer):
    """Killed in the middle of its third epoch, when the save of the second may or may not be over."""
    words = ("--optimizer", optimizer, "--epochs", "5")
    whole = said(example("train_loop.py", server, "--run", f"whole-{optimizer}", *words))
    killed = example("train_loop.py", server, "--run", f"cut-{optimizer}", *words)
    lines = []
    while not any(line.startswith("epoch 2") for line in lines):
        lines.append(killed.stdout.readline())
        assert lines[-1], lines
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    resumed = said(example("train_loop.py", server, "--run", f"cut-{optimizer}", "--resume", *words))
    after = int(re.match(r"resumed after epoch (\d+)$", resumed, re.MULTILINE)[1])
    assert after in (1, 2)
    losses = [line for line in whole.splitlines() if line.startswith("epoch")]
    assert [line for line in resumed.splitlines() if line.startswith("epoch")] == losses[after:]
    for epoch in range(after, 6):
        assert_same(pulled(server, tmp_path, f"cut-{optimizer}@{epoch}"), pulled(server, tmp_path, f"whole-{optimizer}@{epoch}"))


def test_resuming_a_run_that_is_not_there_begins_it(server):
    assert said(example("train_loop.py", server, "--run", "new", "--epochs", "1", "--resume")).startswith("nothing was saved yet")


def test_a_warm_start(server, tmp_path):
    said(example("train_loop.py", server, "--run", "source", "--epochs", "2"))
    lines = said(example("warm_start.py", server, "--run", "source", "--into", "fine")).splitlines()
    assert lines[0] == "source@1 into Net: 8 of 10 keys match (80.0%), 2 mismatched"
    assert lines[1] == "source@1 into Net: 8 of 10 keys match (80.0%), 2 missing, 2 unexpected"
    assert lines[2] == "to be learned: fc3.weight, fc3.bias; not taken: ten_classes.weight, ten_classes.bias"
    assert re.fullmatch(r"saved as fine@1: 0 of \d+ bytes were new", lines[3]), "of the layers that were taken nothing, and the new one is in the manifest"
    fine, source = pulled(server, tmp_path, "fine@1")["model_state_dict"], pulled(server, tmp_path, "source@1")["model_state_dict"]
    assert all(torch.equal(fine[key], source[key]) for key in source if not key.startswith("fc3"))
    assert fine["fc3.weight"].shape == (2, 84)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_version_of_devices_that_are_not_here(server, tmp_path):
    torch.save({"a": torch.rand(500), "b": {"c": torch.rand(500)}}, tmp_path / "cpu.pt")
    server.sconce("push", tmp_path / "cpu.pt", "devices")
    server.sconce("pull", "devices", "--map-location", "cuda:1", "-o", tmp_path / "gpu.pt")
    server.sconce("push", tmp_path / "gpu.pt", "devices")
    lines = said(example("load_on_devices.py", server, "--run", "devices@2")).splitlines()
    assert lines[0] == "saved on cuda:1"
    assert lines[1] == "as saved: {'cpu': 2}"
    assert lines[2] == "warning: this host lacks cuda:1: what was saved there is on the CPU now; give map_location to choose"
    assert lines[3] == "remapped: {'cpu': 2}"
    assert lines[4].startswith("no GPU here: Attempting to deserialize object on")
