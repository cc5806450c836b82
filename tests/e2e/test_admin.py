"""What operators do with `sconce admin`, on the real server."""

import numpy as np
import pytest
import torch


def checkpoint(path, seed, size=200_000, **scalars):
    """A file with one tensor of random numbers."""
    generator = np.random.default_rng(seed)
    torch.save({"w": torch.from_numpy(generator.standard_normal(size).astype(np.float32)), **scalars}, path)
    return path


@pytest.fixture
def push(sconce, tmp_path):
    def call(run, seed, **scalars):
        sconce("push", checkpoint(tmp_path / f"{run}-{seed}.pt", seed, **scalars), run)

    return call


def test_stats_have_two_names(sconce):
    assert "blobs" in sconce("admin", "stats").stdout
    assert "blobs" in sconce("stats").stdout


def test_gc_frees_what_was_deleted(push, sconce, sconce_json, run):
    push(run, 1)
    before = int(sconce_json("stats")["physicalBytes"])
    assert "freedBytes" not in sconce_json("admin", "gc", "--dry-run"), "nothing is garbage yet"
    sconce("runs", "rm", run, "--force")
    sconce("admin", "gc")
    assert int(sconce_json("stats").get("physicalBytes", 0)) <= before - 800_000
