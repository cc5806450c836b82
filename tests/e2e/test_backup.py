"""Backups of a server that is pushed to, and catalogs rebuilt, on the real programs."""

import shutil
import subprocess
import threading

import numpy as np
import pytest
import sconced
import torch


@pytest.fixture
def server(tmp_path):
    (tmp_path / "backups").mkdir()
    server = sconced.Server(tmp_path / "data", ["--backup-dir", str(tmp_path / "backups")]).start()
    yield server
    server.stop()


def tensors(seed):
    frozen = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    own = np.random.default_rng(seed).standard_normal(5_000).astype(np.float32)
    return {"frozen": torch.from_numpy(frozen), "own": torch.from_numpy(own), "seed": seed}


def push(server, path, run, seed):
    torch.save(tensors(seed), path)
    server.sconce("push", path, run)


def check_all(server, tmp_path):
    """Every version of every run has the bytes it was pushed with; returns how many there are."""
    checked = 0
    for line in server.sconce("runs", "-o", "name").stdout.split():
        for version in server.sconce("ls", line, "-o", "name").stdout.split():
            out = tmp_path / "fetched.pt"
            server.sconce("pull", version, "-o", out)
            fetched = torch.load(out)
            expected = tensors(fetched["seed"])
            assert torch.equal(fetched["own"], expected["own"]) and torch.equal(fetched["frozen"], expected["frozen"])
            checked += 1
    return checked


def test_a_backup_under_load_is_whole(server, tmp_path):
    stop = threading.Event()
    failures = []

    def work(name, first):
        try:
            seed = first
            while not stop.is_set():
                push(server, tmp_path / f"{name}.pt", name, seed)
                if seed - first >= 2:
                    server.sconce("rm", f"{name}@{seed - first - 1}")
                seed += 1
        except Exception as error:  # shown below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"run{i}", 1000 * (i + 1))) for i in range(2)]
    for thread in threads:
        thread.start()
    push(server, tmp_path / "before.pt", "before", 1)
    for i in range(3):
        server.sconce("admin", "backup", f"copy{i}")
        server.sconce("admin", "gc")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    for i in range(3):
        copy = sconced.Server(tmp_path / f"backups/copy{i}").start()
        try:
            assert check_all(copy, tmp_path) >= 1
            assert copy.sconce("ls", "before", "-o", "name").stdout.split(), "what was acknowledged before is in it"
        finally:
            copy.stop()
    assert check_all(server, tmp_path) >= 1


def test_paths_outside_are_refused(server, tmp_path):
    for bad in ("../x", str(tmp_path / "x"), ""):
        result = server.sconce("admin", "backup", bad, check=False)
        assert result.returncode != 0 and "BACKUP_PATH_INVALID" in result.stderr
    assert not (tmp_path / "x").exists()


def test_a_lost_catalog_is_rebuilt(server, tmp_path):
    for seed in range(3):
        push(server, tmp_path / "a.pt", "run", seed)
    server.stop()
    shutil.rmtree(tmp_path / "data/catalog")
    refused = subprocess.run([sconced.BIN / "sconced", "--data-dir", tmp_path / "data"], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1 and "--rebuild-catalog" in refused.stderr
    rebuilt = subprocess.run([sconced.BIN / "sconced", "--data-dir", tmp_path / "data", "--rebuild-catalog"], capture_output=True, text=True,
                             check=False, timeout=60)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert [line.split()[-1] for line in rebuilt.stdout.splitlines() if line.startswith("versions")] == ["3"]
    server.start()
    assert check_all(server, tmp_path) == 3
