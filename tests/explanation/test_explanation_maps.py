"""Maps: exact where they claim to be, the same as Captum's where Captum has the method, and of volumes too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medgraft.errors import BadRecipe, UnknownName
from medgraft.explanation.attention import attends, attention_map
from medgraft.explanation.cams import activation_map, enlarged, levels_of
from medgraft.explanation.methods import METHODS, map_of, method_for
from medgraft.explanation.speech import answer_named, spoken
from medgraft.learn.model import graft, repool
from medgraft.nets import LinearHead
from medgraft.nets.volume import volume_backbone
from medgraft.tasks.base import Answers, ImageTask

pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


def grafted(kind: str = "classify", *, net: str = "none:timm:test_resnet", pooling: str = "avg") -> ImageTask:
    answers = {
        "classify": Answers(("a", "b", "c")),
        "multilabel": Answers(("x", "y")),
        "grade": Answers(("0", "1", "2")),
        "regress": Answers(),
    }[kind]
    task = graft(kind, answers, backbone_name=net, channels=3, image_size=64)
    repool(task, pooling=pooling)
    with torch.no_grad():
        task.head.linear.weight.copy_(torch.randn(task.head.linear.weight.shape, generator=torch.manual_seed(1)))
    return task.eval()


def pixels(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_what_all_places_of_the_last_level_add_is_the_answer() -> None:
    """HiResCAM of a linear head on averages: the places add up to the logit less its constant part."""
    task = grafted("multilabel")
    raws, stages, logits = levels_of(task, pixels())
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), raws[-1:])
    added = (raws[-1] * gradient).flatten(1).sum(dim=1)
    constant = task.answer(torch.zeros(1, task.head.width))[0, 1]
    assert stages == [len(task.backbone.stages) - k for k in (4, 3, 2, 1)]
    assert torch.allclose(added + constant, logits[:, 1], rtol=1e-4, atol=1e-4)


def test_a_level_counts_by_what_comes_of_it_later_too() -> None:
    """The gradient of an early level, and not only what the head takes of it: that of a net run in one piece."""
    task = grafted("multilabel", pooling="levels")
    x, seen = pixels(), []
    stage = task.backbone.stages[-2][1]
    with stage.register_forward_hook(lambda _m, _i, out: seen.append(out)):
        logits = task(x.requires_grad_())
    (whole,) = torch.autograd.grad(logits[:, 1].sum(), seen)
    raws, _, again = levels_of(task, x.detach())
    (ours,) = torch.autograd.grad(again[:, 1].sum(), raws[-2:-1])
    assert torch.allclose(ours, whole, atol=1e-6) and torch.allclose(raws[-2], seen[0], atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "levels"])
def test_the_logits_are_those_of_the_task(pooling: str) -> None:
    task = grafted(pooling=pooling)
    with torch.no_grad():
        whole = task(pixels())
    assert torch.allclose(levels_of(task, pixels())[2], whole, atol=1e-5)


@pytest.mark.parametrize("how", ["gradcam", "layercam"])
def test_maps_are_those_of_captum(how: str) -> None:
    """The mean over the last four levels of Captum's map of each, in parts of its largest value."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    task, answer = grafted(pooling="levels"), torch.tensor([0, 2])
    wanted = torch.zeros(2, 64, 64)
    for _, layer in task.backbone.stages[-4:]:
        say = lambda x, own: spoken(task, task(x), own)  # noqa: E731
        if how == "gradcam":
            method = attr.LayerGradCam(say, layer)
            theirs = method.attribute(pixels(), additional_forward_args=answer, relu_attributions=True)[:, 0]
        else:
            words = {"additional_forward_args": answer}
            value = attr.LayerActivation(say, layer).attribute(pixels(), **words)
            theirs = attr.LayerGradientXActivation(say, layer).attribute(pixels(), **words)
            theirs = torch.where(theirs * value > 0, theirs, 0).sum(dim=1)
        largest = theirs.detach().abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
        wanted += enlarged(theirs.detach() / largest, (64, 64)) / 4
    ours = activation_map(task, pixels(), answer, how=how)
    assert float(ours.max()) > 0.2
    assert torch.allclose(ours, wanted.clamp_min(0), atol=1e-4)


@pytest.mark.parametrize("method", ["hirescam", "layercam", "gradcam", "gradcam++"])
@pytest.mark.parametrize("kind", ["classify", "multilabel", "grade", "regress"])
def test_every_task_has_maps(kind: str, method: str) -> None:
    task = grafted(kind, pooling="levels")
    found = map_of(task, pixels(), answer=torch.tensor([0, 1]), method=method)
    assert found.shape == (2, 64, 64) and bool(torch.isfinite(found).all()) and float(found.min()) >= 0
    assert found.requires_grad is False and all(p.grad is None for p in task.parameters())


def test_a_map_is_of_the_answer_asked_for() -> None:
    task = grafted(pooling="levels")
    found = [activation_map(task, pixels(1), torch.tensor([k])) for k in (0, 1, 2)]
    found = [one / one.max().clamp_min(1e-12) for one in found]
    assert float((found[0] - found[1]).abs().max()) > 0.1 and float((found[1] - found[2]).abs().max()) > 0.1


def test_a_class_speaks_against_all_others() -> None:
    task = grafted()
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    chance = torch.softmax(logits, dim=1)[0]
    wanted = torch.log(chance[1] / (1 - chance[1]))
    assert float(spoken(task, logits, torch.tensor([1]))) == pytest.approx(float(wanted), abs=1e-6)
    assert answer_named(task, "c") == 2
    with pytest.raises(BadRecipe, match="no class 'd'"):
        answer_named(task, "d")
    with pytest.raises(BadRecipe, match="numbers"):
        answer_named(grafted("regress"), "d")


