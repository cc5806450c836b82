"""The judge itself: it must see every difference that the other tests rely on it to see."""

import collections
import io

import judge
import pytest
import torch


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


SHARED_LIST = [1]


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
    ],
)
def test_differences_are_seen(one, other):
    assert judge.described(saved(one)) == judge.described(saved(one))
    assert judge.described(saved(one)) != judge.described(saved(other))
