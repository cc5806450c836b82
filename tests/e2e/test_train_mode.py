"""Train mode that eval() cannot switch is found wherever it hides, by name; what only looks like it is served."""

import pytest
import torch
from torch import nn
from workers import deploy, infer, needs_torch

pytestmark = needs_torch


def traced(module, *shape):
    return torch.jit.trace(module.train(), torch.rand(*shape), check_trace=False)


class Packed(nn.Module):
    """An LSTM over a packed sequence is another overload, with its flag elsewhere."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 2, num_layers=2, dropout=0.5)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3]))
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]


class InBranch(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if x.numel() > 5:
            for _ in range(x.size(0)):
                x = self.inner(x)
        return x


class ThroughMethod(InBranch):
    def helper(self, x):
        return self.inner(x)

    def forward(self, x):
        return self.helper(x) + 1


class InFork(InBranch):
    def forward(self, x):
        return torch.jit.wait(torch.jit.fork(self.inner, x))


@torch.jit.interface
class Layer(nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # pylint: disable=redefined-builtin
        pass


class ThroughInterface(nn.Module):
    inner: Layer

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


FROZEN = {
    "dropout": ("aten::dropout", lambda: traced(nn.Dropout(0.5), 4, 4)),
    "feature-dropout": ("aten::feature_dropout", lambda: traced(nn.Dropout2d(0.5), 1, 2, 4, 4)),
    "alpha-dropout": ("aten::alpha_dropout", lambda: traced(nn.AlphaDropout(0.5), 4)),
    "feature-alpha-dropout": ("aten::feature_alpha_dropout", lambda: traced(nn.FeatureAlphaDropout(0.5), 1, 2, 4, 4)),
    "rrelu": ("aten::rrelu", lambda: traced(nn.RReLU(), 4)),
    "gru": ("aten::gru", lambda: traced(nn.GRU(2, 2, num_layers=2, dropout=0.5), 3, 1, 2)),
    "rnn": ("aten::rnn_tanh", lambda: traced(nn.RNN(2, 2, num_layers=2, dropout=0.5), 3, 1, 2)),
    "packed-lstm": ("aten::lstm", lambda: traced(Packed(), 3, 1, 2)),
    "batch-norm": ("aten::batch_norm", lambda: traced(nn.BatchNorm2d(2), 2, 2, 4, 4)),
    "instance-norm": ("aten::instance_norm", lambda: traced(nn.InstanceNorm1d(2, track_running_stats=True), 2, 2, 4)),
    "in-branch": ("aten::dropout", lambda: torch.jit.script(InBranch(traced(nn.Dropout(0.5), 4)))),
    "through-method": ("aten::dropout", lambda: torch.jit.script(ThroughMethod(traced(nn.Dropout(0.5), 4)))),
    "in-fork": ("aten::dropout", lambda: torch.jit.script(InFork(traced(nn.Dropout(0.5), 4)))),
    "through-interface": ("aten::dropout", lambda: torch.jit.script(ThroughInterface(traced(nn.Dropout(0.5), 4)))),
}

HARMLESS = {
    "instance-norm-without-statistics": (lambda: nn.InstanceNorm1d(2), (2, 2, 4)),
    "dropout-of-nothing": (lambda: nn.Dropout(0.0), (4,)),
    "attention-without-dropout": (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), (3, 1, 4)),
    "scripted-in-train-mode": (lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()), (4, 4)),
}


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_train_mode_is_named(server, tmp_path, name):
    operator, make = FROZEN[name]
    make().save(tmp_path / "net.pt")
    result = deploy(server, name, tmp_path / "net.pt")
    assert result.returncode != 0 and "TRAINING_MODE_FROZEN" in result.stderr and operator in result.stderr, result.stderr


@pytest.mark.parametrize("name", HARMLESS)
def test_what_eval_switches_or_nothing_needs_to_is_served(server, rpc, tmp_path, name):
    make, shape = HARMLESS[name]
    module, x = make(), torch.rand(*shape)
    net = module if isinstance(module, torch.jit.ScriptModule) else traced(module, *shape)
    net.save(tmp_path / "net.pt")
    deploy(server, name, tmp_path / "net.pt", check=True)
    first, again = infer(rpc, name, x.numpy())[0], infer(rpc, name, x.numpy())[0]
    assert first.tobytes() == again.tobytes()
