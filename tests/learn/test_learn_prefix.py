"""The cache of frozen layers: the frozen net's own numbers, made once, and made anew when anything changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medgraft import storage
from medgraft.errors import DiskFull, Interrupted
from medgraft.learn import prefix
from medgraft.learn.engine import Engine
from medgraft.learn.model import graft, repool
from medgraft.learn.prefix import Cut, cache_place, find_cuts, freeze_sources, make_room
from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import preset
from medgraft.samples.store import Store
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import ImageRef

VIEWS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Get twelve small pictures, decoded once for all tests here."""
    folder = tmp_path_factory.mktemp("pictures")
    refs = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(folder / f"{number}.png")
        refs.append(ImageRef(folder / f"{number}.png"))
    return Store.open(refs, {"size": (32, 32), "channels": 3, "fit": "pad"}, folder=folder / "cache", workers=1)


def grafted(thawed: int, *, seed: int = 0, pooling: str = "avg") -> ImageTask:
    words: dict[str, Any] = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    task = graft("classify", Answers(("well", "ill"), "ill"), **words, seed=seed)
    repool(task, pooling=pooling, seed=seed)
    task.head.standard.put(torch.linspace(-1, 1, task.head.width), torch.linspace(0.5, 2, task.head.width))
    task.thaw(thawed)
    task.eval()
    return task


def loader_of(store: Store, task: ImageTask, *, augment: str = "generic", names: str = "key") -> Loader:
    items = Items(range(12), [f"{names}{i}" for i in range(12)], np.arange(12) % 2)
    spec = task.backbone.spec
    return Loader(store, items, spec=spec, batch_size=5, seed=1, shuffle=True, preset=preset(augment))


