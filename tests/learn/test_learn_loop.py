"""The loop: its schedule, its averages, its patience, and that stopping anywhere changes no bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medgraft import seeds
from medgraft.errors import Interrupted, NotFinite, OutOfMemory
from medgraft.learn import stopping
from medgraft.learn.engine import Engine, memory_said
from medgraft.learn.loop import Fitted, Loop, Schedule
from medgraft.learn.model import graft
from medgraft.learn.resume import Checkpoints
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import Batch


class Pictures:
    """Batches of eight 32 x 32 pictures, another order each epoch; `before` is called with (epoch, step) first."""

    def __init__(self, count: int, *, shuffle: bool, before: Callable[[int, int], None] = lambda *_: None) -> None:
        random = np.random.default_rng(count)
        self.targets = torch.arange(count) % 2
        self.pixels = torch.from_numpy(random.normal(0, 1, (count, 3, 32, 32)).astype(np.float32))
        self.pixels[self.targets == 1, :, 8:16, 8:16] += 1.5
        self.shuffle, self.before = shuffle, before

    def __len__(self) -> int:
        return len(self.targets) // 8

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        count = len(self.targets)
        order = seeds.generator(3, "test", epoch).permutation(count) if self.shuffle else np.arange(count)
        for step in range(start_step, len(self)):
            self.before(epoch, step)
            chosen = torch.from_numpy(order[step * 8 : step * 8 + 8])
            yield Batch(self.pixels[chosen], tuple(f"picture{int(i)}" for i in chosen), self.targets[chosen])


def made(
    folder: Path,
    *,
    train: Pictures | None = None,
    val: Pictures | None = None,
    lr: float = 1e-2,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
    start: Callable[[ImageTask], dict[str, Any]] | None = None,
    **schedule: Any,
) -> Loop:
    """Build everything anew, as a new process would."""
    folder.mkdir(exist_ok=True)
    task = graft(
        "classify",
        Answers(("well", "ill"), "ill"),
        backbone_name="none:timm:test_resnet",
        channels=3,
        image_size=32,
        dropout=0.2,  # draws from torch's own generator in each step
    )
    task.mixup = 0.2
    return Loop(
        task,
        Engine("cpu"),
        optimisers={"all": torch.optim.AdamW(task.parameters(), lr=lr)},
        train=train or Pictures(40, shuffle=True),
        val=val or Pictures(16, shuffle=False),
        schedule=Schedule(**{"epochs": 3, "save_seconds": 0.0, **schedule}),
        folder=folder,
        listen=listen,
        start=dict if start is None else lambda: start(task),
    )


def bits(task: ImageTask | Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def logged(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("time", "images_per_second")} for row in rows]


class Killed(Exception):
    """Stands for kill -9: nothing in the program catches it."""


def once(at: tuple[int, int], strike: Callable[[], object]) -> Callable[[int, int], None]:
    """Strike the first time that (epoch, step) comes up."""
    left = [at]

    def before(epoch: int, step: int) -> None:
        if left and left[0] == (epoch, step):
            left.clear()
            strike()

    return before


def test_seconds_of_all_sessions_count(tmp_path: Path) -> None:
    cut = made(tmp_path / "cut", train=Pictures(40, shuffle=True, before=once((1, 3), killed)))
    with pytest.raises(Killed):
        cut.run()
    newest = cut.checkpoints.latest()
    assert newest is not None and newest.facts["seconds"] > 0
    again = made(tmp_path / "cut")
    assert again.run().seconds > newest.facts["seconds"]
    assert [row["step"] for row in logged(tmp_path / "cut")] == [5, 10, 15]


def killed() -> None:
    raise Killed


def test_the_rate_rises_and_falls_to_zero() -> None:
    schedule = Schedule(epochs=1, warmup=0.1)
    rates = [schedule.rate(step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1.0
    assert all(later < earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 1e-3
    flat = Schedule(epochs=1, warmup=0.0)
    assert flat.rate(0, 10) == 1.0 and flat.rate(0, 1) == 1.0


@pytest.mark.parametrize("ema", [0.0, 0.7])
@pytest.mark.parametrize("where", ["training", "validation"])
def test_killed_and_resumed_is_the_same_as_left_alone(tmp_path: Path, where: str, ema: float) -> None:
    whole = made(tmp_path / "whole", ema=ema)
    fitted = whole.run()
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]
    if where == "training":
        cut = made(tmp_path / "cut", ema=ema, train=Pictures(40, shuffle=True, before=once((1, 3), killed)))
    else:
        strikes = iter([0, 0, 1])  # the second batch of the second validation

        def before(_: int, step: int) -> None:
            if step == 1 and next(strikes, 0) == 1:
                raise Killed

        cut = made(tmp_path / "cut", ema=ema, val=Pictures(16, shuffle=False, before=before))
        next(strikes)
    with pytest.raises(Killed):
        cut.run()
    with open(tmp_path / "cut" / "log.jsonl", "a") as file:
        file.write('{"event": "epoch", "epoch": 99}\n{"torn')  # what came after the last checkpoint
    again = made(tmp_path / "cut", ema=ema)
    resumed = again.run()
    assert resumed.history == fitted.history and resumed.best_epoch == fitted.best_epoch
    assert_same(bits(again.task), bits(whole.task))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_signal_is_answered_with_a_checkpoint(tmp_path: Path, where: str) -> None:
    whole = made(tmp_path / "whole", ema=0.7, save_seconds=1e9)
    whole.run()
    before = once((1, 2) if where == "training" else (0, 1), lambda: os.kill(os.getpid(), signal.SIGTERM))
    sources = {"training": "train", "validation": "val"}
    source = (
        Pictures(40, shuffle=True, before=before) if where == "training" else Pictures(16, shuffle=False, before=before)
    )
    words: dict[str, Any] = {sources[where]: source}
    with stopping.watching(), pytest.raises(Interrupted, match="SIGTERM"):
        made(tmp_path / "cut", ema=0.7, save_seconds=1e9, **words).run()
    found = Checkpoints(tmp_path / "cut" / "resume").latest()
    assert found is not None
    # In validation the epoch's steps are all done, and the raw weights are kept, not their average.
    assert (found.facts["epoch"], found.facts["step"]) == ((1, 3) if where == "training" else (0, 5))
    events: list[dict[str, Any]] = []
    with stopping.watching():
        again = made(tmp_path / "cut", ema=0.7, save_seconds=1e9, listen=events.append)
        again.run()
    assert events[0]["event"] == "resumed"
    assert sum(event["event"] == "step" for event in events) == (7 if where == "training" else 10)
    assert_same(bits(again.task), bits(whole.task))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    after: list[dict[str, Tensor]] = []
    loop = made(
        tmp_path,
        epochs=1,
        ema=0.6,
        listen=lambda event: after.append(bits(loop.task)) if event["event"] == "step" else None,
    )
    loop.run()
    assert len(after) == 5
    kept = bits(loop.task)
    for name, first in after[0].items():
        average = first.double()
        for later in after[1:]:
            average = 0.6 * average + 0.4 * later[name].double() if first.is_floating_point() else later[name]
        torch.testing.assert_close(kept[name].double(), average.double(), rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(tensor, after[-1][name]) for name, tensor in kept.items())


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    def run() -> Fitted:
        return made(tmp_path, lr=0.0, epochs=50, patience=2).run()

    fitted = run()
    assert len(fitted.history) < 50
    assert len(fitted.history) == fitted.best_epoch + 3
    assert fitted.stopped == f"no better validation score for 2 epochs after epoch {fitted.best_epoch + 1}"
    again = run()  # a finished fit that is resumed stays finished
    assert again.history == fitted.history and again.stopped == fitted.stopped


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    after: dict[int, dict[str, Tensor]] = {}

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            after[event["epoch"]] = bits(loop.task)

    loop = made(tmp_path, epochs=6, lr=3e-2, listen=listen)
    fitted = loop.run()
    scores = [row["val_score"] for row in fitted.history]
    assert fitted.best_epoch == int(np.argmax(scores))
    assert_same(bits(loop.task), after[fitted.best_epoch + 1])


def good_head(task: ImageTask) -> dict[str, Any]:
    """Stands for the probe: a head that tells the pictures of validation apart, made by a formula."""
    val = Pictures(16, shuffle=False)
    task.eval()
    with torch.no_grad():
        features = task.features(val.pixels)
        apart = features[val.targets == 1].mean(0) - features[val.targets == 0].mean(0)
        task.head.standard.put(features.mean(0), features.std(0))
        task.head.linear.weight.copy_(torch.stack([-apart, apart]))
    return {"loss": 0.5, "strength": 0.1}


def test_a_start_is_kept_where_no_epoch_is_better(tmp_path: Path) -> None:
    loop = made(tmp_path, start=good_head, judge_start=True, lr=1.0, epochs=50, patience=2)
    fitted = loop.run()
    first = fitted.history[0]
    assert first["epoch"] == 0 and first["loss"] == 0.5 and first["learning_rate"] == 0.0
    assert first["val_score"] == max(row["val_score"] for row in fitted.history)
    assert fitted.best_epoch == -1 and fitted.start == {"loss": 0.5, "strength": 0.1}
    assert [row["epoch"] for row in fitted.history] == [0, 1, 2]  # patience counts from the start
    assert fitted.stopped == "no better validation score for 2 epochs after the start"
    begun = made(tmp_path / "begun", start=good_head).task
    good_head(begun)  # type: ignore[arg-type]
    assert_same(bits(loop.task), bits(begun))
    assert [row["event"] for row in logged(tmp_path)] == ["start", "epoch", "epoch"]
    assert logged(tmp_path)[0]["strength"] == 0.1


def test_an_epoch_that_is_better_than_the_start_is_kept(tmp_path: Path) -> None:
    def poor(task: ImageTask) -> dict[str, Any]:
        good_head(task)
        with torch.no_grad():
            task.head.linear.weight.neg_()
        return {"loss": 2.0}

    fitted = made(tmp_path, start=poor, judge_start=True).run()
    assert fitted.best_epoch >= 0
    assert fitted.history[fitted.best_epoch + 1]["val_score"] > fitted.history[0]["val_score"]


def test_without_epochs_the_start_is_the_model(tmp_path: Path) -> None:
    loop = made(tmp_path, start=good_head, judge_start=True, epochs=0)
    fitted = loop.run()
    assert len(fitted.history) == 1 and fitted.best_epoch == -1 and fitted.images_per_second is None
    again = made(tmp_path, start=lambda task: pytest.fail("it was done before"), judge_start=True, epochs=0)
    assert again.run().history == fitted.history
    assert_same(bits(again.task), bits(loop.task))


@pytest.mark.parametrize("where", ["start", "validation", "training"])
def test_killed_around_the_start_and_resumed_is_the_same(tmp_path: Path, where: str) -> None:
    words: dict[str, Any] = {"start": good_head, "judge_start": True, "ema": 0.7}
    whole = made(tmp_path / "whole", **words)
    fitted = whole.run()

    def broken(task: ImageTask) -> dict[str, Any]:
        good_head(task)
        raise Killed

    cut = {
        "start": lambda: made(tmp_path / "cut", **{**words, "start": broken}),
        "validation": lambda: made(
            tmp_path / "cut", val=Pictures(16, shuffle=False, before=once((0, 1), killed)), **words
        ),
        "training": lambda: made(
            tmp_path / "cut", train=Pictures(40, shuffle=True, before=once((0, 2), killed)), **words
        ),
    }[where]()
    with pytest.raises(Killed):
        cut.run()
    again = made(tmp_path / "cut", **words)
    resumed = again.run()
    assert resumed.history == fitted.history and resumed.start == fitted.start
    assert_same(bits(again.task), bits(whole.task))
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def test_a_picture_that_is_no_number_is_named(tmp_path: Path) -> None:
    train = Pictures(40, shuffle=True)
    order = seeds.generator(3, "test", 1).permutation(40)
    train.before = once((1, 2), lambda: train.pixels[int(order[16])].fill_(float("nan")))
    with pytest.raises(NotFinite, match=rf"loss became nan at step 3 in epoch 2.*picture{int(order[16])}\b"):
        made(tmp_path, train=train).run()
    found = Checkpoints(tmp_path / "resume").latest()
    assert found is not None and (found.facts["epoch"], found.facts["step"]) == (1, 2)
    assert all(bool(torch.isfinite(t).all()) for t in found.tensors.values() if t.is_floating_point())


def test_infinite_weights_are_not_saved(tmp_path: Path) -> None:
    def ruin(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 4:
            with torch.no_grad():
                next(loop.task.parameters()).fill_(float("inf"))

    loop = made(tmp_path, listen=ruin)
    with pytest.raises(NotFinite, match="weights became infinite at step 4"):
        loop.run()
    found = Checkpoints(tmp_path / "resume").latest()
    assert found is not None and found.facts["step"] == 3


def test_every_way_of_running_out_of_memory_is_said_the_same() -> None:
    asks: list[Callable[[], object]] = [lambda: torch.empty(2**55), lambda: np.empty(2**55, np.uint8)]
    for ask in asks:
        with pytest.raises(OutOfMemory, match=r"^memory ran out.*smaller --batch-size"), memory_said():
            ask()
    with pytest.raises(RuntimeError, match="shapes cannot"), memory_said():
        torch.matmul(torch.ones(2, 3), torch.ones(2, 3))
