"""Networks as people write them, small: each one converts, and computes what it computed.

Taken from textbooks, public model code and bug reports. Two laws hold for every one: the graph
equals the model in float64, and the spiking network approaches it as steps grow finer.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn
from snnlib.conversion.trace import trace

Made = tuple[nn.Module, tuple[int, ...]]
NETWORKS: dict[str, Callable[[], Made]] = {}


def network(name: str, *shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a model class without arguments, and the shape of one of its images."""

    def enter(model: type[nn.Module]) -> type[nn.Module]:
        NETWORKS[name] = lambda: (model(), shape)
        return model

    return enter


# textbook networks


@network("LeNet of the PyTorch tutorial", 1, 16, 16)
class TutorialLeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.fc1, self.fc2 = nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        return self.fc2(F.relu(self.fc1(x)))

    def num_flat_features(self, x: Tensor) -> int:
        features = 1
        for size in x.size()[1:]:
            features *= size
        return features


@network("LeNet that asks for shapes", 1, 16, 16)
class AskingLeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 5), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x.shape) == 4
        if x.shape[1] != 1 or x.dim() != 4 or not torch.is_floating_point(x):
            raise ValueError("expected gray images")
        x = self.conv(x).relu()
        x = F.adaptive_avg_pool2d(x, (int(x.shape[2] / 2), math.ceil(x.size(-1) / 2)))
        batch = x.shape[0]
        return self.fc(x.reshape(batch, int(np.prod(x.shape[1:]))))


@network("one-image batch dimension kept by numel", 2, 4, 4)
class Numel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(len(x), x.numel() // len(x))).relu()


@network("loops over a shape", 2, 8, 8)
class Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * 8 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = [x[:, :, 4 * i : 4 * i + 4].sum(2) for i in range(x.shape[2] // 4)]
        parts = [part.mean(3, keepdim=True).relu() for part in x.split(4, 2)]
        offset = torch.zeros(x.shape[0], 2, 8, device=x.device, dtype=x.dtype)
        total = sum((row + offset for row in rows), start=offset)
        joined = torch.cat([total, torch.cat(parts, 2).squeeze(-1)], dim=1)
        return self.fc(F.relu(torch.cat([joined, joined * 2], -1)).flatten(start_dim=1))


@network("batch norm, dropout and a softmax at the end", 6)
class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)])
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = self.drop(F.relu(self.norm(x), inplace=True))
        return F.log_softmax(x, dim=1)


# residual networks


class BasicBlock(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.option, self.more = option, outside - inside
        self.project = nn.Conv2d(inside, outside, 1, stride) if option == "B" else None

    def shortcut(self, x: Tensor) -> Tensor:
        if self.project is not None:
            return self.project(x)
        if not self.more:
            return x
        x = x[:, :, ::2, ::2]
        if self.option == "A":
            return F.pad(x, (0, 0, 0, 0, self.more // 2, self.more // 2), "constant", 0)
        if self.option == "cat":
            zeros = torch.zeros(x.size(0), self.more, x.size(2), x.size(3)).to(x)
            return torch.cat((x, zeros), dim=1)
        if self.option == "mul":
            return torch.cat((x, x.mul(0)), 1)
        wide = x.new_zeros(x.shape[0], x.shape[1] + self.more, *x.shape[2:])
        wide[:, : x.shape[1]] = x
        return wide

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class SmallResNet(nn.Module):
    def __init__(self, option: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(BasicBlock(4, 4, 1, ""), BasicBlock(4, 8, 2, option))
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.stem(x)))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


for _option in ("A", "B", "cat", "mul", "write"):
    NETWORKS[f"ResNet, shortcut {_option}"] = lambda option=_option: (
        SmallResNet(option), (3, 8, 8)
    )  # fmt: skip


@network("pre-activation ResNet", 3, 8, 8)
class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn(x))
        out = self.conv(out) + (x if out.shape[1] == x.shape[1] else out)
        return self.fc(F.relu(out).mean([-2, -1]))


# the families of convolutional networks


@network("VGG from a list of numbers", 3, 8, 8)
class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for size in (4, "M", 6, 6, "M"):
            if size == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(inside, size, 3, padding=1), nn.BatchNorm2d(size),
                           nn.ReLU(inplace=True)]  # fmt: skip
                inside = size
        self.features = nn.Sequential(*layers, nn.AvgPool2d(kernel_size=1, stride=1))
        self.classifier = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.features(x)
        return self.classifier(out.view(out.size(0), -1))


