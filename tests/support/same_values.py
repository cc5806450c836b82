"""Whether two loaded checkpoints are the same, bit for bit."""

import torch


def assert_same(ours, theirs, path=""):
    assert type(ours) is type(theirs), path
    if isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(ours, theirs), path
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs), path
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{path}/{key}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for number, (one, other) in enumerate(zip(ours, theirs)):
            assert_same(one, other, f"{path}/{number}")
    else:
        assert ours == theirs, path
