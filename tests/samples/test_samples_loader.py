"""Batches: a function of seed, epoch and step; workers that follow the run's fate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medgraft.errors import BadImage, MedgraftError, OutOfMemory
from medgraft.samples import augment, crew
from medgraft.samples.loader import Items, Loader, normalised
from medgraft.samples.order import balanced_share, epoch_order, occurrences
from medgraft.samples.presets import PRESETS
from medgraft.samples.store import Store
from medgraft.values import Batch, ImageRef, InputSpec

COUNT = 23
SPEC = InputSpec(size=(24, 24))
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("loader")
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(folder / f"{i:03}.png")
    refs = [ImageRef(path) for path in sorted(folder.glob("*.png"))]
    return Store.open(refs, {"size": (24, 24), "channels": 3, "fit": "pad"}, folder=folder / "cache")


def loader(store: Store, **changes: Any) -> Loader:
    items = Items(
        range(COUNT),
        [f"case/{i}" for i in range(COUNT)],
        targets=np.arange(COUNT),
        weights=np.linspace(1, 2, COUNT, dtype=np.float32),
        share=changes.pop("share", None),
    )
    settings: dict[str, Any] = {"batch_size": 5, "seed": 3, "shuffle": True, "preset": PRESETS["fundus"], **changes}
    return Loader(store, items, spec=SPEC, **settings)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.keys == y.keys
        and torch.equal(x.pixels, y.pixels)
        and torch.equal(x.targets, y.targets)  # type: ignore[arg-type]
        and torch.equal(x.weights, y.weights)  # type: ignore[arg-type]
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_what_its_words_say(store: Store) -> None:
    made = loader(store)
    batches = list(made.epoch(0))
    assert len(made) == len(batches) == 5 and [len(b.keys) for b in batches] == [5, 5, 5, 5, 3]
    assert sorted(key for b in batches for key in b.keys) == sorted(made.keys)
    for batch in batches:
        assert batch.pixels.shape[1:] == (3, 24, 24) and batch.pixels.dtype == torch.float32
        assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets is not None and batch.weights is not None
        assert [f"case/{t}" for t in batch.targets.tolist()] == list(batch.keys)
        assert np.array_equal(batch.weights, np.linspace(1, 2, COUNT, dtype=np.float32)[batch.targets])
    assert same(batches, list(loader(store).epoch(0)))
    assert not same(batches, list(made.epoch(1)))


def test_the_pixels_are_those_of_augment(store: Store) -> None:
    batch = next(loader(store).epoch(2))
    assert batch.targets is not None
    rows = store.rows(batch.targets.numpy())
    drawn = augment.augment(rows, PRESETS["fundus"], keys=batch.keys, seed=3, epoch=2)
    assert torch.equal(batch.pixels, normalised(drawn, SPEC))


def test_other_batch_sizes_show_the_same_pixels(store: Store) -> None:
    def by_key(size: int) -> dict[str, torch.Tensor]:
        return {k: p for b in loader(store, batch_size=size).epoch(1) for k, p in zip(b.keys, b.pixels, strict=True)}

    one, seven = by_key(1), by_key(7)
    assert one.keys() == seven.keys() and all(torch.equal(one[k], seven[k]) for k in one)


def test_workers_change_nothing(store: Store) -> None:
    share = balanced_share([i < 4 for i in range(COUNT)])
    for changes in ({}, {"share": share}):
        alone, helped = loader(store, **changes), loader(store, workers=2, **changes)
        state = torch.random.get_rng_state()
        for epoch in (0, 1):
            assert same(list(alone.epoch(epoch)), list(helped.epoch(epoch)))
        assert same(list(alone.epoch(1, start_step=3)), list(helped.epoch(1, start_step=3)))
        assert same(list(alone.view(2)), list(helped.view(2)))
        assert torch.equal(state, torch.random.get_rng_state())
        helped.close()


def test_workers_stay_from_epoch_to_epoch_and_outlive_a_broken_off_one(store: Store) -> None:
    made = loader(store, workers=1)
    list(made.epoch(0))
    first = children()
    batches = made.epoch(1)
    next(batches)
    del batches
    assert same(list(made.epoch(2)), list(loader(store).epoch(2)))
    assert children() == first and len(first) == 1
    made.close()
    assert wait_until(lambda: not children())
    assert same(list(made.epoch(0)), list(loader(store).epoch(0)))  # started anew
    made.close()


def test_an_epoch_can_start_at_any_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loader(store)
    whole = list(made.epoch(4))
    asked: list[int] = []
    real = Store.rows
    monkeypatch.setattr(Store, "rows", lambda self, indices: (asked.extend(indices), real(self, indices))[1])
    for step in range(len(made) + 1):
        asked.clear()
        assert same(whole[step:], list(made.epoch(4, start_step=step)))
        assert len(asked) == max(0, COUNT - 5 * step)  # the earlier ones are not read


def test_evaluation_is_in_order_and_plain(store: Store) -> None:
    made = loader(store, shuffle=False, preset=None)
    batches = list(made.epoch(0))
    assert [k for b in batches for k in b.keys] == list(made.keys)
    assert torch.equal(torch.cat([b.pixels for b in batches]), normalised(store.rows(range(COUNT)), SPEC))
    assert same(batches, list(made.epoch(9)))


def test_views_show_each_sample_once_in_order(store: Store) -> None:
    made = loader(store, share=balanced_share([i < 4 for i in range(COUNT)]), drop_last=True)
    plain = list(made.view(0))
    assert torch.equal(torch.cat([b.pixels for b in plain]), normalised(store.rows(range(COUNT)), SPEC))
    views = [torch.cat([b.pixels for b in made.view(v)]) for v in (1, 2)]
    for view in (1, 2):
        assert [k for b in made.view(view) for k in b.keys] == list(made.keys)
    assert not torch.equal(views[0], views[1])


def test_drop_last(store: Store) -> None:
    made = loader(store, drop_last=True)
    assert len(made) == 4 and [len(b.keys) for b in made.epoch(0)] == [5] * 4
    assert same(list(loader(store).epoch(0))[:4], list(made.epoch(0)))


def test_unlabelled(store: Store) -> None:
    made = Loader(store, Items([2, 1], ["b", "a"]), spec=SPEC, batch_size=8)
    (batch,) = made.epoch(0)
    assert batch.targets is None and batch.weights is None and batch.keys == ("b", "a")
    empty = Loader(store, Items([], []), spec=SPEC, batch_size=8)
    assert len(empty) == 0 and list(empty.epoch(0)) == []


def test_normalised_is_the_formula(store: Store) -> None:
    rows = store.rows(range(3))
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (SPEC.mean, SPEC.std))
    truth = (rows / 255 - mean) / std
    np.testing.assert_allclose(normalised(rows, SPEC).numpy(), truth, atol=1e-6)
    np.testing.assert_allclose(normalised(rows.astype(np.uint16) * 257, SPEC).numpy(), truth, atol=1e-6)
    unit = torch.from_numpy((rows / 255).astype(np.float32))
    before = unit.clone()
    np.testing.assert_allclose(normalised(unit, SPEC).numpy(), truth, atol=1e-6)
    assert torch.equal(unit, before)
    with pytest.raises(ValueError, match="channels"):
        normalised(rows[:, :1], SPEC)
    volume = np.zeros((2, 1, 4, 5, 6), np.uint8)
    gray = InputSpec(channels=1, mean=(0.5,), std=(0.25,))
    assert torch.all(normalised(volume, gray) == -2.0) and normalised(volume, gray).shape == (2, 1, 4, 5, 6)


def test_the_sheet_shows_augmented_images(store: Store) -> None:
    sheet, keys = loader(store).sample_sheet(16)
    assert sheet.shape == (16, 3, 24, 24) and sheet.dtype == np.uint8 and len(set(keys)) == 16
    again, _ = loader(store).sample_sheet(16)
    np.testing.assert_array_equal(sheet, again)
    plain, keys = loader(store, preset=None).sample_sheet(99)
    assert len(plain) == COUNT
    np.testing.assert_array_equal(plain, store.rows([int(key.split("/")[1]) for key in keys]))


def test_orders() -> None:
    a = epoch_order(100, seed=1, epoch=0)
    assert sorted(a) == list(range(100))
    np.testing.assert_array_equal(a, epoch_order(100, seed=1, epoch=0))
    for other in (epoch_order(100, seed=2, epoch=0), epoch_order(100, seed=1, epoch=1)):
        assert not np.array_equal(a, other)
    assert len(epoch_order(0, seed=0)) == 0


def test_shares_are_met_up_to_rounding() -> None:
    labels = ["rare"] * 7 + ["common"] * 93
    share = balanced_share(labels)
    totals: Counter[int] = Counter()
    for epoch in range(50):
        order = epoch_order(100, seed=0, epoch=epoch, share=share)
        np.testing.assert_array_equal(order, epoch_order(100, seed=0, epoch=epoch, share=share * 17))
        counts = np.bincount(order, minlength=100)
        assert abs(counts[:7].sum() - 50) <= 1 and len(order) == 100
        assert set(counts[:7]) <= {7, 8} and set(counts[7:]) <= {0, 1}
        totals.update(order.tolist())
    assert min(totals.values()) > 15  # every common one is shown in about half of the epochs
    first = [int(epoch_order(100, seed=0, epoch=e, share=share)[0] < 7) for e in range(200)]
    assert 70 < sum(first) < 130  # the order inside an epoch is shuffled


def test_bad_shares_are_refused() -> None:
    for share in (np.zeros(3), np.ones(2), np.array([1, -1, 1]), np.array([1, np.nan, 1])):
        with pytest.raises(ValueError, match="share"):
            epoch_order(3, seed=0, share=share)
    assert epoch_order(3, seed=0, share=np.array([0, 1, 0])).tolist() == [1, 1, 1]


def test_a_sample_shown_twice_is_augmented_twice(store: Store) -> None:
    share = np.ones(COUNT)
    share[0] = 20
    made = loader(store, share=share, batch_size=COUNT)
    (batch,) = made.epoch(0)
    shown = [p for k, p in zip(batch.keys, batch.pixels, strict=True) if k == "case/0"]
    assert len(shown) > 5
    assert all(not torch.equal(a, b) for i, a in enumerate(shown) for b in shown[:i])
    assert occurrences([1, 2, 1, 1]) == [0, 0, 1, 2]


def test_bad_images_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    Picture.fromarray(np.zeros((24, 24), np.uint8)).save(tmp_path / "b.png")
    refs = [ImageRef(tmp_path / "a.png"), ImageRef(tmp_path / "b.png")]
    store = Store.open(refs, {"size": (24, 24), "channels": 1, "fit": "pad"}, folder=tmp_path / "cache")
    gray = InputSpec(channels=1, mean=(0.5,), std=(0.5,))
    with pytest.raises(BadImage, match="a.png"):
        Loader(store, Items([0, 1], ["a", "b"]), spec=gray, batch_size=2)
    assert len(list(Loader(store, Items([1], ["b"]), spec=gray, batch_size=2).epoch(0))) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_keeps_its_words(tmp_path: Path, workers: int) -> None:
    Picture.fromarray(np.zeros((24, 24), np.uint8)).save(tmp_path / "b.png")
    net = {"size": (24, 24), "channels": 1, "fit": "pad"}
    store = Store.open([ImageRef(tmp_path / "b.png")], net, folder=tmp_path / "cache", budget_bytes=0)
    made = Loader(
        store, Items([0], ["b"]), spec=InputSpec(channels=1, mean=(0.5,), std=(0.5,)), batch_size=1, workers=workers
    )
    (tmp_path / "b.png").unlink()
    with pytest.raises(BadImage) as caught:
        list(made.epoch(0))
    assert str(tmp_path / "b.png") in str(caught.value) and "Traceback" not in str(caught.value)
    made.close()


def children(parent: int | None = None) -> set[int]:
    """Living processes whose parent is the given one."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == (parent or os.getpid()) and fields[0] != "Z":
            found.add(int(entry.parent.name))
    return found


