"""Synthetic images drawn, kept as files that say so, and put among the training images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.gather import Gathered, Listen
from medgraft.generation.written import write_image
from medgraft.learn import stopping
from medgraft.samples.store import GIGABYTE, Store
from medgraft.synthetic.sources import Source
from medgraft.synthetic.verbs import NOTE
from medgraft.values import ImageRef, Sample

FOLDER = "synthetic"
Ratio = str | float
Made = Mapping[str, Sequence[Path]]
_AT_ONCE = 32  # drawn together, always from the same first one, so that a resumed run draws the same bits


def counts_of(found: Gathered) -> dict[str, int]:
    """Get how many real training images each class has."""
    return dict(sorted(Counter(str(found.samples[place].label) for place in found.of("train")).items()))


def added(ratio: Ratio, counts: Mapping[str, int]) -> dict[str, int]:
    """Get how many synthetic images of each class a ratio asks for.

    A number asks for so many for one real image of the class. "balance" fills each class up to the largest.

    Example:
        >>> added(0.5, {"ill": 19, "well": 40}), added("balance", {"ill": 19, "well": 40})
        ({'ill': 10, 'well': 20}, {'ill': 21, 'well': 0})
    """
    if ratio == "balance":
        return {name: max(counts.values()) - count for name, count in counts.items()}
    return {name: round(float(ratio) * count) for name, count in counts.items()}


def most(ratios: Sequence[Ratio], counts: Mapping[str, int]) -> dict[str, int]:
    """Get how many of each class are needed for any of the ratios; each takes the first of them."""
    wanted = [added(ratio, counts) for ratio in ratios]
    return {name: max((one[name] for one in wanted), default=0) for name in counts}


def draw(out: Path, source: Source, needed: Mapping[str, int], *, seed: int, listen: Listen) -> dict[str, list[Path]]:
    """Draw images into `out/synthetic/images` and get their paths by class; what is there already is not drawn again.

    Each file says that it is synthetic; manifest.csv beside the folder has a row a file.

    Args:
        out: the run folder.
        source: what draws.
        needed: images of each class.
        seed: of the images.
        listen: gets progress events.
    """
    folder, made, done = out / FOLDER, {}, 0
    for number, (name, count) in enumerate(needed.items()):
        own = [folder / "images" / f"synthetic-{number}-{k:05d}.png" for k in range(count)]
        for start in range(0, count, _AT_ONCE):
            stopping.check()
            some = own[start : start + _AT_ONCE]
            if not all(path.exists() for path in some):
                images = source.run.draw(_AT_ONCE, label=name, seed=seed, first=start)
                for path, (_, image) in zip(some, images, strict=False):
                    write_image(path.parent, path.stem, image, note=NOTE)
            done += len(some)
            listen({"event": "predict", "done": done, "of": sum(needed.values())})
        made[name] = own
    rows = [
        {"path": path.relative_to(folder).as_posix(), "label": name, "synthetic": "yes", "seed": seed, "number": k}
        for name, paths in made.items()
        for k, path in enumerate(paths)
    ]
    storage.write_table(folder / "manifest.csv", rows, columns=("path", "label", "synthetic", "seed", "number"))
    return made


def enriched(found: Gathered, made: Made, wanted: Mapping[str, int], *, cache_gb: float, listen: Listen) -> Gathered:
    """Get the data with the first `wanted` synthetic images of each class among the training images, never elsewhere.

    Each counts as of a patient of its own, whose name begins with "synthetic-". The survey stays that of the real data.
    """
    new = [
        Sample(
            key=f"{FOLDER}/images/{path.name}",
            image=ImageRef(path.resolve()),
            label=name,
            patient=path.stem,
            split="train",
            covariates={"synthetic": "yes"},
        )
        for name, paths in made.items()
        for path in paths[: wanted[name]]
    ]
    taken = {sample.key for sample in found.samples}
    new = [one if one.key not in taken else replace(one, key=f"medgraft-{one.key}") for one in new]
    samples = [*found.samples, *new]

    def progress(done: int, count: int) -> None:
        stopping.check()
        listen({"event": "decode", "done": done, "of": count})

    words: dict[str, Any] = {"budget_bytes": int(cache_gb * GIGABYTE), "workers": 2, "progress": progress}
    store = Store.open([sample.image for sample in samples], found.store.network, **words)
    records = [{**record, "key": sample.key} for sample, record in zip(samples, store.records, strict=True)]
    return replace(found, samples=samples, store=store, places=list(range(len(samples))), records=records)