def frozen(
    store: Store,
    thawed: int,
    *,
    precision: str = "fp32",
    pooling: str = "avg",
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> tuple[ImageTask, Loader, prefix.Frozen]:
    task = grafted(thawed, pooling=pooling)
    loader = loader_of(store, task)
    (cut,) = find_cuts(task, torch.zeros(1, 3, 32, 32), thawed=[thawed])
    words: dict[str, Any] = {"engine": Engine("cpu", precision=precision), "views": VIEWS}
    place = cache_place(task, loader, cut=cut, identity="test", **words)
    (source,) = freeze_sources(task, loader, caches=[(cut, place)], listen=listen, **words)
    return task, loader, source


@pytest.mark.parametrize("pooling", ["avg", "levels"])
def test_cuts_filled_in_one_pass_hold_the_same_bits(store: Store, pooling: str) -> None:
    task = grafted(0, pooling=pooling)
    loader, stages = loader_of(store, task), len(task.parts().stages)
    depths = list(range(stages))
    cuts = find_cuts(task, torch.zeros(1, 3, 32, 32), thawed=depths)
    assert [cut.stage for cut in cuts] == [stages + 1, *range(stages - 1, 0, -1)]
    words: dict[str, Any] = {"engine": Engine("cpu"), "views": 2}
    place = partial(cache_place, task, loader, **words)
    alone = [freeze_sources(task, loader, caches=[(c, place(cut=c, identity="alone"))], **words)[0] for c in cuts]
    alone.sort(key=lambda source: source.start)
    at_once = freeze_sources(task, loader, caches=[(c, place(cut=c, identity="at once")) for c in cuts], **words)
    assert [source.start for source in at_once] == sorted(cut.stage for cut in cuts)
    for one, other in zip(alone, at_once, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert one.beside is other.beside is None or torch.equal(one.beside, other.beside)


def test_a_part_of_the_images_gives_their_rows(store: Store) -> None:
    _, loader, source = frozen(store, 1)
    chosen = np.array([5, 2, 9])
    part = source.part(chosen, loader.part(chosen))
    assert part.keys == tuple(loader.keys[i] for i in chosen)
    (batch,) = part.view(1)
    whole = torch.cat([one.pixels for one in source.view(1)])
    assert torch.equal(batch.pixels, whole[chosen]) and torch.equal(batch.targets, source.targets[chosen])


@pytest.mark.parametrize("pooling", ["avg", "levels"])
def test_pooled_features_give_exactly_the_logits_of_the_whole_net(store: Store, pooling: str) -> None:
    task, loader, found = frozen(store, 0, pooling=pooling)
    assert found.rows.dtype == torch.float32 and found.rows.ndim == 2 and found.beside is None
    for view in range(VIEWS):
        for step, batch in enumerate(loader.view(view)):
            where = torch.arange(step * 5, step * 5 + len(batch.keys)) * VIEWS + view
            with torch.no_grad():
                assert torch.equal(task(found.rows[where], found.start), task(batch.pixels))


@pytest.mark.parametrize(("precision", "looseness"), [("fp32", 1), ("bf16", 4)])
@pytest.mark.parametrize("pooling", ["avg", "levels"])
@pytest.mark.parametrize("thawed", [1, 2, 3, 4])
def test_logits_from_the_cache_are_those_from_pixels(
    store: Store, thawed: int, pooling: str, precision: str, looseness: int
) -> None:
    """By the batches that the loop gets: the map of the cut in bfloat16, features of lower levels to the last bit."""
    task, loader, found = frozen(store, thawed, pooling=pooling, precision=precision)
    lower = sum(task.head.widths[: found.start - 1])
    assert (found.beside is None) == (lower == 0)
    assert (lower > 0) == (pooling == "levels" and thawed < 2)  # three of five levels are looked at, one is at the cut
    engine = Engine("cpu", precision=precision)
    for view in range(VIEWS):
        for batch, cached in zip(loader.view(view), found.view(view), strict=True):
            assert batch.keys == cached.keys and cached.start == found.start
            with torch.no_grad(), engine.autocast():
                wanted = task.features(batch.pixels)
                got = task.features(cached.pixels, cached.start, beside=cached.beside)
                whole = task(batch.pixels)
                answer = task(cached.pixels, cached.start, cached.beside)
            assert torch.equal(got[:, :lower], wanted[:, :lower])
            size = float(whole.abs().max())
            torch.testing.assert_close(answer, whole, rtol=looseness * 2**-6, atol=looseness * 2**-7 * size)


def test_features_beside_maps_follow_their_pictures(store: Store) -> None:
    _, loader, found = frozen(store, 1, pooling="levels")
    assert found.beside is not None and found.beside.shape[0] == 12 * VIEWS
    for batch in found.epoch(3):
        assert batch.beside is not None
        for key, pixels, beside in zip(batch.keys, batch.pixels, batch.beside, strict=True):
            own = range(int(key[3:]) * VIEWS, int(key[3:]) * VIEWS + VIEWS)
            (row,) = [place for place in own if torch.equal(found.rows[place].float(), pixels)]
            assert torch.equal(found.beside[row], beside)


@pytest.mark.parametrize("thawed", [1, 2, 3])
def test_maps_are_those_of_the_frozen_net_rounded_to_bfloat16(store: Store, thawed: int) -> None:
    task, loader, found = frozen(store, thawed)
    assert found.rows.dtype == torch.bfloat16 and found.start == len(task.parts().stages) - thawed
    for view in range(VIEWS):
        for step, batch in enumerate(loader.view(view)):
            where = torch.arange(step * 5, step * 5 + len(batch.keys)) * VIEWS + view
            with torch.no_grad():
                below = task.backbone.run(batch.pixels, stop=found.start)
                assert torch.equal(found.rows[where], below.to(torch.bfloat16))
                whole, cached = task(batch.pixels), task(found.rows[where].float(), found.start)
            torch.testing.assert_close(cached, whole, rtol=2**-6, atol=2**-7 * float(whole.abs().max()))


def test_each_epoch_shows_each_picture_by_one_of_its_views(store: Store) -> None:
    _, loader, found = frozen(store, 0)
    seen = set()
    for epoch in range(8):
        batches = list(found.epoch(epoch))
        assert sorted(key for batch in batches for key in batch.keys) == sorted(loader.keys)
        for batch in batches:
            for row, key, target in zip(batch.pixels, batch.keys, batch.targets, strict=True):  # type: ignore[arg-type]
                number = int(key[3:])
                assert int(target) == number % 2
                own = found.rows[number * VIEWS : number * VIEWS + VIEWS]
                (view,) = [v for v in range(VIEWS) if torch.equal(own[v], row)]
                seen.add(view)
        for one, two in zip(batches[1:], found.epoch(epoch, start_step=1), strict=True):
            assert one.keys == two.keys and torch.equal(one.pixels, two.pixels)
    assert seen == set(range(VIEWS))


def test_a_second_call_runs_nothing(store: Store) -> None:
    events: list[dict[str, Any]] = []
    _, _, first = frozen(store, 1, listen=events.append)
    assert events[-1] == {"event": "prefix", "done": 36, "of": 36}
    events.clear()
    _, _, second = frozen(store, 1, listen=events.append)
    assert not events
    assert torch.equal(first.rows, second.rows)


@pytest.mark.parametrize("stop_at", [5, 17])
def test_an_interrupted_first_call_is_finished_with_the_same_bits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    def strike(event: dict[str, Any]) -> None:
        if event["done"] >= stop_at:
            raise Interrupted("stopped")

    _, _, whole = frozen(store, 1)
    monkeypatch.setenv("MEDGRAFT_HOME", str(tmp_path / "another"))
    with pytest.raises(Interrupted):
        frozen(store, 1, listen=strike)
    (done,) = [*(tmp_path / "another" / "prefix").glob("*/done.json")] or [None]
    assert (json.loads(done.read_text())["views"] if done else 0) == stop_at // 12
    events: list[dict[str, Any]] = []
    _, _, found = frozen(store, 1, listen=events.append)
    assert events[0]["done"] == stop_at // 12 * 12 + 5  # whole views are not run again
    assert torch.equal(found.rows, whole.rows)


def test_a_cache_that_was_cut_short_is_made_anew(store: Store) -> None:
    _, _, whole = frozen(store, 1)
    (path,) = (storage.home() / "prefix").glob("*/rows.bin")
    kept = whole.rows.clone()
    path.unlink()
    path.write_bytes(b"\0" * 100)
    assert torch.equal(frozen(store, 1)[2].rows, kept)


def test_whatever_decides_the_numbers_decides_the_place(store: Store) -> None:
    def place(
        *,
        task: ImageTask,
        names: str = "key",
        precision: str = "fp32",
        identity: str = "a",
        cut: int = 3,
        beside: int = 0,
        views: int = 2,
    ) -> Path:
        loader = loader_of(store, task, names=names)
        where = Cut(cut, (8,), torch.float32, beside)
        engine = Engine("cpu", precision=precision)
        return cache_place(task, loader, engine=engine, cut=where, views=views, identity=identity)

    task, other = grafted(1), grafted(1)
    with torch.no_grad():
        next(iter(other.parts().stages[2][1].parameters())).view(-1)[0] += 1e-6
    above = grafted(1)
    with torch.no_grad():
        next(iter(above.parts().stages[-1][1].parameters())).add_(1)
        next(iter(above.head.parameters())).add_(1)
    usual = place(task=task)
    assert usual == place(task=grafted(1)) == place(task=above)  # what is above the cut does not matter
    assert usual == place(task=grafted(1, pooling="levels")) != place(task=grafted(1, pooling="levels"), beside=8)
    moved = grafted(1)
    next(buffer for name, buffer in moved.backbone.named_buffers() if name.endswith("running_mean")).add_(1e-6)
    assert usual != place(task=moved)
    different = [
        place(task=other), place(task=task, names="name"), place(task=task, precision="bf16"),
        place(task=task, identity="b"), place(task=task, cut=2), place(task=task, views=3),
    ]  # fmt: skip
    assert len({usual, *different}) == 7


@pytest.mark.slow
def test_a_changed_picture_or_preset_makes_new_caches(tiny_data: Path, tmp_path: Path) -> None:
    import medgraft as mg

    def train(name: str, **more: Any) -> int:
        settings = {"fit.precision": "fp32", "fit.channels_last": False, "scores.resamples": 100}
        words = {"backbone": "none:timm:test_resnet", "image_size": 32, "batch_size": 8, "epochs": 1, "device": "cpu"}
        words |= {"depth": 1, "label_column": "label", "augment": "generic", **more}
        mg.train(tiny_data, out=tmp_path / name, **words, settings=settings)
        return len(list((storage.home() / "prefix").glob("*/done.json")))

    assert train("first") == 2  # training and validation
    assert train("again") == 2
    assert train("other preset", augment="fundus") > 2
    count = train("first again")
    first, second = tiny_data.parent / "p00_0.png", tiny_data.parent / "p00_1.png"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert train("changed pictures") == count + 2


def filled(name: str, age: int, size: int = 1000) -> Path:
    place = storage.home() / "prefix" / name
    place.mkdir(parents=True)
    (place / "rows.bin").write_bytes(b"\0" * size)
    (place / "done.json").write_text("{}")
    os.utime(place / "rows.bin", (10_000 - age, 10_000 - age))
    return place / "rows.bin"


def test_room_is_made_by_the_least_recently_used() -> None:
    old, middle, new = filled("a", 100), filled("c", 50), filled("b", 1)
    assert make_room(3500, 500)
    assert old.exists()
    assert make_room(3500, 1000)
    assert not old.exists() and not (old.parent / "done.json").exists()
    assert middle.exists() and new.exists()
    assert not make_room(900, 1000)
    assert middle.exists() and new.exists()  # nothing is deleted in vain
    assert make_room(1000, 1000)
    assert not middle.exists() and not new.exists()


def test_own_caches_and_those_being_filled_stay() -> None:
    own, filling, other = filled("a", 100), filled("c", 50), filled("b", 1)
    with storage.lock(filling.parent):
        assert make_room(3000, 1000, keep=[own.parent])
        assert own.exists() and filling.exists() and other.exists()
        assert not make_room(1500, 1000, keep=[own.parent])
    assert own.exists() and filling.exists()


def test_use_makes_a_cache_recent(store: Store) -> None:
    frozen(store, 0)
    (used,) = (storage.home() / "prefix").glob("*/rows.bin")
    os.utime(used, (1, 1))
    other = filled("other", 0)
    frozen(store, 0)
    assert make_room(1500 + used.stat().st_size, 1000)
    assert used.exists() and not other.exists()


def test_a_cache_without_room_is_said_and_leaves_no_file(store: Store) -> None:
    task = grafted(0)
    loader = loader_of(store, task)
    huge = Cut(1, (1 << 40,), torch.float32)
    engine = Engine("cpu")
    place = cache_place(task, loader, engine=engine, cut=huge, views=1, identity="huge")
    with pytest.raises(DiskFull, match=r"needs \d+\.\d MB, \d+\.\d MB are free"):
        freeze_sources(task, loader, engine=engine, caches=[(huge, place)], views=1)
    assert not (place / "rows.bin").exists() and not (place / "done.json").exists()