@network("DenseNet", 3, 8, 8)
class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(3 + 2 * i), nn.ReLU(), nn.Conv2d(3 + 2 * i, 2, 3, padding=1)
            )
            for i in range(3)
        )
        self.end = nn.Conv2d(9, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.end(F.relu(torch.cat(features, 1))).amax((2, 3))


@network("SqueezeNet", 3, 8, 8)
class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True)
        self.one, self.three = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.squeeze(x))
        x = self.pool(torch.cat([self.act(self.one(x)), self.act(self.three(x))], 1))
        return torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)


@network("ShuffleNet", 3, 8, 8)
class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1),
            nn.ReLU(True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for _ in range(2):
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, self.branch(right)), dim=1)
            b, c, h, w = x.data.size()
            x = x.view(b, 2, c // 2, h, w)
            x = torch.transpose(x, 1, 2).contiguous()
            x = x.view(b, -1, h, w)
        return x.mean(3).mean(2)


@network("MobileNetV2", 3, 8, 8)
class Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
            nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6),
            nn.ReLU6(inplace=True), nn.Conv2d(6, 3, 1, bias=False), nn.BatchNorm2d(3),
        )  # fmt: skip
        self.use_res_connect = True

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.conv(x) if self.use_res_connect else self.conv(x)
        return x.mean([2, 3])


@network("Inception", 3, 8, 8)
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b1 = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
        self.b2 = nn.Sequential(nn.Conv2d(3, 2, (1, 3), padding=(0, 1)), nn.ReLU())
        self.b3 = nn.Sequential(nn.Conv2d(3, 2, (3, 1), padding=(1, 0)), nn.ReLU())
        self.b4 = nn.Conv2d(3, 2, 1)

    def _forward(self, x: Tensor) -> list[Tensor]:
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        return [self.b1(x), self.b2(x), self.b3(x), F.relu(self.b4(pooled), inplace=True)]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clone(x)
        first = x[:, 0].unsqueeze(1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
        x = torch.cat((first, x[:, 1:2], x[:, [2]]), 1)
        return F.max_pool2d(torch.cat(self._forward(x), 1), 3, stride=2)


@network("U-Net with crops", 1, 12, 12)
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.inner = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3, padding=1)
        self.up, self.end = nn.ConvTranspose2d(3, 3, 2, stride=2), nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        x = self.up(F.relu(self.inner(F.max_pool2d(skip, 3, 3))))
        dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        crop = skip[:, :, dy // 2 : dy // 2 + x.size(2), dx // 2 : dx // 2 + x.size(3)]
        x = F.pad(torch.cat([crop, x], 1), [0, 1, 1, 0])
        return F.interpolate(self.end(x).relu(), scale_factor=2, mode="nearest")


@network("all convolutional", 3, 8, 8)
class AllConvolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.head(F.relu(self.conv(x))))
        return out.reshape(out.size(0), out.size(1), -1).mean(2)


@network("channels in another order", 3, 6, 6)
class Reordered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6])[None, :, None, None])
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        x = (x[:, [2, 1, 0]] - self.mean) / 0.25
        x = F.relu(self.conv(x))
        x = torch.index_select(x, 1, self.order) + x[:, self.order] + x.flip(1) + x.roll(1, -1)
        return x.flatten(2).max(dim=-1)[0]


# linear layers in other words


@network("MLP-Mixer", 3, 8, 8)
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm1d(6)
        self.tokens = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))
        self.channels = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2)  # (B, C, tokens)
        x = self.norm(x + self.tokens(x)).transpose(1, 2)
        x = x + self.channels(x)
        return self.head(F.relu(x).mean(dim=1))