def test_occlusion_finds_the_only_place_that_counts() -> None:
    pytest.importorskip("captum.attr", reason="captum is not installed")
    task = grafted("regress")

    class Corner(nn.Module):
        """The mean of a corner, as a number."""

        answer_kind = "number"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 40:56, 8:24].mean((1, 2, 3))[:, None]

    found = METHODS["occlusion"](Corner(), pixels(1).abs(), torch.tensor([0]))[0]
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert 36 <= row < 60 and 4 <= column < 28
    assert float(found[:24, 40:].max()) == 0.0 and task is not None


# ---- transformers ---------------------------------------------------------------------


@pytest.mark.parametrize("net", ["none:timm:test_vit", "none:torchvision:vit_b_32"])
def test_attention_of_transformers_is_read_and_left_as_it_was(net: str) -> None:
    side = 160 if "timm" in net else 224
    task = graft("classify", Answers(("a", "b")), backbone_name=net, channels=3, image_size=side).eval()
    x = pixels(2, side)
    with torch.no_grad():
        before = task(x)
    fused = [module.fused_attn for module in task.modules() if hasattr(module, "fused_attn")]
    assert attends(task) and method_for(task) == "attention"
    for how in ("rollout", "attention gradients"):
        found = attention_map(task, x, torch.tensor([0, 1]), how=how)
        assert found.shape == (2, side, side) and float(found.min()) >= 0 and float(found.max()) > 0
    assert [module.fused_attn for module in task.modules() if hasattr(module, "fused_attn")] == fused
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in task.modules())
    with torch.no_grad():
        assert torch.allclose(task(x), before, atol=1e-5)


def test_rollout_of_equal_attention_is_even() -> None:
    task = graft("classify", Answers(("a", "b")), backbone_name="none:timm:test_vit", channels=3, image_size=160).eval()
    for module in task.modules():
        if hasattr(module, "qkv"):
            nn.init.zeros_(module.qkv.weight)  # type: ignore[union-attr]
            nn.init.zeros_(module.qkv.bias)  # type: ignore[union-attr]
    found = attention_map(task, pixels(1, 160), torch.tensor([0]), how="rollout")
    assert float(found.std() / found.mean()) < 1e-3


def test_a_net_without_attention_says_so() -> None:
    assert method_for(grafted()) == "hirescam"
    with pytest.raises(BadRecipe, match="no attention"):
        method_for(grafted(), "attention")
    with pytest.raises(UnknownName, match="no method 'magic'"):
        method_for(grafted(), "magic")


def test_attention_over_grids_of_several_sizes_is_not_followed() -> None:
    """MobileViT convolves, attends and pools by turns."""
    task = graft("classify", Answers(("a", "b")), backbone_name="none:timm:mobilevit_xxs", channels=3, image_size=64)
    modes = [module.training for module in task.modules()]
    assert not attends(task) and method_for(task) == "hirescam"
    assert [module.training for module in task.modules()] == modes
    for word in ("attention", "rollout"):
        with pytest.raises(BadRecipe, match="over one grid"):
            method_for(task, word)
    assert map_of(task.eval(), pixels(1), answer=torch.tensor([1]), method="hirescam").shape == (1, 64, 64)


def test_the_class_token_has_no_place() -> None:
    """The map of tokens is what each patch brings; what the class token brings is not added to every place."""
    task = grafted(net="none:timm:test_vit")
    x, answer = pixels(1), torch.tensor([1])
    raws, _, logits = levels_of(task, x)
    gradients = torch.autograd.grad(spoken(task, logits, answer).sum(), raws)
    assert float((raws[-1] * gradients[-1])[:, 0].sum().abs()) > 0.1
    wanted = torch.zeros(1, 64, 64)
    for raw, gradient in zip(raws, gradients, strict=True):
        brought = (raw.detach() * gradient)[:, 1:].sum(dim=2).view(1, 4, 4)
        wanted += enlarged(brought / brought.abs().max(), (64, 64)) / len(raws)
    assert torch.allclose(activation_map(task, x, answer), wanted.clamp_min(0), atol=1e-5)


# ---- volumes --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hirescam", "gradcam"])
def test_a_map_of_a_volume_lands_on_the_lesion_planted_in_it(method: str) -> None:
    """A head that was solved for on features of volumes with and without a bright ball."""
    from medgraft.learn import probe

    net = volume_backbone("embedded:resnet10t_small", size=(32, 64, 64), channels=1)
    classes: dict[str, Any] = {"answers": Answers(("none", "ball"), "ball")}
    template = grafted()
    task = type(template)(net, LinearHead(net.channels, 2, pooling="levels"), **classes).eval()  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    z, y, x = np.mgrid[:32, :64, :64]
    volumes, truth, places = [], np.arange(40) % 2, []
    for ill in truth:
        volume = random.normal(0, 0.6, (32, 64, 64)).astype(np.float32)
        at = random.integers((8, 12, 12), (24, 52, 52))
        if ill:
            volume[(z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 < 49] += 2.5
        volumes.append(volume[None])
        places.append(at)
    batch = torch.from_numpy(np.stack(volumes))
    with torch.no_grad():
        features = torch.cat([task.features(part) for part in batch.split(8)])
    probe.solve(features, truth, groups=[str(k) for k in range(40)], task=task).put(task)
    ill = np.flatnonzero(truth)[:10]
    found = map_of(task, batch[ill], answer=torch.ones(len(ill), dtype=torch.int64), method=method).numpy()
    assert found.shape == (10, 32, 64, 64)
    hits = 0
    for values, place in zip(found, ill, strict=True):
        top = np.array(np.unravel_index(int(values.argmax()), values.shape))
        hits += bool(np.linalg.norm(top - places[place]) < 12)
    assert hits >= 9
