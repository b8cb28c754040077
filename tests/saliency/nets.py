"""Small seeded networks, one per way of writing a rectifier or a connection."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5


def seeded(kind: Callable[..., nn.Module], *args: object, seed: int = 0) -> nn.Module:
    """A float64 network in eval mode whose BatchNorms have seen data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(*args).double()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def images(rows: int, channels: int = 3, size: int = 16, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.rand(rows, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Cnn(nn.Module):
    """Convolutions, BatchNorm, max-pool and a head, with any activation, by module or function."""

    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.bn2 = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, CLASSES)
        self.act = act  # a module is used twice, on purpose

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.act(self.bn1(self.conv1(x))), 2)
        x = self.act(self.bn2(self.conv2(x)))
        return self.head(x.mean(dim=(2, 3)))


class Residual(nn.Module):
    """`post`: ReLU after the sum. `pre`: one tensor feeds a ReLU and a skip. `sliced`: in place on a part."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.kind == "post":
            x = F.relu(x)
            x = F.relu(x + self.conv2(F.relu(self.conv1(x))))
        elif self.kind == "pre":
            x = x + self.conv1(F.relu(x))
            x = x + self.conv2(F.relu(x))
        else:
            x = self.conv1(x)
            x[:, :5].relu_()
            x = self.conv2(x).clamp_(0, 6).div_(6)  # the rectifier's output is overwritten
        return self.head(x.mean(dim=(2, 3)))


def relu_statement(x: Tensor) -> Tensor:
    F.relu(x, inplace=True)  # the result is left unused
    return x


def overwritten_clamp(x: Tensor) -> Tensor:
    return x.clamp(min=0).mul_(2).add_(0.1)


RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu inplace": relu_statement,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "torch.relu_": torch.relu_,
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 inplace": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "nn.Hardtanh": nn.Hardtanh(0, 0.5),
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 0.5),
    "F.hardtanh_": lambda x: F.hardtanh_(x, 0.0, 0.5),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp_(0, 0.5)": lambda x: x.clamp_(0, 0.5),
    "clamp, overwritten": overwritten_clamp,
    "torch.clamp": lambda x: torch.clamp(x, 0.0, 6.0),
    "torch.clamp keywords": lambda x: torch.clamp(input=x, min=0.0),
    "clamp_min": lambda x: x.clamp_min(0),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "clip": lambda x: x.clip(0, None),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold inplace": nn.Threshold(0, 0, inplace=True),
}

# Each with the same function written without anything in place.
SMOOTH: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "nn.SiLU": (nn.SiLU(), F.silu),
    "nn.SiLU inplace": (nn.SiLU(inplace=True), F.silu),
    "F.silu": (F.silu, F.silu),
    "F.silu inplace": (lambda x: F.silu(x, True), F.silu),
    "nn.GELU": (nn.GELU(), F.gelu),
    "nn.GELU tanh": (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "F.gelu": (F.gelu, F.gelu),
    "nn.Mish": (nn.Mish(), F.mish),
    "F.mish inplace": (lambda x: F.mish(x, inplace=True), F.mish),
    "nn.Hardswish": (nn.Hardswish(), F.hardswish),
    "nn.Hardswish inplace": (nn.Hardswish(inplace=True), F.hardswish),
    "nn.ELU": (nn.ELU(0.5), lambda x: F.elu(x, 0.5)),
    "nn.ELU inplace": (nn.ELU(inplace=True), F.elu),
    "F.elu positional": (lambda x: F.elu(x, 0.5, True), lambda x: F.elu(x, 0.5)),
    "F.elu_": (F.elu_, F.elu),
    "nn.CELU": (nn.CELU(), F.celu),
    "torch.celu_": (torch.celu_, F.celu),
    "nn.SELU": (nn.SELU(), F.selu),
    "nn.SELU inplace": (nn.SELU(inplace=True), F.selu),
    "torch.selu": (torch.selu, F.selu),
    "nn.LeakyReLU": (nn.LeakyReLU(), F.leaky_relu),
    "nn.LeakyReLU inplace": (nn.LeakyReLU(0.2, inplace=True), lambda x: F.leaky_relu(x, 0.2)),
    "F.leaky_relu_": (F.leaky_relu_, F.leaky_relu),
    "nn.PReLU": (nn.PReLU(), lambda x: torch.where(x > 0, x, 0.25 * x)),
    "Tensor.prelu": (lambda x: x.prelu(x.new_tensor([0.1])), lambda x: torch.where(x > 0, x, 0.1 * x)),
    "nn.RReLU": (nn.RReLU(0.1, 0.3), lambda x: F.leaky_relu(x, 0.2)),
    "nn.Softplus": (nn.Softplus(2), lambda x: F.softplus(x, 2)),
}

# Neither rectifiers nor like one.
OTHERS: dict[str, nn.Module] = {
    "Sigmoid": nn.Sigmoid(),
    "Tanh": nn.Tanh(),
    "Hardsigmoid": nn.Hardsigmoid(),
    "Hardtanh": nn.Hardtanh(),
    "Threshold": nn.Threshold(0.1, 0.0),
}