def wait_until(what, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def running(store: Store) -> Iterator[tuple[Loader, Iterator[Batch], set[int]]]:
    made = loader(store, workers=2, batch_size=1)
    before = children()
    batches = made.epoch(0)
    next(batches)
    yield made, batches, children() - before
    made.close()


@linux
def test_signals_of_the_run_do_not_reach_the_workers(running) -> None:
    _, batches, workers = running
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert len(list(batches)) == COUNT - 1
    assert workers <= children()


@linux
def test_signals_reach_no_worker_that_is_still_starting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = crew._settle

    def slowly(worker: int) -> None:
        time.sleep(0.5)
        settle(worker)

    monkeypatch.setattr(crew, "_settle", slowly)
    made = loader(store, workers=2, batch_size=1)
    before = children()
    batches: list[Batch] = []
    reader = threading.Thread(target=lambda: batches.extend(made.epoch(0)))
    reader.start()
    assert wait_until(lambda: len(children() - before) == 2)
    for pid in children() - before:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    reader.join()
    assert len(batches) == COUNT
    made.close()


@linux
@pytest.mark.slow
def test_a_killed_worker_is_reported(running) -> None:
    made, batches, workers = running
    before = signal.getsignal(signal.SIGCHLD)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)  # nothing may be raised here, in the middle of other code
    with pytest.raises(OutOfMemory, match="killed") as caught:
        list(batches)
    assert "--workers" in str(caught.value) and isinstance(caught.value, MedgraftError)
    assert signal.getsignal(signal.SIGCHLD) == before
    assert len(list(made.epoch(1))) == COUNT  # a new crew


ORPHANS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_samples_loader import children, loader
from medgraft.samples.store import Store
from medgraft.values import ImageRef
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    refs = [ImageRef(path) for path in sorted(folder.glob("*.png"))]
    store = Store.open(refs, {"size": (24, 24), "channels": 3, "fit": "pad"}, folder=folder / "cache")
    batches = loader(store, workers=2, batch_size=1).epoch(0)
    next(batches)
    print(*children(), flush=True)
    time.sleep(60)
"""


@linux
@pytest.mark.slow
def test_a_killed_run_leaves_no_workers(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(ORPHANS)
    command = [sys.executable, str(script), str(store.refs[0].path.parent), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
