"""The examples do what they say, two processes at once."""

import os
import subprocess
import sys

import stubs


def example(name, server, *arguments):
    command = [sys.executable, stubs.SOURCE / "examples" / name, "--target", server.target, "--run", "cnn", *arguments]
    environment = {**os.environ, "PYTHONPATH": stubs.FOLDER, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_one_process_trains_and_another_serves_the_best(server, rpc):
    serving = example("serve_best.py", server, "--epochs", "4")
    training = example("train_loop.py", server, "--epochs", "4")
    trained, _ = training.communicate(timeout=240)
    served, _ = serving.communicate(timeout=240)
    assert training.returncode == 0, trained
    assert serving.returncode == 0, served
    assert [line.split()[-1] for line in trained.splitlines()] == ["1", "2", "3", "4"]
    best = rpc.checkpoints.GetCheckpoint(stubs.checkpoints.GetCheckpointRequest(name="projects/default/runs/cnn/checkpoints/best"), timeout=10)
    assert best.version == 3, "the last epoch goes wrong on purpose"
    assert f"the best is version {best.version}" in served.splitlines()[-1]
    assert f"serving version {best.version} (epoch {best.epoch}" in served
