"""The task that draws: its loss, what unknown pixels do, mirrored looks, learning, and a model file that comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.errors import BadWeights
from medgraft.learn.segmenter import DrawForm, graft_segmenter, load_segmenter, save_segmenter
from medgraft.nets.decoder import DecoderForm
from medgraft.samples.framing import FrameForm
from medgraft.samples.mask_edges import AT_SEAM, thing_planes
from medgraft.samples.picture_grid import PictureForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.mask_meter import MaskMeter
from medgraft.tasks.segment import Losses, ThingMeter, coarser, edges, seam_loss, soft_dice
from medgraft.values import Batch, Prediction
from medgraft.weights.tensors import save_model

pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")
FLAT = DrawForm(PictureForm(1), DecoderForm("unet", 8, 0, 3), (32, 32), (64, 64), (8, 8))
TWO = Answers(classes=("left", "right"))


def task_of(form: DrawForm = FLAT, answers: Answers = TWO):
    return graft_segmenter(answers, form, backbone_name="none:timm:resnet10t", seed=0)


def test_perfect_logits_have_no_dice_loss_and_unknown_pixels_do_not_count():
    targets = torch.zeros(1, 8, 8, dtype=torch.long)
    targets[0, :4] = 1
    chances = torch.nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    known = torch.ones(1, 8, 8, dtype=torch.bool)
    assert soft_dice(chances, targets, known) == pytest.approx(0.0, abs=1e-6)
    wrong = chances.clone()
    wrong[:, :, 6:] = torch.tensor([0.0, 1.0, 0.0])[None, :, None, None]
    assert soft_dice(wrong, targets, known) > 0.05
    known[:, 6:] = False
    assert soft_dice(wrong, targets, known) == pytest.approx(0.0, abs=1e-6)


def test_the_loss_does_not_see_what_is_drawn_where_nothing_is_known():
    task = task_of().train()
    pixels = torch.randn(2, 1, 32, 32)
    targets = torch.full((2, 32, 32), 255, dtype=torch.uint8)
    targets[:, :16] = 1
    _, loss = next(task.losses(Batch(pixels, ("a", "b"), targets)))
    logits = task.forward(pixels)[0]
    task.zero_grad()
    loss.backward()
    assert torch.isfinite(loss)
    logits.retain_grad()
    total = task._loss(logits, targets.long(), None)
    total.backward()
    assert (logits.grad[:, :, 16:] == 0).all() and (logits.grad[:, :, :16] != 0).any()


def test_edges_are_where_another_class_is_near():
    targets = torch.zeros(1, 9, 9, dtype=torch.long)
    targets[0, :, 5:] = 2
    found = edges(targets, 1)[0]
    assert found[:, 4:6].all() and not found[:, :4].any() and not found[:, 6:].any()
    assert coarser(targets, (3, 3)).tolist() == [[[0, 0, 2]] * 3]


def test_boundaries_weigh_more_where_it_is_asked_for():
    targets = torch.zeros(1, 16, 16, dtype=torch.long)
    targets[0, :, 8:] = 1
    logits = torch.zeros(1, 3, 16, 16)
    logits[0, 0, :, 6:10] = 4.0  # wrong and sure, but at the boundary alone
    plain, heavy = (
        task_of(DrawForm(**{**vars(FLAT), "losses": Losses(dice=0.0, boundary=weight)}))._loss(logits, targets, None)
        for weight in (0.0, 5.0)
    )
    assert heavy > plain


def test_a_mistake_between_two_things_costs_more_than_one_elsewhere():
    task = task_of(DrawForm(**{**vars(FLAT), "apart": True}), Answers(classes=("nucleus",)))
    targets = torch.zeros(1, 16, 16, dtype=torch.long)
    targets[0, 4:12, 2:14] = 1
    apart = torch.zeros(1, 3, 16, 16)
    apart[0, 0, 4:12, 7:9] = 1  # two things meet here
    logits = torch.zeros(1, 4, 16, 16)
    logits[0, 0], logits[0, 1] = torch.where(targets[0] > 0, -6.0, 6.0), torch.where(targets[0] > 0, 6.0, -6.0)
    costs = []
    for column in (7, 3):
        wrong = logits.clone()
        wrong[0, 3, 4:12, column] = 1.0  # the middle of a thing is said to be elsewhere
        costs.append(float(task._loss(wrong, targets, apart)))
    right = float(task._loss(logits, targets, apart))
    assert costs[0] - right > 3 * (costs[1] - right) > 0


def test_the_way_to_the_middle_is_turned_with_a_mirrored_look():
    task = task_of(DrawForm(**{**vars(FLAT), "apart": True}), Answers(classes=("nucleus",))).eval()
    for one in task.parameters():
        torch.nn.init.normal_(one, std=0.1)
    pixels = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for axis in (0, 1):
            task.mirrored = (axis,)
            plain, mirrored = task.told(pixels), task.told(pixels.flip(axis + 2)).flip(axis + 2)
            for plane in range(5):
                sign = -1 if plane == 3 + axis else 1  # down is plane 3, across plane 4
                torch.testing.assert_close(mirrored[:, plane], sign * plain[:, plane], atol=1e-4, rtol=1e-4)


def test_mirrored_looks_agree_with_a_mirrored_image():
    task = task_of().eval()
    task.mirrored = (0, 1)
    pixels = torch.rand(1, 32, 32)
    with torch.no_grad():
        one = torch.cat([part for _, part in task.chances(pixels)], dim=1)
    torch.testing.assert_close(one.sum(dim=0), torch.ones(32, 32))
    task.mirrored = (1,)
    with torch.no_grad():
        there = torch.cat([part for _, part in task.chances(pixels)], dim=1)
        back = torch.cat([part for _, part in task.chances(pixels.flip(2))], dim=1).flip(2)
    torch.testing.assert_close(there, back, atol=1e-5, rtol=1e-4)


def test_it_learns_to_draw_what_is_bright():
    torch.manual_seed(0)
    task = task_of(answers=Answers(classes=("bright",)))
    task.thaw(5)
    task.stored_norms = False
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        bright = torch.nn.functional.interpolate(torch.rand(8, 1, 4, 4, generator=generator), scale_factor=8) > 0.6
        pixels = bright + 0.3 * torch.rand(8, 1, 32, 32, generator=generator)
        batch = Batch(pixels, ("",) * 8, bright[:, 0].to(torch.uint8))
        task.train()
        for _, loss in task.losses(batch):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    task.eval()
    (told,) = task.predict(Batch(pixels[:1], ("one",)))
    truth = batch.targets[0].numpy()
    assert told.predicted == "bright" and (told.mask == truth).mean() > 0.95


def test_frozen_stages_and_those_that_do_not_run_have_no_gradients():
    task = task_of()
    task.thaw(1)
    names = {name.split(".")[1] for name, one in task.backbone.named_parameters() if one.requires_grad}
    stages = [name for name, _ in task.backbone.stages]
    assert names <= set(stages[: task.head.reads])
    task.thaw(5)
    running = {name.split(".")[1] for name, one in task.backbone.named_parameters() if one.requires_grad}
    assert running == set(stages[: task.head.reads])


def test_the_meter_takes_the_mean_over_classes_of_the_images_that_have_them():
    meter = MaskMeter(2)
    truth = np.array([[1, 1, 0, 255], [0, 0, 2, 2]], np.uint8)[:, None]
    drawn = np.array([[1, 0, 0, 2], [0, 0, 2, 2]], np.uint8)[:, None]
    found = [Prediction(str(k), np.zeros(0), np.zeros(0), "", mask=one) for k, one in enumerate(drawn)]
    meter.update(found, truth)
    loss, score = meter.watch()
    assert score == pytest.approx((2 / 3 + 1) / 2) and loss == pytest.approx(1 - score)


def test_the_meter_of_things_counts_those_that_match_and_leaves_out_what_is_unknown():
    true = np.zeros((1, 4, 4, 12), np.float32)
    true[0, 3, :, :3], true[0, 3, :, 4:7], true[0, 3, :, 8:] = 1, 2, -1
    one = np.zeros((4, 12), np.int32)
    one[:, :3], one[:, 4:5], one[:, 9:] = 7, 3, 5
    meter = ThingMeter()
    meter.update([Prediction("a", np.zeros(0), np.zeros(0), "", mask=one)], true)
    assert meter.watch() == (pytest.approx(2 / 3), pytest.approx(1 / 3))  # one hit, one that is too small, one missed
    one[:, 4:7] = 3
    meter.update([Prediction("b", np.zeros(0), np.zeros(0), "", mask=one)], true)
    assert meter.watch()[1] == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("apart", [False, True])
def test_a_model_file_draws_the_same(tmp_path, apart):
    answers = Answers(classes=("nucleus",)) if apart else TWO
    form = DrawForm(**{**vars(FLAT), "apart": apart, "mirrored": (1,)})
    task = task_of(form, answers).eval()
    task.mirrored = form.mirrored
    net = task.backbone
    card = {"task": "segment", "classes": list(answers.classes), "form": form.to_dict()}
    card |= {"backbone": {"architecture": net.architecture, "options": net.options}, "gray": net.gray}
    card |= {"weights_spec": net.weights_spec.to_dict(), "parting": {}}
    save_segmenter(tmp_path / "model.safetensors", task, card=card)
    again, form_again, _ = load_segmenter(tmp_path / "model.safetensors")
    assert form_again == form
    batch = Batch(torch.rand(1, 1, 50, 70), ("one",))
    np.testing.assert_array_equal(again.predict(batch)[0].mask, task.predict(batch)[0].mask)


def test_a_run_that_knew_no_seams_is_refused_in_words(tmp_path):
    form = DrawForm(**{**vars(FLAT), "apart": True})
    task = task_of(form, Answers(classes=("nucleus",))).eval()
    card = {"task": "segment", "classes": ["nucleus"], "form": form.to_dict(), "valley": 0.6}
    save_segmenter(tmp_path / "model.safetensors", task, card=card)
    with pytest.raises(BadWeights, match=r"without seams\. Train it again"):
        load_segmenter(tmp_path / "model.safetensors")


def test_a_volume_model_comes_back_and_a_foreign_card_is_refused(tmp_path):
    grid = FrameForm((2.0, 1.0, 1.0), "all", ((40.0, 400.0),))
    form = DrawForm(grid, DecoderForm("unet", 8, 1, 2), (8, 16, 16), (8, 16, 16), (2, 4, 4), (0,))
    task = task_of(form).eval()
    task.mirrored = (0,)
    net = task.backbone
    card = {"task": "segment", "classes": list(TWO.classes), "form": form.to_dict(), "gray": net.gray}
    card |= {"backbone": {"architecture": net.architecture, "options": net.options}}
    card |= {"weights_spec": net.weights_spec.to_dict()}
    save_segmenter(tmp_path / "model.safetensors", task, card=card)
    again, _, _ = load_segmenter(tmp_path / "model.safetensors")
    batch = Batch(torch.rand(1, 1, 10, 20, 16), ("one",))
    np.testing.assert_array_equal(again.predict(batch)[0].mask, task.predict(batch)[0].mask)
    save_model(tmp_path / "other.safetensors", state={"a": torch.zeros(1)}, card={"task": "segment"})
    with pytest.raises(BadWeights, match="card of this model"):
        load_segmenter(tmp_path / "other.safetensors")


def test_the_loss_of_a_seam_is_low_where_it_is_right_and_blind_where_nothing_is_known():
    things = np.zeros((32, 32), np.int32)
    things[4:28, 4:16], things[4:28, 16:28] = 1, 2
    planes = torch.from_numpy(thing_planes(things))[None]
    inside, nearness = planes[:, 0] == 1, planes[:, 1]
    known = torch.ones_like(inside)
    right = torch.where(nearness >= AT_SEAM, 9.0, -9.0)
    assert (nearness >= AT_SEAM).any()
    words = {"inside": inside, "known": known}
    assert seam_loss(right, nearness, **words) < 0.01 < 1.5 < seam_loss(-right, nearness, **words)
    known[:, :16] = False
    wrong = right.clone()
    wrong[:, :16] *= -1
    words = {"inside": inside, "known": known}
    torch.testing.assert_close(seam_loss(wrong, nearness, **words), seam_loss(right, nearness, **words))
    none = seam_loss(right, torch.zeros_like(nearness), inside=inside, known=torch.zeros_like(known))
    assert torch.isfinite(none) and none < 1e-6
