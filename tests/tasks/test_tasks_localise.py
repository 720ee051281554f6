"""Localise: what is unknown teaches nothing, zones lie where they should, and severities mean what they say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.errors import BadData, BadRecipe
from medgraft.learn.model import graft
from medgraft.nets.zones import SeverityHead
from medgraft.tasks.base import Answers
from medgraft.tasks.localise import Localise, grid_for
from medgraft.tasks.meter import ZoneMeter, nearest
from medgraft.values import ImageRef, Sample

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
NAMES = tuple(f"z{zone}" for zone in range(1, 7))
NETS = ("none:timm:test_vit", "none:timm:resnet10t", "embedded:vit", "none:timm:vit_small_patch14_dinov2")


def sample(label: str | None, *zones: float) -> Sample:
    own = dict(zip(NAMES, zones or [math.nan] * 6, strict=True))
    return Sample("k", ImageRef(Path("none")), label, zones=own)


def task(net: str = NETS[0], *, size: int = 32, grades: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)) -> Localise:
    answers = Answers(("clear", "opacity"), "opacity", zones=NAMES, grid=(3, 2), grades=grades)
    found = graft("localise", answers, backbone_name=net, channels=1, image_size=size)
    assert isinstance(found, Localise)
    return found


def test_answers_come_from_what_is_known():
    samples = [sample("clear"), sample("opacity", 0, 1, 2, 3, 0, 0), sample("", 1, 1, 1, 1, 1, 1)]
    answers = Localise.answers_of(samples)
    assert answers.classes == ("clear", "opacity") and answers.grades == (0, 1, 2, 3)
    assert answers.zones == NAMES and answers.grid == (3, 2)
    shares = Localise.answers_of([*samples[:1], sample("opacity", 0.5, 0, 0.25, 1, 0, 0)])
    assert shares.grades == ()


def test_severities_that_are_neither_grades_nor_shares_are_refused():
    with pytest.raises(BadData, match=r"lie between 0 and 7.5"):
        Localise.answers_of([sample("a", 0, 7.5, 1, 0, 0, 0), sample("b", 0, 0, 0, 0, 0, 0)])
    with pytest.raises(BadData, match="have one severity"):
        Localise.answers_of([sample("a", 0, 0, 0, 0, 0, 0), sample("b")])
    with pytest.raises(BadData, match="training knew grades 0, 1, 2, 3"):
        task().targets_of([sample("clear", 0, 0, 0, 0, 0, 9)])
    with pytest.raises(BadRecipe, match="has no place for 6 zones"):
        grid_for(6, (2, 2))


def test_targets_and_the_part_whose_diagnosis_is_known():
    own = task()
    samples = [sample("opacity", 0, 1, 2, 3, 0, math.nan), sample("", 1, 1, 1, 1, 1, 1), sample("clear")]
    targets = own.targets_of(samples)
    assert targets[:, 0].tolist() == [1, -1, 0]
    assert np.isnan(targets[0, 6]) and targets[0, 1:6].tolist() == [0, 1, 2, 3, 0] and np.isnan(targets[2, 1:]).all()
    rows, known = own.named(targets)
    assert rows.tolist() == [0, 2] and known.tolist() == [1, 0]


@pytest.mark.parametrize("grades", [(0.0, 1.0, 2.0, 3.0), ()])
def test_what_is_unknown_has_no_gradient(grades: tuple[float, ...]):
    own = task(grades=grades)
    targets = torch.tensor([[1.0, *[math.nan] * 6], [-1.0, 0, 1, 0, 1, 0, math.nan]])
    logits = torch.full((2, 8), -1.0, requires_grad=True)
    own.loss(logits, targets).sum().backward()
    assert logits.grad is not None
    taught = logits.grad != 0
    assert taught[0].tolist() == [True, True, *[False] * 6]
    assert taught[1].tolist() == [False, False, *[True] * 5, False]


@pytest.mark.parametrize("grades", [(0.0, 1.0, 2.0, 3.0), ()])
def test_neither_question_drowns_the_other(grades: tuple[float, ...]):
    """A model that knows how often each answer comes, and no more, loses 1 an image by each question on the mean."""
    random = np.random.default_rng(0)
    own = task(grades=grades)
    targets = np.full((400, 7), np.nan, np.float32)
    targets[:, 0] = np.where(random.random(400) < 0.5, -1, random.random(400) < 0.3)
    values = random.integers(0, 4, (200, 6)) if grades else random.random((200, 6)) ** 2
    targets[:200, 1:] = values
    own.begin(targets)
    known = targets[:, 0] >= 0
    share = (targets[known, 0] == 1).mean()
    logits = torch.zeros(400, 8)
    logits[:, 1] = math.log(share / (1 - share))
    # A map that is the same everywhere gives each zone the severity that the head begins with.
    logits[:, 2:] = math.log(0.05) if grades else math.log(values.mean())
    truth = torch.from_numpy(targets)
    unknown = truth.clone()
    unknown[:, 1:] = math.nan
    with torch.no_grad():
        diagnoses = float(own.loss(logits, unknown).mean())
        zones = float(own.loss(logits, truth).mean()) - diagnoses
    assert diagnoses == pytest.approx(1, abs=0.01) and zones == pytest.approx(1, abs=0.01)


def test_a_zone_begins_as_its_cell_of_the_grid():
    torch.manual_seed(0)
    head = SeverityHead([8], [(12, 12)], grid=(3, 2), zones=6, steps=0, dropout=0.0).eval()
    _, belongs = head.places([torch.randn(2, 8, 12, 12)])
    shares = belongs.exp()[0].reshape(6, 12, 12)
    assert torch.allclose(shares.sum((1, 2)), torch.ones(6))
    for zone, (row, column) in enumerate([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]):
        cell = slice(4 * row, 4 * row + 4), slice(6 * column, 6 * column + 6)
        assert shares[zone][cell].sum() > 0.7, "most of a zone lies in its cell"
        assert shares[zone].argmax() in torch.arange(144).reshape(12, 12)[cell]


def test_the_severity_of_a_zone_lies_between_the_mean_and_the_worst_of_its_places():
    torch.manual_seed(0)
    head = SeverityHead([4], [(6, 6)], grid=(3, 2), zones=6, steps=3, dropout=0.0).eval()
    torch.nn.init.normal_(head.severity.weight, std=3.0)
    level = [torch.randn(3, 4, 6, 6)]
    severity, belongs = head.places(level)
    mean = torch.einsum("np,nzp->nz", severity.exp(), belongs.exp())
    assert torch.allclose(head(level).exp(), mean, atol=1e-5)
    assert head.rise is not None
    with torch.no_grad():
        head.rise.fill_(math.log(50))
    worst = severity.exp().amax(dim=1, keepdim=True)
    assert (head(level).exp() > mean - 1e-6).all() and (head(level).exp() <= worst + 1e-6).all()


def test_the_map_adds_up_to_the_severities():
    torch.manual_seed(0)
    own = task("none:timm:resnet10t", size=64, grades=()).eval()
    pixels = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        total = own.severities(own(pixels)).sum(dim=1)
        assert torch.allclose(own.severity_map(pixels).sum((1, 2)), total, atol=1e-5)


@pytest.mark.parametrize(("thawed", "probed"), [(0, True), (0, False), (1, True)])
def test_the_probe_stays_where_the_features_do(thawed: int, probed: bool):
    own = task()
    own.probed = probed
    own.thaw(thawed)
    own.train()
    targets = torch.tensor([[1.0, 0, 1, 2, 3, 0, 0], [0.0, 0, 0, 0, 0, 0, 0]])
    own.loss(own(torch.randn(2, 1, 32, 32)), targets).sum().backward()
    assert (own.head.linear.weight.grad is None) == (probed and not thawed)
    assert own.regions.severity.weight.grad is not None


def test_every_grade_is_within_reach_at_the_start():
    """A rare grade is the nearest one where all of a zone is affected, and none where nothing is."""
    own = task()
    targets = np.full((1000, 7), np.nan, np.float32)
    targets[:, 0] = np.arange(1000) % 2
    targets[:, 1:] = np.repeat([0, 1, 2, 3], [800, 100, 60, 40])[:, None]
    own.begin(targets)
    logits = torch.zeros(2, 8)
    logits[0, 2:], logits[1, 2:] = math.log(0.95), math.log(0.001)
    with torch.no_grad():
        values = own.severities(logits)
    assert (values[0] > 2.5).all() and (values[1] < 0.1).all()


@pytest.mark.parametrize("net", NETS)
def test_predictions_of_many_encoders(net: str):
    own = task(net, size=56 if "dinov2" in net else 96 if "embedded" in net else 32).eval()
    pixels = torch.randn(2, 1, *own.backbone.spec.size)
    with torch.no_grad():
        logits = own(pixels).double().numpy()
    own.reach = (1.0, 2.5)
    one = own.interpret(["a", "b"], logits)[0]
    assert one.predicted in ("clear", "opacity") and len(one.probabilities) == 2
    assert set(one.zones) == set(NAMES) and all(0 <= value <= 3 for value in one.zones.values())
    assert one.severity == pytest.approx(sum(one.zones.values()))
    assert one.severity_ends == pytest.approx((max(0, one.severity - 2.5), min(18, one.severity + 2.5)))


def test_the_meter_scores_both_questions_where_they_are_known():
    own = task()
    logits = np.zeros((3, 8))
    logits[:, 1] = [3, -3, 0]
    logits[:, 2:] = np.log([[0.9] * 6, [0.01] * 6, [0.5] * 6])
    meter = own.meter()
    assert isinstance(meter, ZoneMeter)
    targets = np.array([[1, 3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0], [-1, 1, *[np.nan] * 5]])
    meter.update(own.interpret(["a", "b", "c"], logits), targets)
    loss, score = meter.watch()
    assert np.isfinite(loss) and 0.5 < score <= 1 and meter.keys == ["a", "b", "c"]
    assert nearest(np.array([[0.2, 1.6]]), np.array([0.0, 1.0, 3.0])).tolist() == [[0, 1]]
