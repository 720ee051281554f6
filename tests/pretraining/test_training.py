"""Objective, training in several calls, export."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from medgraft.nets.backbone import backbone
from medgraft.weights import catalogue
from medgraft.weights.tensors import metadata
from pretraining import export, train
from pretraining.encoders import ENCODERS, Encoder
from pretraining.objective import Imitation, Questions, contrast_loss, dense_loss, numbers_loss, program_loss


def test_contrast_is_smallest_when_partners_are_alike() -> None:
    torch.manual_seed(0)
    one = torch.nn.functional.normalize(torch.randn(32, 16), dim=1)
    alike = contrast_loss(one, one, temperature=0.2)
    shuffled = contrast_loss(one, one.roll(1, 0), temperature=0.2)
    assert alike < shuffled


def test_numbers_without_meaning_and_mixtures_do_not_count() -> None:
    found = torch.zeros(3, 2, requires_grad=True)
    wanted = torch.tensor([[1.0, float("nan")], [5.0, 5.0], [0.0, float("nan")]])
    loss = numbers_loss(found, wanted, torch.tensor([1.0, 0.7, 1.0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25)
    assert found.grad is not None
    assert found.grad[1].abs().sum() == 0
    assert found.grad[0, 1] == 0


def test_a_mixture_counts_for_both_of_its_programs() -> None:
    logits = torch.zeros(1, 4)
    logits[0, 2] = 5
    both = torch.tensor([[1, 2]])
    assert program_loss(logits, both, torch.tensor([0.1])) < program_loss(logits, both, torch.tensor([0.9]))


def test_masks_of_another_size_are_brought_to_that_of_the_answer() -> None:
    masks = torch.ones(2, 4, 16, 16)
    assert float(dense_loss(torch.full((2, 4, 8, 8), 9.0), masks)) < 0.01


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_question_reaches_the_encoder(name: str) -> None:
    kind = ENCODERS[name]
    encoder = Encoder(kind, 64)
    levels = encoder(torch.randn(4, 3, 64, 64))
    assert tuple(level.shape[1] for level in levels) == kind.channels
    questions = Questions(kind.channels, programs=10, numbers=5, masks=4)
    for number, answer in enumerate(questions(levels)):
        gradient = torch.autograd.grad(answer.square().sum(), next(encoder.parameters()), retain_graph=True)[0]
        assert gradient.abs().sum() > 0, number


def test_a_teacher_is_imitated_from_all_of_its_levels() -> None:
    torch.manual_seed(0)
    level, taught = (
        torch.randn(8, 6, 4, 4, requires_grad=True),
        [torch.randn(8, c, s, s) for c, s in ((3, 8), (4, 4), (5, 2))],
    )
    imitation = Imitation(6, (3, 4, 5))
    optimiser = torch.optim.Adam([level, *imitation.parameters()], lr=0.05)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        losses.append(imitation(level, taught))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]
    assert all(part.grad is None for part in taught)


def test_a_vision_transformer_learns_from_a_teacher_and_opens_at_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "resnet10t_small", ENCODERS["vit"])  # the encoder that call names
    teacher = catalogue.embedded_path("resnet10t")
    for minutes in ("0", "1"):
        call(monkeypatch, tmp_path, "--hours", "0.0005", "--minutes", minutes, "--teacher", str(teacher))
    assert [row["event"] for row in rows(tmp_path)].count("again") == 1
    assert rows(tmp_path)[-1]["event"] == "done"
    places = tmp_path / "embedded"
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path), "--name", "v", "--rank", "3", "--out", str(places)])
    export.main()
    assert json.loads(metadata(places / "v.safetensors")["provenance"])["teacher"].startswith("resnet10t.safetensors")
    monkeypatch.setattr(catalogue, "EMBEDDED", places)
    state = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    encoder, pixels = Encoder(ENCODERS["vit"], 32).eval(), torch.randn(2, 3, 32, 32)
    encoder.load_state_dict(state)
    with torch.no_grad():
        wanted, found = encoder(pixels)[-1], backbone("embedded:v", image_size=32, offline=True)(pixels)[-1]
        assert torch.allclose(wanted, found, atol=2e-2 * float(wanted.abs().max()))
        larger = backbone("embedded:v", image_size=96, offline=True)(torch.randn(1, 3, 96, 96))
    assert larger[-1].shape == (1, 192, 12, 12)


def call(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> None:
    words = ["--encoder", "resnet10t_small", "--out", str(out), "--keep", str(out / "pool"), "--programs", "64"]
    words += ["--pool", "256", "--render", "32", "--size", "32", "--large", "32", "--batch", "16", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train", *words, *more])
    train.main()


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_second_call_goes_on_and_the_export_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, tmp_path, "--hours", "0.002", "--minutes", "0")
    first = rows(tmp_path)[-1]
    assert first["event"] == "stopped"
    assert first["step"] == 1
    call(monkeypatch, tmp_path, "--hours", "0.002")
    last = rows(tmp_path)[-1]
    assert last["event"] == "done"
    assert last["views"] > first["views"]
    assert [row["event"] for row in rows(tmp_path)].count("begin") == 1
    assert [row["event"] for row in rows(tmp_path)].count("again") == 1

    places = tmp_path / "embedded"
    words = ["export", str(tmp_path), "--name", "tiny", "--rank", "1", "--out", str(places)]
    monkeypatch.setattr(sys, "argv", words)
    export.main()
    monkeypatch.setattr(catalogue, "EMBEDDED", places)
    net = backbone("embedded:tiny", offline=True)
    average = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    encoder = Encoder(ENCODERS["resnet10t_small"], 32)
    encoder.load_state_dict(average)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted, found = encoder.eval()(pixels), net(pixels)
    for one, other in zip(wanted, found[-3:], strict=True):
        assert torch.allclose(one, other, atol=2e-2 * float(one.abs().max()))
    begun = Encoder(ENCODERS["resnet10t_small"], 32)
    train.begin_from(begun, places / "tiny.safetensors")
    with torch.no_grad():
        for one, other in zip(begun.eval()(pixels), found[-3:], strict=True):
            assert torch.equal(one, other)
    told = json.loads(metadata(places / "tiny.safetensors")["provenance"])
    assert told["views"] == last["views"]
    assert told["seed"] == 0
    assert told["commit"] == train.commit()
    assert net.licence == "Apache-2.0"
    assert catalogue.default_name() == "embedded:tiny"
    assert (places / "tiny.log.jsonl").exists()
    random = backbone("none:embedded:tiny", offline=True)
    assert random.channels == net.channels
