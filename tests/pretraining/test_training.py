"""Objective, training in several calls, export."""

from __future__ import annotations

import json
import math
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
from pretraining.pool import Pool, Taken


def test_contrast_is_smallest_when_partners_are_alike() -> None:
    torch.manual_seed(0)
    one = torch.nn.functional.normalize(torch.randn(32, 16), dim=1)
    alike = contrast_loss(one, one, temperature=0.2)
    shuffled = contrast_loss(one, one.roll(1, 0), temperature=0.2)
    assert alike < shuffled


def test_contrast_of_two_pairs_by_hand() -> None:
    # NT-Xent: for each of the four, -log of exp(partner / T) over the sum of exp(other / T) of the three others.
    one, two = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    alike = {("a", "A"): 0.6, ("b", "B"): 0.6, ("a", "b"): 0.0, ("A", "B"): 0.96, ("a", "B"): 0.8, ("b", "A"): 0.8}
    near = alike | {(second, first): value for (first, second), value in alike.items()}
    each = []
    for who, partner in (("a", "A"), ("b", "B"), ("A", "a"), ("B", "b")):
        others = [math.exp(near[who, other] / 0.5) for other in "abAB" if other != who]
        each.append(-math.log(math.exp(near[who, partner] / 0.5) / sum(others)))
    assert float(contrast_loss(one, two, temperature=0.5)) == pytest.approx(sum(each) / 4, abs=1e-6)


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
    assert float(dense_loss(torch.full((2, 4, 8, 8), 9.0), masks, torch.ones(2))) < 0.01


def test_masks_of_mixtures_do_not_count() -> None:
    logits = torch.zeros(2, 4, 8, 8, requires_grad=True)
    loss = dense_loss(logits, torch.ones(2, 4, 8, 8), torch.tensor([1.0, 0.6]))
    assert float(loss.detach()) == pytest.approx(math.log(2))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().min() > 0
    assert logits.grad[1].abs().max() == 0


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


def small(out: Path) -> list[str]:
    words = ["--encoder", "resnet10t_small", "--out", str(out), "--programs", "64", "--pool", "256", "--render", "32"]
    return [*words, "--size", "32", "--large", "32", "--batch", "16", "--device", "cpu"]


def call(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str, keep: bool = True) -> None:
    kept = ["--keep", str(out / "pool")] if keep else []
    monkeypatch.setattr(sys, "argv", ["train", *small(out), *kept, *more])
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
    assert (told["seed"], told["renew"], told["start"], told["hours"]) == (0, 0.1, None, 0.002)
    assert told["commit"] == train.commit()
    assert net.licence == "Apache-2.0"
    assert catalogue.default_name() == "embedded:tiny"
    assert (places / "tiny.log.jsonl").exists()
    random = backbone("none:embedded:tiny", offline=True)
    assert random.channels == net.channels


