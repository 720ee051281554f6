"""Decoders: a map as fine as the image from any encoder, flat and deep; what learns; MONAI's nets behind one face."""

from __future__ import annotations

import pytest
import torch

from medgraft.errors import BadRecipe
from medgraft.nets.backbone import backbone
from medgraft.nets.decoder import DecoderForm, MaskHead
from medgraft.nets.mask_heads import mask_head
from medgraft.nets.volume import inflate

pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


def head_on(net, *, axes: int = 2, form: DecoderForm | None = None, outputs: int = 3) -> MaskHead:
    form = form or DecoderForm()
    return MaskHead(net.channels, net.strides, pixels=net.spec.channels, axes=axes, outputs=outputs, form=form)


@pytest.mark.parametrize("arm", ["unet", "fpn"])
@pytest.mark.parametrize("name", ["none:timm:resnet10t", "none:torchvision:mobilenet_v2", "embedded:vit"])
def test_every_encoder_gets_a_map_as_fine_as_its_pixels(name, arm):
    net = backbone(name, channels=3, image_size=64)
    head = head_on(net, form=DecoderForm(arm, 8)).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (found,) = head(net(pixels, 0, head.reads), pixels)
    assert found.shape == (2, 3, 64, 64) and found.dtype == torch.float32
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("arm", ["unet", "fpn"])
def test_without_a_look_at_the_pixels_the_map_is_stretched_from_the_finest_level(arm):
    net = backbone("none:timm:resnet10t", channels=1, image_size=64)
    head = head_on(net, form=DecoderForm(arm, 8, deep=1, fine=False)).eval()
    pixels = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        (found,) = head(net(pixels, 0, head.reads), pixels)
        (again,) = head(net(pixels, 0, head.reads), torch.zeros_like(pixels))
    assert found.shape == (1, 3, 64, 64)
    torch.testing.assert_close(found, again)  # it does not look at them


def test_fewer_rungs_leave_later_stages_out():
    net = backbone("none:timm:resnet10t", channels=1, image_size=64)
    few, all_of_them = head_on(net, form=DecoderForm(rungs=2)), head_on(net)
    assert few.reads < all_of_them.reads == len(net.stages)
    assert few.steps == (4, 4) and all_of_them.steps == (32, 32)


def test_coarser_maps_have_logits_while_it_learns_and_every_number_gets_a_gradient():
    net = backbone("none:timm:resnet10t", channels=1, image_size=64)
    head = head_on(net, form=DecoderForm(deep=2)).train()
    pixels = torch.randn(2, 1, 64, 64)
    found = head(net(pixels, 0, head.reads), pixels)
    assert [tuple(one.shape[2:]) for one in found] == [(64, 64), (32, 32), (16, 16)]
    sum(one.square().mean() for one in found).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_normalised_by_groups_an_image_is_drawn_alike_whatever_else_a_step_holds():
    net = backbone("none:timm:resnet10t", channels=1, image_size=64).eval()
    pixels = torch.randn(3, 1, 64, 64) * torch.tensor([0.1, 1.0, 10.0])[:, None, None, None]
    alike = {}
    for norm in ("group", "batch"):
        head = head_on(net, form=DecoderForm(norm=norm)).train()
        with torch.no_grad():
            together = head(net(pixels, 0, head.reads), pixels)[0][:1]
            alone = head(net(pixels[:1], 0, head.reads), pixels[:1])[0]
        alike[norm] = torch.allclose(together, alone, atol=1e-4)
    assert alike == {"group": True, "batch": False}


def test_a_model_from_before_norms_were_told_is_normalised_by_batches():
    told = DecoderForm("unet", 8).to_dict()
    del told["norm"]
    head = head_on(backbone("none:timm:resnet10t", channels=1, image_size=64), form=DecoderForm(**told))
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in head.modules())


def test_a_volume_with_thick_slices_gets_a_map_of_every_voxel():
    flat = backbone("none:timm:resnet10t", channels=1, image_size=32)
    net = inflate(flat, spacing_mm=(4.0, 1.0, 1.0))
    head = head_on(net, axes=3, form=DecoderForm(width=8, rungs=3)).eval()
    pixels = torch.randn(1, 1, 8, 32, 32)
    with torch.no_grad():
        (found,) = head(net(pixels, 0, head.reads), pixels)
    assert found.shape == (1, 3, 8, 32, 32)
    assert head.steps[0] < head.steps[1]  # slices far apart are not joined as soon as pixels


@pytest.mark.parametrize("arm", ["smp_unet", "smp_unetplusplus", "smp_manet", "smp_linknet", "smp_fpn"])
@pytest.mark.parametrize("name", ["none:timm:resnet10t", "none:torchvision:mobilenet_v2"])
def test_decoders_of_another_library_stand_on_our_encoders(name, arm):
    pytest.importorskip("segmentation_models_pytorch")
    net = backbone(name, channels=1, image_size=64)
    words = {"pixels": 1, "axes": 2, "outputs": 3, "form": DecoderForm(arm, 8, rungs=4), "patch": (64, 64)}
    head = mask_head(net.channels, net.strides, **words).train()
    pixels = torch.randn(2, 1, 64, 64)
    (found,) = head(net(pixels, 0, head.reads), pixels)
    assert found.shape == (2, 3, 64, 64) and head.steps == (16, 16)
    found.square().mean().backward()
    assert all(one.grad is not None for one in head.parameters())


def test_decoders_of_another_library_refuse_encoders_that_do_not_fit_them():
    pytest.importorskip("segmentation_models_pytorch")
    net = backbone("embedded:vit", channels=3, image_size=64)
    words = {"pixels": 3, "outputs": 2, "form": DecoderForm("smp_unet"), "patch": (64, 64)}
    with pytest.raises(BadRecipe, match="levels of strides 2, 4, 8"):
        mask_head(net.channels, net.strides, axes=2, **words)
    with pytest.raises(BadRecipe, match="flat images"):
        mask_head(net.channels, net.strides, axes=3, **words)


@pytest.mark.parametrize("arm", ["dynunet", "segresnet"])
def test_whole_nets_take_pixels_alone(arm):
    pytest.importorskip("monai")
    words = {"pixels": 1, "axes": 3, "outputs": 2, "form": DecoderForm(arm, 8, deep=1), "patch": (16, 24, 16)}
    head = mask_head([], [], **words)
    pixels = torch.randn(2, 1, 16, 24, 16)
    learnt = head.train()([], pixels)
    assert all(one.shape == (2, 2, 16, 24, 16) for one in learnt)
    assert len(learnt) == (2 if arm == "dynunet" else 1)
    (told,) = head.eval()([], pixels)
    assert told.shape == (2, 2, 16, 24, 16) and head.reads == 0


def test_an_unknown_decoder_is_refused_with_what_there_is():
    with pytest.raises(BadRecipe, match="no decoder 'deeplab'") as caught:
        mask_head([8], [2], pixels=1, axes=2, outputs=2, form=DecoderForm("deeplab"), patch=(32, 32))
    assert "unet, fpn" in str(caught.value.do)
