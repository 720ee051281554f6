"""Low-rank adapters: they begin as nothing, alone learn, and end in the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.errors import BadRecipe
from medgraft.nets import LinearHead, add_adapters, merge_adapters, parameter_groups, takes_adapters
from medgraft.nets.backbone import Backbone, Encoder, backbone

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


@pytest.fixture
def net() -> Backbone:
    return backbone("none:timm:test_vit", image_size=32).eval()


def learnt(net: Backbone) -> torch.Tensor:
    """Take a step that is long enough to see, and get what the net says of one picture."""
    head = LinearHead(net.channels, 2)
    optimiser = torch.optim.AdamW(parameter_groups(net, head, thawed=len(net.stages), lr=0.1))
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the first moves B alone: while B is zero, A has no gradient
        (head(net(pictures)) * torch.tensor([1.0, -1.0])).sum().backward()
        optimiser.step()
    return net(pictures[:1])[-1].detach()


def test_a_net_with_new_adapters_says_what_it_said(net: Backbone) -> None:
    picture = torch.randn(1, 3, 32, 32)
    before = net(picture)[-1]
    add_adapters(net)
    assert torch.equal(net(picture)[-1], before)


def test_adapters_alone_learn_and_end_in_the_weights(net: Backbone) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count = net.parameters_count
    add_adapters(net, rank=2)
    names = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert names and all(name.endswith((".up", ".down")) for name in names)
    said = learnt(net)
    kept = {name: value for name, value in net.state_dict().items() if "original" in name}
    for name, value in kept.items():
        assert torch.equal(value, before[name.replace("parametrizations.", "").replace(".original", "")])
    merge_adapters(net)
    after = net.state_dict()
    assert set(after) == set(before) and net.parameters_count == count
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(pictures[:1])[-1], said, rtol=1e-4, atol=1e-5)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.endswith("weight") and after[name].ndim == 2 for name in moved)
    assert all(torch.linalg.matrix_rank((after[n] - before[n]).double(), tol=1e-4) <= 2 for n in moved)


def test_the_first_numbers_follow_from_the_seed() -> None:
    def first(seed: int) -> list[torch.Tensor]:
        net = backbone("none:timm:test_vit", image_size=32)
        add_adapters(net, seed=seed)
        return [value for name, value in net.named_parameters() if name.endswith(".down")]

    one, same, other = first(1), first(1), first(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0][:, :4], one[1][:, :4])


def test_the_attention_of_torch_takes_adapters_too() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    encoder = Encoder("torchvision:made_up", {"block": Block()}).eval()
    tokens = torch.randn(2, 5, 16)
    before = encoder.run(tokens)
    add_adapters(encoder, rank=2)
    assert torch.allclose(encoder.run(tokens), before)
    assert len([1 for name, _ in encoder.named_parameters() if name.endswith(".up")]) == 2  # in_proj and out_proj
    encoder.run(tokens).square().sum().backward()
    ups = [p for name, p in encoder.named_parameters() if name.endswith(".up")]
    assert all(up.grad is not None and bool(up.grad.abs().sum() > 0) for up in ups)
    with torch.no_grad():
        for up in ups:
            up.normal_()
        said = encoder.run(tokens)
    merge_adapters(encoder)
    assert torch.allclose(encoder.run(tokens), said, atol=1e-5) and not torch.allclose(said, before)


def test_a_net_of_convolutions_is_refused() -> None:
    net = backbone("none:timm:test_resnet", image_size=32)
    assert not takes_adapters(net)
    with pytest.raises(BadRecipe, match="made of convolutions"):
        add_adapters(net)
