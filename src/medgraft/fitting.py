"""What every task on places shares of a run: which arithmetic is fastest here, and the fit itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medgraft import planning
from medgraft.gather import Listen
from medgraft.learn.engine import Engine, fastest
from medgraft.learn.loop import Fitted, Loop, Schedule, Source
from medgraft.nets import parameter_groups
from medgraft.recipe import Recipe
from medgraft.values import Batch

_TIMED = 2  # images that tell which arithmetic is faster


def settle_engine(recipe: Recipe, task: Any, train: Source, *, timed: int = _TIMED) -> tuple[Recipe, Engine]:
    """Settle device, precision and memory layout; what is "auto" is measured on `timed` images of this run."""
    fit = recipe.fit
    if fit.precision != "auto" and fit.channels_last is not None:
        return recipe, Engine(recipe.machine.device, precision=fit.precision, channels_last=fit.channels_last)
    engine = Engine(recipe.machine.device)
    task.to(engine.device).train()
    batch = engine.move(next(iter(train.epoch(0))))
    assert batch.targets is not None
    targets = batch.targets[:timed]

    def once(pixels: torch.Tensor) -> None:
        for _, loss in task.losses(Batch(pixels, batch.keys[:timed], targets)):
            loss.backward()
        task.zero_grad(set_to_none=True)

    precision, last = fastest(task, batch.pixels[:timed], run=once, seconds=2.0)
    precision = precision if fit.precision == "auto" else fit.precision
    last = last if fit.channels_last is None else fit.channels_last
    threads = torch.get_num_threads()
    why = f"measured on {threads} thread{'s' if threads > 1 else ''} of the {engine.device.type}"
    recipe = recipe.changed({"fit.precision": precision, "fit.channels_last": last})
    recipe = planning.with_reasons(recipe, {"fit.precision": why, "fit.channels_last": why})
    return recipe, Engine(recipe.machine.device, precision=precision, channels_last=last)


def fit_places(
    out: Path,
    recipe: Recipe,
    *,
    task: Any,
    engine: Engine,
    train: Source,
    val: Source | None,
    listen: Listen,
    judge_start: bool = False,
) -> Fitted:
    """Fit a task on places, such as a detector, as its filled recipe says; it then holds the best weights.

    Without validation images it holds the last ones. With `judge_start` the weights that it has count among them: those
    of a model that could do the same before.

    Raises:
        Stopped: it stopped safely and can be resumed.
    """
    fit = recipe.fit
    lr = fit.lr or 1e-3
    groups = parameter_groups(
        task.backbone,
        task.head,
        thawed=task.thawed,
        lr=lr,
        head_lr=fit.head_lr,
        layer_decay=fit.layer_decay or 1.0,
        weight_decay=fit.weight_decay,
    )
    schedule = Schedule(
        epochs=fit.epochs or 1,
        seed=recipe.seed,
        warmup=fit.warmup,
        clip=fit.clip,
        ema=fit.ema or 0.0,
        patience=fit.patience or 0,
        save_seconds=recipe.machine.save_seconds,
        judge_start=judge_start,
    )
    return Loop(
        task,
        engine,
        optimisers={"all": torch.optim.AdamW(groups, fused=True)},
        train=train,
        val=val,
        schedule=schedule,
        folder=out,
        listen=listen,
    ).run()
