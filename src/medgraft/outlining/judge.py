"""How well structures are outlined when they are shown: overlaps by the way of showing, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgraft.gather import Listen
from medgraft.judge import known_patients
from medgraft.learn import stopping
from medgraft.nets.prompter import Prompter
from medgraft.samples.prompted import JUDGED, Shown, plain_prompt
from medgraft.samples.showing import overlap
from medgraft.scores.joint_rows import JointRow, fill_together, means_known
from medgraft.scores.score import Score
from medgraft.values import Sample

_NOTE = "overlap (IoU) of each structure, its mean in an image, then over images"


@dataclass(eq=False)
class Overlaps:
    """Overlaps of the structures of some images.

    Attributes:
        samples: in order.
        rows: a structure each: place of its image, picture, name, and the overlap by the way of showing.
    """

    samples: list[Sample] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def column(self, way: str, *, name: str | None = None) -> np.ndarray:
        """Get the mean overlap of each image; NaN where it has no such structure."""
        told = np.full(len(self.samples), np.nan)
        own = [row for row in self.rows if name is None or row["structure"] == name]
        for place in {row["place"] for row in own}:
            told[place] = float(np.mean([row[way] for row in own if row["place"] == place]))
        return told


def asked(
    model: Prompter, samples: Sequence[Sample], pictures: Sequence[Sequence[Shown]], *, most: int, listen: Listen
) -> Overlaps:
    """Show every structure by each way of JUDGED, and measure the answers.

    Args:
        model: that is asked.
        samples: images.
        pictures: of each image.
        most: structures of a picture, at most, evenly over their numbers.
        listen: gets progress events.
    """
    found = Overlaps(list(samples))
    for place, (sample, some) in enumerate(zip(samples, pictures, strict=True)):
        for shown in some:
            stopping.check()
            if not shown.names:
                continue
            embedding = model.encode(np.asarray(shown.picture))
            count = len(shown.names)
            for number in np.linspace(0, count - 1, min(count, most)).round().astype(int) + 1:
                mask = shown.mask(int(number))
                row: dict[str, Any] = {"place": place, "key": sample.key, "picture": shown.key}
                row |= {"number": int(number), "structure": shown.names[number - 1], "pixels": int(mask.sum())}
                for way in JUDGED:
                    told = model.decode(embedding, plain_prompt(mask, way))
                    row[way] = overlap(mask, told.masks[told.best])
                    row[f"{way}_best"] = max(overlap(mask, one) for one in told.masks)
                found.rows.append(row)
        listen({"event": "predict", "done": place + 1, "of": len(samples)})
    return found


def table(own: Overlaps, *, seed: int, count: int, name: str | None = None) -> dict[str, Score]:
    """Get the scores by the way of showing: iou_box, iou_point, and of the best candidate iou_box_best, ..."""
    columns = {f"iou_{way}{end}": own.column(f"{way}{end}", name=name) for way in JUDGED for end in ("", "_best")}
    rows = {word: JointRow(_NOTE, "no image has such a structure") for word in columns}
    return fill_together(
        lambda weights: means_known(columns, weights),
        rows,
        n=len(own.samples),
        patients=known_patients(own.samples),
        seed=seed,
        count=count,
    )


def verdicts(parts: Mapping[str, Overlaps], before: Overlaps | None, *, seed: int, count: int) -> dict[str, Any]:
    """Get the report's keys: tables of all and of each kind of structure, and of the untuned model beside them.

    Args:
        parts: by the part of the data, "test" and where there is one "val".
        before: what the model said of the test images before it was tuned; None where it was not asked.
        seed: the run's seed.
        count: resamples.
    """
    test = parts["test"]
    words: dict[str, Any] = {"seed": seed, "count": count}
    names = list(dict.fromkeys(row["structure"] for row in test.rows))
    told: dict[str, Any] = {
        "scores": {part: plain(table(own, **words)) for part, own in parts.items()},
        "per_class": {name: plain(table(test, name=name, **words)) for name in names},
        "outlining": {"structures": {part: len(own.rows) for part, own in parts.items()}},
    }
    if before is not None:
        told["outlining"]["before"] = plain(table(before, **words))
        told["outlining"]["gain"] = plain(_gains(before, test, **words))
    return told


def _gains(before: Overlaps, after: Overlaps, *, seed: int, count: int) -> dict[str, Score]:
    """What tuning bought on the same structures, image by image."""
    columns = {f"iou_{way}": after.column(way) - before.column(way) for way in JUDGED}
    rows = {word: JointRow(f"after minus before tuning; {_NOTE}", "there are no structures") for word in columns}
    words: dict[str, Any] = {"n": len(after.samples), "patients": known_patients(after.samples)}
    return fill_together(lambda weights: means_known(columns, weights), rows, seed=seed, count=count, **words)


def plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Get scores as report.json holds them."""
    return {name: score.to_dict() for name, score in scores.items()}
