"""What models answer equals what Python's torch computes of the same module, weights and input in eval mode, within 1e-5."""

import conftest
import pytest
import torch
from torch import nn
from workers import deploy, infer, needs_torch

pytestmark = needs_torch
TOLERANCE = 1e-5


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """The published layers: 11.7 million parameters."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.blocks = nn.Sequential(*[Block(*width) for width in widths])
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(512, 1000)

    def forward(self, x):
        return self.head(self.drop(self.blocks(self.stem(x)).mean([2, 3])))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.lstm = nn.LSTM(32, 64, num_layers=2, dropout=0.4, bidirectional=True, batch_first=True)
        self.head = nn.Linear(128, 7)

    def forward(self, tokens):
        out, (hidden, _) = self.lstm(self.embed(tokens))
        return self.head(out), hidden


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.norm = nn.LayerNorm(64)

    def forward(self, x):
        return self.norm(self.encoder(x))


def settle(net):
    """Weights and statistics that are not the ones a module is made with."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.dtype.is_floating_point:
                value.add_(torch.randn_like(value) * 0.02)
    return net


CASES = {
    "resnet": (ResNet18, lambda: torch.rand(2, 3, 64, 64)),
    "lstm": (Recurrent, lambda: torch.randint(0, 100, (3, 11))),
    "transformer": (Encoder, lambda: torch.rand(2, 9, 64)),
}


def archive(net, example, how):
    if how == "trace":
        return torch.jit.trace(net.eval(), example, check_trace=False)
    try:
        return torch.jit.script(net.train())  # as a trainer leaves it: eval mode is ours to set
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"this PyTorch cannot script it: {str(error).splitlines()[0]}")


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_pytorch(server, rpc, tmp_path, case, how):
    make, draw = CASES[case]
    example = draw()
    archive(settle(make()), example, how).save(tmp_path / "net.pt")
    trained = settle(make()).eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    torch.save({"state_dict": trained.state_dict(), "epoch": 3}, tmp_path / "weights.pt")
    deploy(server, f"{case}-{how}", tmp_path / "net.pt", tmp_path / "weights.pt", "/state_dict", check=True)
    for x in (example, draw()):
        with torch.no_grad():
            expected = trained(x)
        outputs = infer(rpc, f"{case}-{how}", x.numpy())
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        assert len(outputs) == len(expected)
        for ours, theirs in zip(outputs, expected):
            assert ours.shape == tuple(theirs.shape)
            assert theirs.abs().max() > 1e-2, "zeros would equal anything"
            assert (torch.from_numpy(ours.copy()) - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["scale", "traced_in_eval", "linear", "harmless_dropout"])
def test_the_fixtures_answer_as_in_pytorch(server, rpc, name):
    path = conftest.DATA / "torchscript" / f"{name}.pt"
    deploy(server, name.replace("_", "-"), path, check=True)
    module = torch.jit.load(path).eval()
    x = torch.rand(4, 2)
    with torch.no_grad():
        expected = module(x)
    [ours] = infer(rpc, name.replace("_", "-"), x.numpy())
    assert (torch.from_numpy(ours.copy()) - expected).abs().max() < TOLERANCE
