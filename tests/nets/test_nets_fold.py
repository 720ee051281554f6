"""One gray channel gives what its RGB copy gives, borders and all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.nets.backbone import backbone
from medgraft.nets.fold import coefficients, fold_first, gray_spec
from medgraft.values import InputSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


def both(spec: InputSpec, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Get gray pixels as the folded net takes them, and as the RGB net takes their copy."""
    gray = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(2))
    one = gray_spec(spec)
    mean, std = torch.tensor(spec.mean).view(1, 3, 1, 1), torch.tensor(spec.std).view(1, 3, 1, 1)
    return (gray - one.mean[0]) / one.std[0], (gray - mean) / std


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:mobilenet_v2",
        "timm:resnet10t",
        "timm:convnext_atto",
        "timm:vit_tiny_patch16_224",
        "timm:tf_efficientnetv2_b0",
        "torchvision:googlenet",
    ],
)
@torch.no_grad()
def test_a_folded_net_equals_the_rgb_copy(name):
    rgb = backbone(f"none:{name}", image_size=64)
    gray = backbone(f"none:{name}", image_size=64, channels=1)
    assert gray.gray == "folded"
    assert gray.spec.channels == 1
    one, three = both(rgb.spec, 64)
    for got, wanted in zip(gray(one), rgb(three), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@torch.no_grad()
def test_real_weights_folded_equal_the_rgb_copy(shared):
    for name in ("mobilenet_v2", "squeezenet1_1"):
        path = shared(f"weights/{name}.safetensors")
        rgb, gray = (backbone(f"file:{path}", image_size=96, channels=c, offline=True) for c in (3, 1))
        one, three = both(rgb.spec, 96)
        wanted = rgb(three)[-1]
        torch.testing.assert_close(gray(one)[-1], wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_borders_need_the_channel_of_ones_only_where_means_differ():
    imagenet, half = InputSpec((16, 16)), InputSpec((16, 16), 3, (0.5,) * 3, (0.5,) * 3)
    padded, patches = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 4, 4)
    assert fold_first(nn.Sequential(padded), half)[0][0].in_channels == 1  # type: ignore[index]
    assert fold_first(nn.Sequential(patches), imagenet)[0][0].in_channels == 1  # type: ignore[index]
    folded, how = fold_first(nn.Sequential(padded), imagenet)
    assert how == "folded"
    one, three = both(imagenet, 16)
    torch.testing.assert_close(folded(one), padded(three), rtol=1e-4, atol=1e-5)
    assert torch.equal(coefficients(half)[1], torch.zeros(3))


def test_a_stem_that_cannot_be_folded_repeats_the_channel_exactly():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x[:, [2, 1, 0]] ** 2)

    stem, spec = Odd(), InputSpec((16, 16))
    one, three = both(spec, 16)
    wanted = stem(three)
    repeated, how = fold_first(stem, spec)
    assert how == "repeated"
    torch.testing.assert_close(repeated(one), wanted, rtol=1e-4, atol=1e-4)


def test_a_folded_net_learns():
    net = backbone("none:timm:resnet10t", image_size=32, channels=1)
    net.train()(torch.randn(2, 1, 32, 32))[-1].square().mean().backward()
    first = next(net.parameters())
    assert first.shape[1] == 2
    assert first.grad is not None
    assert bool(first.grad.abs().sum() > 0)