class Products(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.w, self.v = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(4, 3))
        self.heads, self.bias = nn.Parameter(torch.randn(4, 6, 5)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:  # (B, 4, 6) → (B, …)
        x = F.relu(x)
        return getattr(self, self.form)(x)

    def at(self, x: Tensor) -> Tensor:
        return x @ self.w + self.bias

    def right(self, x: Tensor) -> Tensor:
        return self.v.T @ x

    def matmul(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.w).matmul(self.bias)

    def flat(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.addmm(self.bias, flat, self.heads.flatten(0, 1)) + flat.mm(
            self.heads.reshape(24, 5)
        )

    def batched(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.w.unsqueeze(0).expand(x.size(0), -1, -1))

    def grouped(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(2) @ self.heads).squeeze(2)

    def einsum(self, x: Tensor) -> Tensor:
        one = torch.einsum("btc,cd->btd", x, self.w)
        two = torch.einsum("tu, btc -> buc", self.v, x)
        three = torch.einsum("btc,tcd->bd", x, self.heads)
        four = torch.einsum("btc,tcd->btd", x, self.heads)
        five = torch.einsum("btc,dc->btd", [x, self.w.T])
        six = torch.einsum("btc->bct", x).sum(1)
        return torch.cat([t.flatten(1) for t in (one, two, three, four, five, six)], 1)

    def stretched(self, x: Tensor) -> Tensor:
        one, two = x.unsqueeze(1) @ self.w[None, None], self.v.T[None] @ x
        return torch.cat([one.flatten(1), two.flatten(1)], 1)


for _form in ("at", "right", "matmul", "flat", "batched", "grouped", "einsum", "stretched"):
    NETWORKS[f"fixed weights by {_form}"] = lambda form=_form: (Products(form), (4, 6))


# activations in other words


class Activation(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.a, self.b = function, nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(self.function(2 * self.a(x))))


def written(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def padded(x: Tensor) -> Tensor:
    x = F.relu(x)
    wide = x.new_full((x.size(0), x.size(1), x.size(2) + 2, x.size(3) + 2), 0.5)
    wide[:, :, 1:-1, 1:-1] = x
    wide[:, 0] *= 0.5
    return wide


SLOPES = torch.tensor([0.1, -0.2, 0.3, 1.5], dtype=torch.float64).reshape(4, 1, 1)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "max with zeros": lambda x: torch.max(x, torch.zeros_like(x)),
    "max with a zero": lambda x: torch.maximum(torch.tensor(0.0, dtype=x.dtype), x),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where, number": lambda x: torch.where(x <= 0, 0.0, x),
    "where, method": lambda x: x.where(x > 0, torch.zeros(1, dtype=x.dtype)),
    "times mask": lambda x: x * (x > 0),
    "times float mask": lambda x: (x > 0).to(x.dtype) * x,
    "times negated mask": lambda x: x * ~(x <= 0),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked assignment": written,
    "half of x + |x|": lambda x: (x + x.abs()) / 2,
    "clamp_max after relu": lambda x: F.relu(x).clamp_max(0.5),
    "minimum after relu": lambda x: torch.minimum(F.relu(x), torch.full_like(x, 0.5)),
    "min after relu": lambda x: torch.min(x.relu(), torch.tensor(0.5, dtype=x.dtype)),
    "clamp max of a scaled relu": lambda x: (0.5 * F.relu(x) + 0.25).clamp(max=0.5),
    "clamp max alone": lambda x: x.clamp(max=0.3),
    "two-sided clamp": lambda x: x.clamp(-0.4, 0.3),
    "hard tanh": nn.Hardtanh(),
    "hard sigmoid": lambda x: F.hardsigmoid(6 * x),
    "clamp per channel": lambda x: torch.clamp(x, min=-SLOPES.abs(), max=SLOPES.abs()),
    "threshold elsewhere": nn.Threshold(0.2, 0.2),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "leaky by where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "leaky by max": lambda x: torch.max(x, 0.1 * x),
    "leaky, steeper": lambda x: torch.min(x, 3 * x),
    "PReLU": nn.PReLU(init=0.3),
    "PReLU per channel": lambda x: F.prelu(x, SLOPES.flatten()),
    "absolute value": torch.abs,
    "negative part": lambda x: torch.where(x > 0, 0.0, x) + x.clamp(max=0),
    "maxout": lambda x: x.view(x.size(0), 4, 3, -1).max(2)[0].unsqueeze(3),
    "maximum of two": lambda x: torch.maximum(x, x.flip(1)) - torch.min(x, 2 * x.roll(1, 1)),
    "amin": lambda x: x.amin(3, keepdim=True) + x.min(dim=2, keepdim=True).values,
    "larger of two by where": lambda x: (lambda y: torch.where(x > y, x, y))(x.flip(2)),
    "fixed mask": lambda x: torch.where(torch.eye(x.size(2)) > 0, F.relu(x), 0.5),
    "written into the middle": padded,
}  # fmt: skip
for _name, _function in ACTIVATIONS.items():
    NETWORKS[f"activation: {_name}"] = lambda function=_function: (
        Activation(function), (3, 8, 8)
    )  # fmt: skip


# shapes in other words

MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 5).contiguous(),
    "expand_as": lambda x: x + x.amax((2, 3), keepdim=True).expand_as(x),
    "expand by the batch": lambda x: x.mean((2, 3), True).expand(x.size(0), 4, 2, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "tile": lambda x: torch.tile(x, (1, 1, 2, 1)),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=2),
    "movedim": lambda x: x.movedim(1, -1).flatten(1, 2),
    "mT": lambda x: x.mT + x,
    "unbind": lambda x: torch.stack(x.unbind(1)[::-1], dim=1),
    "unfold": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(2),
    "overlapping unfold": lambda x: x.unfold(3, 3, 1).sum(-1),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "diagonal": lambda x: x.diagonal(dim1=2, dim2=3),
    "pixel shuffles": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 3),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "squeeze and excite shapes": lambda x: x.mean(3)[..., None, None].squeeze(-1),
    "constant rows": lambda x: torch.cat([torch.ones(x.size(0), 4, 1, 6, dtype=x.dtype), x], 2),
    "class token": lambda x: torch.cat(
        [torch.ones(1, 1, 4, dtype=x.dtype).expand(len(x), -1, -1), x.flatten(2).mT], 1
    ),
    "hidden batch": lambda x: x.unflatten(0, (x.size(0), 1)).squeeze(1),
    "reversed slices": lambda x: x[..., torch.arange(5, -1, -1)][:, :, 1::2, None, 0],
    "view of every size": lambda x: x.view(x.shape[0], *list(x.shape[1:]), 1)[..., -1],
}


