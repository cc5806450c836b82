"""Random pairs of a model and a state_dict that more or less fits it, from fixed seeds: what warm starts are judged on.

What PyTorch 1.13 and newer releases disagree about is left out (storage/format/load_plan.h says where): a key with the name of a
submodule or below a tensor, and several elements for a 0-dim parameter. So is what cannot be told from a model's own state_dict:
unexpected keys below a submodule that has no tensors.
"""

import collections
import random

import torch
from torch import nn


class WithExtraState(nn.Linear):
    """Saves a value beside its tensors."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        self.calls = state


class Scaled(nn.Module):
    """Parameters without dimensions, a buffer that is saved, one that is not, and one that is None."""

    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(()))
        self.register_buffer("offset", torch.rand(size, dtype=torch.float64))
        self.register_buffer("scratch", torch.rand(3), persistent=False)
        self.register_buffer("absent", None)


def layer(rng):
    size = rng.randint(1, 4)
    return rng.choice(
        [
            lambda: nn.Linear(size, rng.randint(1, 4), bias=rng.random() < 0.7),
            lambda: nn.Conv2d(size, 2, 3),
            lambda: nn.BatchNorm1d(size),
            lambda: nn.BatchNorm2d(size, affine=False),
            lambda: nn.BatchNorm1d(size, track_running_stats=False),
            lambda: nn.InstanceNorm1d(size, track_running_stats=True),
            lambda: nn.Embedding(size, 2),
            lambda: nn.LSTM(size, 2),
            lambda: nn.ParameterList([nn.Parameter(torch.rand(size)) for _ in range(rng.randint(1, 3))]),
            lambda: Scaled(size),
            lambda: WithExtraState(size, 2),
            nn.ReLU,
        ]
    )()


class Net(nn.Module):
    def __init__(self, rng, depth=0):
        super().__init__()
        for number in range(rng.randint(1, 4)):
            if depth < 3 and rng.random() < 0.35:
                made = Net(rng, depth + 1)
            elif rng.random() < 0.2:
                made = nn.Sequential(*(layer(rng) for _ in range(rng.randint(1, 3))))
            else:
                made = layer(rng)
            setattr(self, rng.choice(["enc", "dec", "head", "norm", "block"]) + str(number), made)
        if rng.random() < 0.3:
            self.token = nn.Parameter(torch.rand(2, 1))


def without(state, key):
    del state[key]


def reshaped(rng, tensor):
    if not isinstance(tensor, torch.Tensor):
        return tensor
    if tensor.dim() == 0:
        return tensor.reshape(1) if rng.random() < 0.7 else torch.rand(2, 2)
    return rng.choice([lambda: tensor.unsqueeze(0), lambda: torch.rand(*tensor.shape[:-1], tensor.shape[-1] + 1), lambda: torch.rand(())])()


def mutated(rng, state):
    """The state_dict with keys dropped, added, of other sizes and types. Its _metadata stays, or goes, or is an old one."""
    metadata = state._metadata
    state = collections.OrderedDict(state)
    keys = list(state)
    for key in rng.sample(keys, rng.randint(0, len(keys) // 3)):
        without(state, key)
    for key in rng.sample(list(state), rng.randint(0, min(3, len(state)))):
        state[key] = reshaped(rng, state[key])
    for key in rng.sample(list(state), rng.randint(0, min(3, len(state)))):
        if isinstance(state[key], torch.Tensor) and state[key].is_floating_point():
            state[key] = state[key].to(rng.choice([torch.float16, torch.float64]))
    if keys and rng.random() < 0.3:
        key = rng.choice(keys)
        if not key.endswith("_extra_state"):
            state[key] = rng.choice([3, 2.5, None, [1], "text", (1, 2), {"a": 1}])
    modules = sorted({key.rpartition(".")[0] for key in keys}) or [""]
    for number in range(rng.randint(0, 4)):
        where = rng.choice(modules)
        name = rng.choice([f"odd{number}", f"odd.deep{number}", "_extra_state" if f"{where}._extra_state".lstrip(".") not in keys else "odd"])
        state[f"{where}.{name}".lstrip(".")] = torch.rand(2)
    items = list(state.items())
    if rng.random() < 0.5:
        rng.shuffle(items)
    state = collections.OrderedDict(items)
    age = rng.random()
    if age < 0.4:
        state._metadata = metadata
    elif age < 0.7:  # as PyTorch 0.4.0 saved it
        state._metadata = collections.OrderedDict((name, {"version": 1}) for name in metadata)
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            without(state, key)
    elif age < 0.85:
        state._metadata = collections.OrderedDict()
    return state


def prefixed(state, prefix):
    """As a wrapper such as DistributedDataParallel saves it: all keys, and the modules of _metadata, below one name."""
    result = collections.OrderedDict((prefix + key, value) for key, value in state.items())
    if hasattr(state, "_metadata"):
        result._metadata = collections.OrderedDict([("", {"version": 1})])
        for name, local in state._metadata.items():
            result._metadata[(prefix + name).rstrip(".") if not name else prefix + name] = local
    return result


Pair = collections.namedtuple("Pair", "model state saved rules")


def pair(seed):
    """A model; the state_dict to load; the same as it was saved, under other names; and the rules that lead from there to the former."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    model = Net(rng)
    twin = Net(random.Random(seed)) if rng.random() < 0.8 else Net(rng)
    if seed % 8 == 0:
        state = Net(random.Random(seed)).state_dict()  # of the same model: it fits
    else:
        state = mutated(rng, twin.state_dict())
    prefix = rng.choice(["", "", "module.", "_orig_mod.", "model.", "module._orig_mod."])
    saved = prefixed(state, prefix) if prefix else state
    rules = {"strip_prefixes": [part + "." for part in prefix.split(".")[:-1]]}
    return Pair(model, state, saved, rules)
