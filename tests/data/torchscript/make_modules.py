"""Writes the TorchScript archives beside this file (PyTorch 1.13; newer ones read them): small modules for tests of the worker.

    python3 make_modules.py [FOLDER]
"""

import pathlib
import sys
import warnings
from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.ones(1))

    def forward(self, x):
        return x * self.w


class Throws(Scale):
    def forward(self, x):
        if x.numel() >= 0:
            raise RuntimeError("it throws")
        return x * self.w


class Mismatch(nn.Module):
    """Raises what an operator raises: the message is at the end of the interpreter's traceback."""

    def forward(self, x):
        return torch.mm(x, x)


class Many(nn.Module):
    """Arguments of several kinds, and a dict."""

    def forward(self, x, n: int = 2, scale: float = 1.0, negate: bool = False, bias: Optional[Tensor] = None) -> Dict[str, Tensor]:
        y = x * n * scale
        if negate:
            y = -y
        if bias is not None:
            y = y + bias
        return {"y": y, "size": torch.tensor(x.numel())}


class Pair(nn.Module):
    def forward(self, x) -> Tuple[Tensor, Tensor]:
        return x.t(), x > 0


class Text(nn.Module):
    def forward(self, x, name: str):
        return x


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.bn = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.bn(self.fc(x)))


class BatchStatistics(nn.Module):
    """Uses the batch's own statistics in eval mode too, as it was told to."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x):
        return self.bn(x)


def traced(module, training, *shape):
    module.train(training)
    return torch.jit.trace(module, torch.ones(*shape), check_trace=False)


MODULES = {
    "scale": lambda: torch.jit.script(Scale()),
    "throws": lambda: torch.jit.script(Throws()),
    "mismatch": lambda: torch.jit.script(Mismatch()),
    "many": lambda: torch.jit.script(Many()),
    "pair": lambda: torch.jit.script(Pair()),
    "text": lambda: torch.jit.script(Text()),
    "linear": lambda: torch.jit.script(Linear()),
    "frozen": lambda: traced(nn.Dropout(0.5), True, 4),
    "frozen_batch_norm": lambda: traced(nn.BatchNorm1d(3), True, 2, 3),
    "frozen_lstm": lambda: traced(nn.LSTM(2, 2, num_layers=2, dropout=0.5), True, 3, 1, 2),
    "traced_in_eval": lambda: traced(Linear(), False, 4, 2),
    "harmless_dropout": lambda: traced(nn.Dropout(0.0), True, 4),
    "batch_statistics": lambda: traced(BatchStatistics(), False, 4, 3),
}

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    warnings.simplefilter("ignore")
    for name, make in MODULES.items():
        torch.manual_seed(0)
        torch.jit.save(make(), str(folder / f"{name}.pt"))
