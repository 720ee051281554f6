"""Which activations of frozen layers a run keeps on disk, and whether there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medgraft import planning
from medgraft.assemble import Parts, is_cached
from medgraft.errors import RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.learn.prefix import Cut, Frozen, cache_place, find_cuts, freeze_sources, make_room
from medgraft.recipe import Recipe
from medgraft.samples.loader import Loader
from medgraft.samples.store import GIGABYTE

Caches = list[tuple[Cut, Path]]


def settle(out: Path, recipe: Recipe, parts: Parts, found: Gathered, listen: Listen) -> Recipe:
    """Settle whether the frozen layers are cached before the run begins, as it decides what an epoch shows.

    Raises:
        RunRefused: the run that is resumed had the cache, and now there is no room for it.
    """
    if not is_cached(recipe, parts):
        return recipe
    jobs = _jobs(recipe, parts, found)
    needed = sum(_bytes_of(loader, views, caches) for loader, views, caches in jobs)
    places = [place for _, _, caches in jobs for _, place in caches]
    if make_room(_budget(recipe), needed, keep=places):
        return recipe
    text = f"their cache would take {needed / 1e9:.1f} GB, above machine.cache_gb"
    if (out / "recipe.yaml").exists():
        raise RunRefused(
            f"this run keeps its frozen layers on disk, and {text}", where=out, do="Raise machine.cache_gb."
        )
    listen({"event": "warning", "text": f"the frozen layers run every epoch: {text}"})
    return planning.with_reasons(recipe.changed({"depth.views": 0}), {"depth.views": text})


def sources(
    recipe: Recipe, parts: Parts, found: Gathered, listen: Listen
) -> tuple[Loader, Loader] | tuple[Frozen, Frozen]:
    """Get what the loop learns from and is judged on: loaders, or cached activations when layers are frozen."""
    if not is_cached(recipe, parts):
        return parts.train, parts.val
    words: dict[str, Any] = {"engine": parts.engine, "listen": listen}
    (train,), (val,) = (
        freeze_sources(parts.task, loader, caches=caches, views=views, **words)
        for loader, views, caches in _jobs(recipe, parts, found)
    )
    return train, val


def at_every_depth(
    recipe: Recipe, parts: Parts, found: Gathered, *, depths: Sequence[int], listen: Listen
) -> dict[int, Frozen]:
    """Get the training images' activations at the cuts of several depths, in one pass over their views.

    Args:
        recipe: its views and disk budget count.
        parts: the encoder untuned.
        found: the data.
        depths: numbers of thawed stages; at that of the whole net the pixels themselves are kept.
        listen: gets progress events.

    Returns:
        By number of thawed stages. The lowest cuts, which are the largest, are missing where there is no room; the
        pooled features, at 0, are there always.
    """
    wanted = sorted(set(depths))
    cuts = find_cuts(parts.task, _blank(parts), thawed=wanted)
    views = views_of(recipe)
    caches = _places(recipe, parts, found, parts.train, cuts=cuts, views=views, name="train")
    while len(caches) > 1 and not _fits(recipe, parts, caches, views):
        lost = caches.pop()[0]
        what = (
            f"below stage {lost.stage} the layers run every epoch, on new views: machine.cache_gb has no room for them"
        )
        listen({"event": "warning", "text": what})
    words: dict[str, Any] = {"engine": parts.engine, "listen": listen}
    kept = freeze_sources(parts.task, parts.train, caches=caches, views=views, **words)
    by_stage = {source.start: source for source in kept}
    return {depth: by_stage[cut.stage] for depth, cut in zip(wanted, cuts, strict=True) if cut.stage in by_stage}


def views_of(recipe: Recipe) -> int:
    """Get how many views of an image are worth keeping: the probe of a head alone asks all, an epoch shows one."""
    if recipe.augment.preset == "none":
        return 1
    views = recipe.depth.views or 1
    return views if recipe.fit.probe else min(views, recipe.fit.epochs or 1)


def _jobs(recipe: Recipe, parts: Parts, found: Gathered) -> list[tuple[Loader, int, Caches]]:
    """(loader, views, cache) of training and of validation."""
    cuts = find_cuts(parts.task, _blank(parts), thawed=[parts.task.thawed])
    jobs = []
    for loader, views, name in ((parts.train, views_of(recipe), "train"), (parts.val, 1, "val")):
        jobs.append((loader, views, _places(recipe, parts, found, loader, cuts=cuts, views=views, name=name)))
    return jobs


def _blank(parts: Parts) -> torch.Tensor:
    return torch.zeros(1, parts.task.backbone.spec.channels, *parts.pixels.size, device=parts.engine.device)


def _places(
    recipe: Recipe, parts: Parts, found: Gathered, loader: Loader, *, cuts: Sequence[Cut], views: int, name: str
) -> Caches:
    """The cuts with the folders of their caches."""
    content = [[record["sha256"], record["content"]] for record in found.records]
    identity = {
        "content": content,
        "pixels": parts.pixels.to_dict(),
        "seed": recipe.seed,
        "augment": {**recipe.augment.model_dump(), **({"upright": True} if parts.task.upright else {})},
        "split": [sample.split for sample in found.samples],
    }
    words: dict[str, Any] = {"engine": parts.engine, "views": views, "identity": [identity, name]}
    return [(cut, cache_place(parts.task, loader, cut=cut, **words)) for cut in cuts]


def _bytes_of(loader: Loader, views: int, caches: Caches) -> int:
    return sum(cut.bytes_of(len(loader.keys) * views) for cut, _ in caches)


def _budget(recipe: Recipe) -> int:
    return int(recipe.machine.cache_gb * GIGABYTE)


def _fits(recipe: Recipe, parts: Parts, caches: Caches, views: int) -> bool:
    needed = _bytes_of(parts.train, views, caches)
    return make_room(_budget(recipe), needed, keep=[place for _, place in caches])
