"""Five networks as a new user brings them: each ends in a verified SNN or in what to change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn
from book.tools.support import randomize


def images(count: int = 16, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(3))


def check(model: nn.Module, x: Tensor, agreement: float = 0.9) -> snn.SpikingNetwork:
    """What a user does: convert, verify, run, look at the answer and the cost."""
    net = snn.convert(model, calibration=x, neuron=snn.Augmented(levels=8, negative=0.0))
    report = net.verify(x, steps=32)
    assert report.graph_error is not None
    assert report.graph_error < 1e-5
    for layer in report.layers:
        assert layer.error[-1] < 0.05, layer
        assert layer.error[-1] < layer.error[0]
    assert report.agreement[-1] >= agreement
    run = net(x, steps=32)
    with torch.no_grad():
        assert float(run.agreement(model(x))[-1]) >= agreement
    synops = run.synops()
    assert synops is not None
    assert float(synops.total[-1]) > 0
    return net


class DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
                nn.Dropout(0.2),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def test_densely_connected() -> None:
    """Batch norm before a padded convolution, and ReLUs in place on concatenations."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), DenseBlock(8, 4, 3), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2),
        DenseBlock(10, 4, 2), nn.BatchNorm2d(18), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(18, 5), nn.LogSoftmax(dim=1),
    )  # fmt: skip
    net = check(randomize(model).eval(), images())
    assert net.graph.head == "log_softmax"
    assert "log_softmax dropped" in net.summary()


class UNetEncoder(nn.Module):
    """Encoder and a decoder with skip connections; the mean over space answers."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = self.block(3, 8), self.block(8, 16)
        self.bottom, self.up = self.block(16, 16), nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.after = self.block(32, 8)
        self.out = nn.Conv2d(16, 4, 1)

    @staticmethod
    def block(channels: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1, padding_mode="replicate"), nn.BatchNorm2d(out),
            nn.ReLU6(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, kernel_size=2))
        joined = self.after(torch.cat((self.up(bottom), second), dim=1))
        wide = F.interpolate(joined, scale_factor=2, mode="nearest")
        return self.out(torch.cat([wide, first], 1)).mean(dim=(-2, -1))


def test_u_net_like() -> None:
    torch.manual_seed(0)
    check(randomize(UNetEncoder()).eval(), images())


def test_all_convolutional() -> None:
    """Strided convolutions, no pooling but the mean; F.relu in forward."""

    class AllConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(a, b, 3, stride=s, padding="valid" if s == 2 else "same")
                for a, b, s in ((3, 12, 1), (12, 12, 2), (12, 16, 1), (16, 6, 2))
            )

        def forward(self, x: Tensor) -> Tensor:
            for conv in self.convs:
                x = F.relu(conv(x))
            return torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)

    torch.manual_seed(0)
    net = check(AllConv().eval(), images())
    assert net.graph.spiking == ["relu", "relu:2", "relu:3", "relu:4"]


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, features: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.mix = nn.Sequential(nn.Linear(tokens, 8), nn.GELU(), nn.Linear(8, tokens))
        self.feed = nn.Sequential(nn.Linear(features, 8), nn.GELU(), nn.Linear(8, features))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.feed(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.block = block(16, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.block(tokens).mean(1))


def test_mixer_is_refused_with_what_to_change() -> None:
    with pytest.raises(snn.ConversionError) as caught:
        snn.convert(Mixer(MixerBlock).eval(), images())
    message = str(caught.value)
    assert "Mixer cannot be converted, 4 operations in the way" in message
    assert "block.norm1, block.norm2 (nn.LayerNorm)" in message
    assert "block.mix.1, block.feed.1 (nn.GELU)" in message
    assert "train with nn.BatchNorm2d" in message
    assert "train with nn.ReLU" in message


def test_mixer_converts_once_that_is_changed() -> None:
    """The advice of the error taken: batch norm on the tokens, ReLU for GELU."""

    class Advised(MixerBlock):
        def __init__(self, tokens: int, features: int) -> None:
            super().__init__(tokens, features)
            self.norm1, self.norm2 = nn.BatchNorm1d(tokens), nn.BatchNorm1d(tokens)
            self.mix[1] = self.feed[1] = nn.ReLU()

    torch.manual_seed(0)
    check(randomize(Mixer(Advised)).eval(), images())


def test_torchvision_model_with_normalization() -> None:
    from snnlib.zoo.vision import torchvision

    try:
        vision = torchvision()
    except ImportError as error:
        pytest.skip(f"needs torchvision: {error}")

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
            self.net = vision.models.resnet18(num_classes=10)

        def forward(self, x: Tensor) -> Tensor:
            return F.softmax(self.net((x - self.mean) / self.std), dim=-1)

    torch.manual_seed(0)
    model = randomize(Classifier()).eval()
    x = images(2, 3, 32)
    net = snn.convert(model, x, neuron=snn.Augmented(levels=16, negative=0.0))
    report = net.verify(x, steps=4)
    assert report.graph_error is not None
    assert report.graph_error < 1e-5
    assert len(report.layers) == 17
    with torch.no_grad():
        assert torch.allclose(net.ann(x).softmax(1), model(x), atol=1e-5)
