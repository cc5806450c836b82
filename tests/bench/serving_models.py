"""The modules that serving_bench.py serves, and what they are asked."""

import io

import torch

INPUTS = 256
CLASSES = 10


class Scale(torch.nn.Module):
    """Next to nothing: what a call costs beside its forward()."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.rand(1))

    def forward(self, x):
        return x * self.w


class Mlp(torch.nn.Module):
    """A small MLP: 400 thousand weights, 1.6 MB."""

    def __init__(self, hidden=512):
        super().__init__()
        self.first = torch.nn.Linear(INPUTS, hidden)
        self.second = torch.nn.Linear(hidden, hidden)
        self.last = torch.nn.Linear(hidden, CLASSES)

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class Encoder(torch.nn.Module):
    """A small transformer encoder, as for a sentence: 16 tokens of 16 numbers, width 64, 2 layers; 70 thousand weights."""

    def __init__(self, width=64):
        super().__init__()
        self.tokens = torch.nn.Linear(INPUTS // 16, width)
        layer = torch.nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=2 * width, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, num_layers=2)
        self.last = torch.nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.last(self.encoder(self.tokens(x.view(x.size(0), 16, -1))).mean(1))


class Versioned(Mlp):
    """A smaller one, of whose weights tell which version they are of: the least and the greatest number of each are the version's in `marks`, and with ones as
    input each unit is h * v + v, of v and the units h before it. serving_load.cc --versions checks both."""

    def __init__(self):
        super().__init__(hidden=128)

    def forward(self, x):
        h = x
        marks = []
        layers = [(self.first.weight, self.first.bias), (self.second.weight, self.second.bias), (self.last.weight, self.last.bias)]
        for i, (weight, bias) in enumerate(layers):
            marks += [weight.min(), weight.max(), bias.min(), bias.max()]
            h = torch.nn.functional.linear(h, weight) / weight.size(1) + bias
            if i < 2:
                h = torch.relu(h)
        return {"y": h, "marks": torch.stack(marks).expand(x.size(0), len(marks))}


def versioned_weights(module, version):
    return {key: torch.full_like(value, version) for key, value in module.state_dict().items()}


def ones():
    return torch.ones(1, INPUTS)


def save_module(module, path):
    torch.jit.script(module.eval()).save(str(path))
    return path


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def write_floats(path, tensor):
    path.write_bytes(tensor.contiguous().numpy().tobytes())
    return path