class Moves(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.a = function, nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.function(self.a(x).relu())  # (B, 4, 6, 6) → (B, …)


for _name, _function in MOVES.items():
    NETWORKS[f"shape: {_name}"] = lambda function=_function: (Moves(function), (3, 8, 8))


def build(name: str) -> tuple[nn.Module, Tensor]:
    """The network in float64 with random statistics, and some images."""
    torch.manual_seed(0)
    model, shape = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.4, 2.0)  # type: ignore[union-attr]
    return model.double().eval(), torch.rand(5, *shape, dtype=torch.float64) - 0.3


@pytest.mark.parametrize("name", NETWORKS)
def test_graph_computes_what_the_model_computes(name: str) -> None:
    model, images = build(name)
    graph = trace(model, images[:2])
    with torch.no_grad():
        expected, found = copy.deepcopy(model)(images.clone()), graph.evaluate(images)
    if graph.head:
        found = found.log_softmax(1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore:layer .* never fires")
@pytest.mark.parametrize("name", NETWORKS)
def test_spiking_network_approaches_it(name: str) -> None:
    model, images = build(name)
    neuron = snn.Augmented(levels=1000, negative=0.0)
    net = snn.convert(model, images, neuron=neuron, balance=snn.Max())
    steps, closed = net(images, steps=3).logits[-1], net(images, 3, only_last=True).logits[-1]
    scale = max(1, float(steps.abs().max()))
    assert (closed - steps).abs().max() <= 1e-10 * scale
    assert (closed - net.ann(images)).abs().max() < 2e-2 * scale
    far = net(images, 200, only_last=True).logits[-1]
    assert (far - net.ann(images)).abs().max() < 5e-4 * scale


def move(random: Random, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that moves the numbers of a (B, ...) about, chosen for the shape of x."""
    rank = x.dim()
    d, e = random.randrange(1, rank), random.randrange(1, rank)
    size = x.shape[d]
    index = [random.randrange(size) for _ in range(random.randrange(1, 5))]
    order = random.sample(range(1, rank), rank - 1)
    start, step = random.randrange(size), random.randrange(1, 3)
    part = next(n for n in range(min(size, 3), 0, -1) if size % n == 0)
    full = (slice(None),) * d
    choices: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.permute(0, *order), lambda x: x.transpose(d, e), lambda x: x.movedim(d, e),
        lambda x: x[(*full, slice(start, None, step))], lambda x: x[(*full, index)],
        lambda x: x[(*full, None)], lambda x: x.flip(d), lambda x: x.roll(start, d),
        lambda x: x.repeat_interleave(2, d), lambda x: x.flatten(min(d, e), max(d, e)),
        lambda x: x.unflatten(d, (part, size // part)), lambda x: x.squeeze(d),
        lambda x: x.unfold(d, part, step), lambda x: torch.cat(x.split(2, d)[::-1], d),
        lambda x: torch.stack([x, 2 * x], d), lambda x: x.unsqueeze(d).expand(
            *x.shape[:d], 3, *x.shape[d:]),
    ]  # fmt: skip
    if rank > 2:
        choices.append(lambda x: x.select(d, start))
    return random.choice(choices)


@pytest.mark.parametrize("seed", range(60))
def test_moves_in_any_order(seed: int) -> None:
    random = Random(seed)
    torch.manual_seed(seed)
    moves: list[Callable[[Tensor], Tensor]] = []
    moved = images = torch.rand(3, 2, 4, 6, dtype=torch.float64)
    while len(moves) < 6 and moved.dim() < 6 and moved.numel() < 5000:
        moves.append(move(random, moved))
        moved = moves[-1](moved)
    model = Moves(lambda x: functools.reduce(lambda value, step: step(value), moves, x))
    model.a = nn.Identity()
    with torch.no_grad():
        assert torch.equal(trace(model.eval(), images).evaluate(images), model(images))
