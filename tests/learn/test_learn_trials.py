"""Short fits on parts of the training images: the same bits each time, nothing learnt from what they are judged on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medgraft.errors import NotFinite
from medgraft.learn.engine import Engine
from medgraft.learn.model import graft, repool
from medgraft.learn.prefix import cache_place, find_cuts, freeze_sources
from medgraft.learn.trials import Pace, Trial, Trials, epochs_of
from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import preset
from medgraft.samples.store import Store
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import ImageRef

COUNT = 48
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Get pictures of two kinds: the second has a bright corner."""
    folder = tmp_path_factory.mktemp("pictures")
    refs = []
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 160, (32, 32, 3), dtype=np.uint8)
        if number % 2:
            pixels[:10, :10] += 60
        Picture.fromarray(pixels).save(folder / f"{number:02}.png")
        refs.append(ImageRef(folder / f"{number:02}.png"))
    return Store.open(refs, {"size": (32, 32), "channels": 3, "fit": "pad"}, folder=folder / "cache", workers=1)


def trials(
    store: Store, *, kept: tuple[int, ...] = (0, 1, 2, 5), balance: str = "none", augment: str = "generic"
) -> Trials:
    words: dict[str, Any] = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    task = graft("classify", Answers(("well", "ill"), "ill"), **words)
    repool(task, pooling="levels")
    targets = np.arange(COUNT) % 2
    items = Items(range(COUNT), [f"key{i}" for i in range(COUNT)], targets)
    loader = Loader(store, items, spec=task.backbone.spec, batch_size=8, seed=1, shuffle=True, preset=preset(augment))
    views = 2 if augment != "none" else 1
    engine = Engine("cpu")
    cuts = find_cuts(task, torch.zeros(1, 3, 32, 32), thawed=kept)
    place = partial(cache_place, task, loader, engine=engine, views=views, identity=augment)
    caches = [(cut, place(cut=cut)) for cut in cuts]
    sources = freeze_sources(task, loader, engine=engine, caches=caches, views=views)
    by_stage = {source.start: source for source in sources}
    frozen = {thawed: by_stage[cut.stage] for thawed, cut in zip(kept, cuts, strict=True)}
    groups = [f"p{i // 4}" for i in range(COUNT)]
    return Trials(task, engine, loader=loader, frozen=frozen, groups=groups, pace=Pace(seed=1, balance=balance))


def test_parts_keep_patients_whole_and_cover_all(store: Store) -> None:
    made = trials(store)
    assert made.count == 3
    assert all(len(set(made.folds[i : i + 4])) == 1 for i in range(0, COUNT, 4))
    assert sorted(np.bincount(made.folds)) == [16, 16, 16]


@pytest.mark.parametrize("thawed", [0, 1, 5])
def test_a_trial_gives_the_same_bits_whatever_came_before(store: Store, thawed: int) -> None:
    trial = Trial(thawed, 1e-3, 2)
    first, second = trials(store), trials(store)
    second.run(Trial(2, 1e-3, 1), 1)  # something else before it
    found = [made.run(trial, 1)[0] for made in (first, second)]
    assert found[0].shape == (16, 2) and np.isfinite(found[0]).all()
    assert np.array_equal(found[0], found[1])


def test_nothing_is_learnt_from_what_is_held_out(store: Store) -> None:
    """Other labels of the held-out images change nothing."""
    plain, turned = trials(store), trials(store)
    held = turned.folds == 0
    assert turned.loader.targets is not None
    turned.loader.targets = torch.where(torch.from_numpy(held), 1 - turned.loader.targets, turned.loader.targets)
    for source in turned.frozen.values():
        source.targets = turned.loader.targets
    for trial in (Trial(0), Trial(2, 1e-3, 2)):
        assert np.array_equal(plain.run(trial, 0)[0], turned.run(trial, 0)[0])


def test_the_encoder_given_is_left_untuned(store: Store) -> None:
    made = trials(store)
    before = {name: value.clone() for name, value in made._base.state_dict().items()}
    made.run(Trial(5, 1e-2, 2), 0)
    assert all(torch.equal(value, before[name]) for name, value in made._base.state_dict().items())


def test_a_depth_without_stored_activations_starts_from_pixels(store: Store) -> None:
    """Without augmentation both ways see the same, but for the rounding of what is stored."""
    stored, plain = (trials(store, kept=kept, augment="none") for kept in ((0, 1), (0,)))
    near = [made.run(Trial(1, 1e-6, 1), 2)[0] for made in (stored, plain)]
    assert not np.array_equal(near[0], near[1]) and near[0] == pytest.approx(near[1], abs=0.1)


def test_balanced_drawing_reaches_the_fits(store: Store) -> None:
    even, drawn = trials(store), trials(store, balance="sampling")
    drawn.run(Trial(1, 1e-3, 1), 0)
    assert drawn._begun[0][1] is not None
    even.run(Trial(1, 1e-3, 1), 0)
    assert even._begun[0][1] is None


def test_tuning_learns_what_the_head_cannot(store: Store) -> None:
    made = trials(store, augment="none")
    truth = np.arange(COUNT) % 2
    right = {}
    for trial in (Trial(0), Trial(5, 3e-3, 12)):
        logits = np.empty((COUNT, 2))
        for fold in range(made.count):
            logits[made.folds == fold] = made.run(trial, fold)[0]
        right[trial.thawed] = float((logits.argmax(axis=1) == truth).mean())
    assert right[5] > max(0.9, right[0])


def test_a_trial_goes_on_from_the_weights_of_another(store: Store) -> None:
    made = trials(store)
    _, short = made.run(Trial(2, 1e-3, 2), 0)
    names = dict(made._base.named_parameters())
    stages = [name for name, _ in made._base.backbone.stages]
    learnt = {name for name in short if name in names}
    assert any(f".{stages[-1]}." in name for name in learnt) and not any(f".{stages[0]}." in name for name in learnt)
    still, _ = made.run(Trial(2, 1e-12, 1, before=2), 0, weights=short)
    ended, _ = made.run(Trial(2, 1e-3, 2), 0)
    fresh, _ = made.run(Trial(2, 1e-12, 1), 0)
    assert np.abs(still - ended).mean() < np.abs(still - fresh).mean() / 2  # but for BatchNorm, which sees batches


def test_a_rate_that_is_too_high_says_so(store: Store) -> None:
    with pytest.raises(NotFinite):
        trials(store).run(Trial(5, 1e12, 3), 0)


def test_a_share_of_a_fit_has_at_least_one_epoch() -> None:
    assert [epochs_of(60, 0.1), epochs_of(60, 0.25), epochs_of(2, 0.1), epochs_of(10, 0.25)] == [6, 15, 1, 3]


def test_the_task_is_a_whole_image_task(store: Store) -> None:
    assert isinstance(trials(store)._base, ImageTask)
    assert Path(store.refs[0].path).exists()