class Clock:
    """Time that passes by a second a step of training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, until: int = 1000) -> None:
        self.now, self.until, learn = 0.0, until, train.Training.learn

        def slow(training: train.Training) -> dict[str, float]:
            if self.now >= self.until:
                raise KeyboardInterrupt
            self.now += 1
            return learn(training)

        monkeypatch.setattr(train.Training, "learn", slow)
        monkeypatch.setattr(train.time, "monotonic", lambda: self.now)


HOURS = str(14 / 3600)  # fourteen steps of a second


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False])
def test_a_training_in_calls_ends_with_the_bits_of_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    def train_in(name: str, *minutes: float) -> dict:
        for each in minutes:
            with monkeypatch.context() as patch:
                Clock(patch)
                call(patch, tmp_path / name, "--hours", HOURS, "--minutes", str(each), "--pool", "512", keep=keep)
        return torch.load(tmp_path / name / "state.pt", weights_only=True)

    whole, parts = train_in("whole", 1), train_in("parts", 4 / 60, 5 / 60, 1)
    assert whole["counters"] == parts["counters"] == [14, 14 * 32, 14.0]
    assert whole["rendered"] == parts["rendered"] > 4  # so that the pool was full and was renewed
    for part in ("average", "encoder", "questions"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, parts[part][name]), (part, name)
    assert torch.equal(whole["spread"], parts["spread"])


@pytest.mark.slow
def test_a_killed_training_goes_back_to_what_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_in(name: str, *ends: int) -> dict:
        for end in ends:
            with monkeypatch.context() as patch:
                Clock(patch, until=end)
                patch.setattr(train, "_SAVE_SECONDS", 4)  # saves after the fifth and the tenth step
                try:
                    call(patch, tmp_path / name, "--hours", HOURS, "--pool", "512")
                except KeyboardInterrupt:
                    assert end < 14
        return torch.load(tmp_path / name / "state.pt", weights_only=True)

    whole, killed = train_in("whole", 99), train_in("killed", 8, 99)
    assert whole["counters"] == killed["counters"]
    for name, tensor in whole["average"].items():
        assert torch.equal(tensor, killed["average"][name]), name


def test_a_training_cannot_change_its_images_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, tmp_path, "--hours", "0.002", "--minutes", "0")
    with pytest.raises(SystemExit, match=r"--seed 0 \(now 1\)"):
        call(monkeypatch, tmp_path, "--hours", "0.002", "--seed", "1")
    call(monkeypatch, tmp_path, "--hours", "0.0001", "--minutes", "0", "--weight-decay", "0.3")
    groups = torch.load(tmp_path / "state.pt", weights_only=True)["optimiser"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


def test_images_on_disk_are_for_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(SystemExit) as refused:
        call(monkeypatch, tmp_path, "--hours", "1", "--device", "cuda")
    assert refused.value.code == 2
    assert "--keep" in capsys.readouterr().err


def test_the_rate_rises_then_falls_as_half_a_cosine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *small(tmp_path), "--hours", "1", "--lr", "0.01"])
    training = train.Training(train.arguments())
    found = {}
    for step, share in ((0, 0.0), (99, 0.0), (199, 0.0), (999, 0.5), (999, 0.75), (9999, 1.0), (9999, 2.0)):
        training.step, training.seconds = step, share * 3600
        found[step, share] = training.rate()
    assert found[0, 0.0] == pytest.approx(0.01 / 200)
    assert found[99, 0.0] == pytest.approx(0.005)
    assert found[199, 0.0] == pytest.approx(0.01)
    assert found[999, 0.5] == pytest.approx(0.005)
    assert found[999, 0.75] == pytest.approx(0.01 * 0.5 * (1 - math.sqrt(0.5)))
    assert found[9999, 1.0] == found[9999, 2.0] == pytest.approx(0.01 * 1e-3)


def test_the_average_follows_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *small(tmp_path), "--hours", "1"])
    training = train.Training(train.arguments())
    name, weight = next((n, p) for n, p in training.encoder.named_parameters())
    before = training.average[name].clone()
    for step, decay in ((0, 0.1), (10, 11 / 20), (10**6, 0.999)):
        training.step = step
        with torch.no_grad():
            weight.add_(1)
        training.follow()
        before = decay * before + (1 - decay) * weight.detach()
        assert torch.allclose(training.average[name], before, atol=1e-5), step


@pytest.mark.slow
def test_no_image_comes_twice_in_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    take = Pool.take

    def seen(pool: Pool, rows: torch.Tensor) -> Taken:
        drawn.append(rows.tolist())
        return take(pool, rows)

    monkeypatch.setattr(Pool, "take", seen)
    call(monkeypatch, tmp_path, "--hours", "0.002", "--minutes", "0", "--batch", "256")
    assert sorted(drawn[0]) == list(range(256))


def test_the_header_says_what_every_call_was_told(tmp_path: Path) -> None:
    begun = {"event": "begin", "hours": 1, "renew": 0.1, "weights": [1, 1, 2, 1], "start": None}
    log = [
        begun,
        begun | {"event": "again", "commit": "b", "hours": 2},
        begun | {"event": "again", "commit": "b", "hours": 2},
    ]
    told = export.provenance(log, [5, 1280, 7200.0], {"w": torch.zeros(2)})
    assert (told["hours"], told["commit"], told["renew"]) == ([1, 2], ["unknown", "b"], 0.1)
    assert (told["hours_spent"], told["views"], told["images_rendered"]) == (2.0, 1280, None)
