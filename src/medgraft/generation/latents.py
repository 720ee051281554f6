"""Latents: an autoencoder learns first, then every image is folded once, and what draws learns from that alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft.gather import Listen
from medgraft.generation.parts import DrawnParts, Looks, preset_of
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.learn.loop import Loop, Schedule
from medgraft.learn.resume import Checkpoints
from medgraft.nets.autoencoder import Autoencoder
from medgraft.planning import average_rule
from medgraft.samples.loader import Items, Loader
from medgraft.tasks.code import Code
from medgraft.tasks.diffuse import Diffuse
from medgraft.values import Batch, ImageRef, InputSpec
from medgraft.weights.tensors import load_model, save_model

FOLDER = "autoencoder"
_MODEL = "model.safetensors"
_VIEWS, _ROOM = 4, 2**30  # of each image where images are changed, and bytes that all of them may take
_AT_ONCE, _VOXELS = 32, 2**20


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents in memory, as `samples.loader.Rows`.

    Attributes:
        values: `(N, latent, [d,] h, w)` float32.
        refs: none, as nothing can be bad.
        bad: none.
    """

    values: np.ndarray
    refs: Sequence[ImageRef] = ()
    bad: Sequence[tuple[int, str]] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Get the shape of each."""
        return self.values.shape[1:]

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Get some of them, stacked."""
        return self.values[np.asarray(indices, np.int64)]


def in_latents(out: Path, parts: DrawnParts, *, listen: Listen) -> tuple[DrawnParts, dict[str, Any]]:
    """Learn the autoencoder, freeze it, and get parts whose batches are latents, and what its learning was.

    Its checkpoints lie in RUN/autoencoder; once it has learnt, its weights do, until the run is done. The latents of
    the training are measured for mean and spread, and made again where a run is resumed: from the same weights they are
    the same.

    Args:
        out: the run folder.
        parts: as assembled, of images.
        listen: gets progress events.

    Returns:
        Parts of latents; epochs, best_epoch (from 1), seconds, history and images_per_second of the autoencoder.

    Raises:
        Stopped: it stopped safely and can be resumed.
        BadWeights: the weights that were put aside are damaged.
    """
    task = parts.task
    assert isinstance(task, Diffuse) and task.coder is not None
    coder, place = task.coder, out / FOLDER / _MODEL
    if place.exists():
        state, card = load_model(place)
        coder.load_state_dict(state)
        told: dict[str, Any] = card["told"]
    else:
        listen({"event": "say", "text": "first the autoencoder learns to give images back"})
        told = _learnt(out / FOLDER, parts, coder, listen)
        _measure(coder, parts)
        state = {name: tensor.detach().cpu() for name, tensor in coder.state_dict().items()}
        save_model(place, state=state, card={"net": coder.form.to_dict(), "told": told})
        Checkpoints(out / FOLDER / "resume").clear()
    coder.requires_grad_(False)
    listen({"event": "say", "text": "then what draws latents learns"})
    return _folded(parts, coder), told


def forget(out: Path) -> None:
    """Delete the weights that were put aside: those of a finished run hold them."""
    (out / FOLDER / _MODEL).unlink(missing_ok=True)


def given_back(coder: Autoencoder, engine: Engine, images: np.ndarray) -> np.ndarray:
    """Get images `(N, C, [D,] H, W)` of -1..1 after a way through their latents."""
    each = max(1, min(_AT_ONCE, _VOXELS // int(np.prod(images.shape[1:]))))
    found = []
    for start in range(0, len(images), each):
        stopping.check()
        with torch.inference_mode(), engine.autocast():
            some = torch.from_numpy(images[start : start + each]).to(engine.device)
            found.append(coder.unfolded(coder.folded(some)).float().clamp(-1, 1).cpu().numpy())
    return np.concatenate(found)


def _learnt(folder: Path, parts: DrawnParts, coder: Autoencoder, listen: Listen) -> dict[str, Any]:
    recipe, fit = parts.recipe, parts.recipe.fit
    epochs = recipe.generator.latent_epochs or 1
    folder.mkdir(parents=True, exist_ok=True)
    coder.requires_grad_(True)
    schedule = Schedule(
        epochs=epochs,
        seed=recipe.seed,
        warmup=fit.warmup,
        clip=fit.clip,
        ema=average_rule(epochs * len(parts.train))[0],
        save_seconds=recipe.machine.save_seconds,
    )
    optimiser = torch.optim.AdamW(coder.parameters(), lr=fit.lr or 3e-4, weight_decay=0.0, fused=True)
    fitted = Loop(
        Code(coder),
        parts.engine,
        optimisers={"all": optimiser},
        train=parts.train,
        val=parts.val,
        schedule=schedule,
        folder=folder,
        listen=listen,
    ).run()
    speed = fitted.images_per_second
    return {
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch + 1,
        "seconds": round(fitted.seconds, 2),
        "images_per_second": None if speed is None else round(speed, 3),
        "history": fitted.history,
    }


def _measure(coder: Autoencoder, parts: DrawnParts) -> None:
    """Set the mean and spread of the latents of the training images."""
    raw = _rows(coder, parts.engine, parts.train.loaders[0].view(0))
    flat = np.moveaxis(raw, 1, 0).reshape(coder.form.latent, -1).astype(np.float64)
    coder.centre.copy_(torch.from_numpy(flat.mean(axis=1)))
    coder.scale.copy_(torch.from_numpy(np.maximum(flat.std(axis=1), 1e-6)))


def _rows(coder: Autoencoder, engine: Engine, batches: Iterable[Batch]) -> np.ndarray:
    coder.eval()
    found = []
    for batch in batches:
        stopping.check()
        with torch.inference_mode(), engine.autocast():
            found.append(coder.folded(engine.move(batch).pixels).float().cpu().numpy())
    return np.concatenate(found)


def _folded(parts: DrawnParts, coder: Autoencoder) -> DrawnParts:
    """The parts with latents in place of images; those of the training once for each view of their images."""
    (loader,) = parts.train.loaders
    first = _rows(coder, parts.engine, loader.view(0))
    views = min(_VIEWS if preset_of(parts.recipe).active else 1, max(1, _ROOM // first.nbytes))
    rows = [first, *(_rows(coder, parts.engine, loader.view(view)) for view in range(1, views))]
    train = [_loader(one, loader, shuffle=True, drop_last=loader.drop_last) for one in rows]
    val = _loader(_rows(coder, parts.engine, parts.val.view(0)), parts.val)
    return replace(parts, train=Looks(train, parts.train.times), val=val)


def _loader(rows: np.ndarray, like: Loader, **words: Any) -> Loader:
    """Batches of latents, of which none is changed any more, with the keys and targets of the images."""
    count = rows.shape[1]
    plain = InputSpec((1, 1), count, (0.0,) * count, (1.0,) * count)
    items = Items(range(len(rows)), like.keys, like.targets)
    return Loader(Latents(rows), items, spec=plain, batch_size=like.batch_size, seed=like.seed, **words)
