"""The fit of nets that draw: one optimiser, or two that take turns, through the one loop."""

from __future__ import annotations

from pathlib import Path

import torch

from medgraft.gather import Listen
from medgraft.generation.parts import DrawnParts
from medgraft.learn.loop import Fitted, Loop, Schedule
from medgraft.tasks.diffuse import Diffuse

_BETAS = (0.0, 0.99)  # of nets that play against each other, as Karras et al. 2020


def fit_images(out: Path, parts: DrawnParts, *, listen: Listen) -> Fitted:
    """Fit; the task then holds the weights of the best epoch.

    Args:
        out: the run folder.
        parts: as assembled.
        listen: gets progress events.

    Raises:
        Stopped: it stopped safely and can be resumed.
    """
    recipe, fit = parts.recipe, parts.recipe.fit
    task, plays = parts.task, not isinstance(parts.task, Diffuse)
    schedule = Schedule(
        epochs=fit.epochs or 1,
        seed=recipe.seed,
        warmup=fit.warmup if not plays else 0.01,
        clip=0.0 if plays else fit.clip,
        ema=fit.ema or 0.0,
        patience=fit.patience or 0,
        save_seconds=recipe.machine.save_seconds,
        falls=not plays,
    )
    task.measure(parts.train.once())
    return Loop(
        task,
        parts.engine,
        optimisers=_optimisers(parts),
        train=parts.train,
        val=parts.val,
        schedule=schedule,
        folder=out,
        listen=listen,
    ).run()


def _optimisers(parts: DrawnParts) -> dict[str, torch.optim.Optimizer]:
    task, lr = parts.task, parts.recipe.fit.lr or 1e-3
    if isinstance(task, Diffuse):
        return {"all": torch.optim.AdamW(task.net.parameters(), lr=lr, weight_decay=0.0, fused=True)}
    nets = {"discriminator": task.judge, "generator": task.maker}
    return {name: torch.optim.Adam(net.parameters(), lr=lr, betas=_BETAS, fused=True) for name, net in nets.items()}
