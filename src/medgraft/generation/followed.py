"""How near drawn images come while a net learns: FID and KID now and then on validation images, and a sheet to see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.gather import Listen
from medgraft.generation.features import Features, features_of
from medgraft.generation.maker import maker_of
from medgraft.generation.parts import DrawnParts, kinds_drawn
from medgraft.generation.sheets import write_sheet
from medgraft.scores.fidelity import fid, kid

FOLLOWED = "followed.json"
_SHOWN = 16  # images of a sheet
_STEPS = 16  # to each at most: as many as the finished net takes would cost a third of the training
_COMPARED = {2: 48, 3: 16}  # images that are compared, by axes


class Follower:
    """Draws while the weights are in place that are judged, always from the same noise.

    Args:
        folder: gets a sheet each time, and `followed.json`: what was found so far. Of an epoch that it holds already,
            as after a run was resumed, nothing is drawn again.
        parts: as assembled.
        listen: gets each event after this did.
    """

    def __init__(self, folder: Path, parts: DrawnParts, listen: Listen) -> None:
        self.folder, self.parts, self.listen = folder, parts, listen
        self.real: np.ndarray | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Hear an event of the training."""
        epoch = int(event.get("epoch", 0)) + 1
        every = self.parts.recipe.generator.sheet or 1
        if event.get("event") == "validate" and (epoch == 1 or epoch % every == 0):
            self._draw(epoch)
        self.listen(event)

    def _draw(self, epoch: int) -> None:
        rows = followed(self.folder)
        if any(row["epoch"] == epoch for row in rows):
            return
        parts, own = self.parts, self.parts.recipe.generator
        places = parts.some("val", _COMPARED[len(own.shape or ())])
        kinds = self._kinds(places)
        made = list(maker_of(parts, steps=min(_STEPS, own.steps)).images(kinds, seed=parts.recipe.seed))
        write_sheet(self.folder / f"epoch-{epoch:04d}.png", made[:_SHOWN])
        rows.append({"epoch": epoch, "step": epoch * len(parts.train), **self._distances(places, made[: len(places)])})
        storage.write_json(self.folder / FOLLOWED, {"rows": sorted(rows, key=lambda row: row["epoch"])})

    def _kinds(self, places: list[int]) -> np.ndarray:
        """The class of each drawn image: by the shares of the validation images, and enough of them for a sheet."""
        classes = self.parts.answers.classes
        labels = [str(self.parts.found.samples[place].label) for place in places]
        shares = [labels.count(name) for name in classes]
        return kinds_drawn(max(len(places), _SHOWN), classes, shares=shares)

    def _distances(self, places: list[int], made: list[np.ndarray]) -> dict[str, Any]:
        recipe, found = self.parts.recipe, self.parts.found
        net = Features(channels=made[0].shape[0], offline=True).to(self.parts.engine.device)
        if self.real is None:
            self.real = features_of(net, self.parts.real(places))
        drawn = features_of(net, made)
        patients = [found.samples[place].patient for place in places] if found.split_by == "patient" else None
        words: dict[str, Any] = {"patients": patients, "method": f"features of {net.name}"}
        return {
            "fid_embedded": fid(self.real, drawn, **words).to_dict(),
            "kid_embedded": kid(self.real, drawn, seed=recipe.seed, **words).to_dict(),
        }


def followed(folder: Path) -> list[dict[str, Any]]:
    """Get what was found while it learnt, an epoch a row: epoch (from 1), step, fid_embedded, kid_embedded."""
    path = folder / FOLLOWED
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []
