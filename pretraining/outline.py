"""Train the model that outlines what a prompt shows; a later call goes on where the last one stopped.

    python -m pretraining.scene_pool --out runs/scenes --blocks 96
    python -m pretraining.outline --scenes runs/scenes --out runs/outline --hours 2 --minutes 9
    python -m pretraining.outline --out runs/outline --export

`--hours` is the whole budget and sets the schedule, as in `pretraining.train`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medgraft.nets.prompt_net import GRID, planes_of
from medgraft.nets.prompter_sources import EMBEDDED
from medgraft.nets.pyramid_prompter import built
from medgraft.weights.tensors import save
from pretraining.encoders import ENCODERS
from pretraining.export import LICENCE, SOURCE, over_calls, stored
from pretraining.objective import MEAN, STD, normalise
from pretraining.pool import stream
from pretraining.prompting import Asked, batch
from pretraining.scene_pool import read_scenes
from pretraining.train import commit

_ENCODER = "resnet10t_small"
_SPEAK_SECONDS, _SAVE_SECONDS = 30, 120
_AGAIN = 0.3  # share of the steps in which an answer is corrected by a point and given back


def arguments() -> argparse.Namespace:
    """Read the command line."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--scenes", type=Path, help="folder of pretraining.scene_pool")
    given.add_argument("--hours", type=float, default=2.0, help="of training, over all calls")
    given.add_argument("--minutes", type=float, default=1e9, help="of this call")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--batch", type=int, default=32)
    given.add_argument("--lr", type=float, default=2e-3)
    given.add_argument("--encoder-lr", type=float, default=5e-4)
    given.add_argument("--weight-decay", type=float, default=0.02)
    given.add_argument("--export", action="store_true", help="write the trained model into the package")
    given.add_argument("--commit", default=commit())
    options = given.parse_args()
    if not options.export and options.scenes is None:
        given.error("--scenes is missing")
    return options


class Training:
    """Net, optimiser, average; and what a checkpoint holds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        kind = ENCODERS[_ENCODER]
        self.net = built(f"timm:{kind.architecture}", kind.args)
        self.net.encoder.load_state_dict(encoder_state(self.net), strict=False)
        self.net.to(memory_format=torch.channels_last)
        # The first stage sees edges, which are edges here too; it costs most of what an encoder learns in time.
        self.net.encoder.stages[0][1].requires_grad_(False)
        taught = [p for p in self.net.encoder.parameters() if p.requires_grad]
        own = [p for name, p in self.net.named_parameters() if not name.startswith("encoder.")]
        groups = [
            {"params": own, "rate": options.lr, "weight_decay": options.weight_decay},
            {"params": taught, "rate": options.encoder_lr, "weight_decay": options.weight_decay},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=True)
        self.average = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
        self.step, self.seconds = 0, 0.0

    def progress(self) -> float:
        """Get the share of the budget that is spent."""
        return min(1.0, self.seconds / (self.options.hours * 3600))

    def learn(self, asked: Asked) -> dict[str, float]:
        """Do one step."""
        count = len(asked.pixels)
        rising = min(1.0, (self.step + 1) / 200)
        share = rising * max(1e-3, 0.5 * (1 + math.cos(math.pi * self.progress())))
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * share
        levels = self.net.see(normalise(asked.pixels).to(memory_format=torch.channels_last))
        levels[1] = levels[1].detach()
        where = torch.cat([torch.arange(count)[:, None].float(), asked.windows], 1)
        read = [level.to(memory_format=torch.channels_last) for level in self.net.read(levels, where)]
        losses = self._answered(read, asked, asked.points, asked.before)
        logits = losses.pop("logits")
        dice = np.random.default_rng(stream(self.options.seed, "again", self.step))
        total = sum(losses.values())
        if dice.random() < _AGAIN:
            points, before = corrected(asked, logits.detach(), dice)
            again = self._answered(read, asked, points, before)
            total = total + again["mask"] + again["dice"] + again["quality"]
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(self.net.parameters(), 3.0)
        self.optimiser.step()
        self.follow()
        self.step += 1
        told = {name: float(loss.detach()) for name, loss in losses.items()}
        overlap = overlaps(logits.detach(), asked)
        boxed = ~asked.boxes.isnan().any(1)
        return told | {"box_iou": float(overlap[boxed].mean()), "other_iou": float(overlap[~boxed].mean())}

    def _answered(self, read: list[Tensor], asked: Asked, points: Tensor, before: Tensor) -> dict[str, Tensor]:
        """Get the losses of a batch of answers, and the logits."""
        planes = planes_of(asked.windows, picture=asked.picture, points=points, boxes=asked.boxes, before=before)
        logits, quality = self.net(read, planes.to(memory_format=torch.channels_last))
        share = logits.sigmoid()
        inside = asked.wanted.sum((1, 2))
        # Where most of a structure lies beyond the window, it is another window that should draw it.
        weight = (inside / (inside + asked.beyond).clamp_min(1)).square()
        each = functional.binary_cross_entropy_with_logits(logits, asked.wanted, reduction="none").mean((1, 2))
        both = (share * asked.wanted).sum((1, 2))
        dice = 1 - (2 * both + 1) / (share.sum((1, 2)) + inside + 1)
        overlap = overlaps(logits.detach(), asked)
        foreseen = functional.binary_cross_entropy_with_logits(quality, overlap)
        return {
            "mask": (weight * each).mean(),
            "dice": (weight * dice).mean(),
            "quality": 0.3 * foreseen,
            "logits": logits,
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Let the average follow the weights, faster at the start."""
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        for name, tensor in self.net.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def save(self) -> None:
        """Write everything needed to go on, whole or not at all."""
        state = {
            "average": self.average,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "counters": [self.step, self.seconds],
        }
        path = self.options.out / "state.pt"
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def restore(self) -> bool:
        """Take up an earlier call."""
        path = self.options.out / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = int(state["counters"][0]), float(state["counters"][1])
        return True

    def run(self) -> None:
        """Train until the budget or this call ends."""
        options = self.options
        scenes = read_scenes(options.scenes)
        event = "again" if self.restore() else "begin"
        words = {k: v for k, v in vars(options).items() if k not in ("out", "scenes", "export")}
        self.tell({"event": event, "scenes": len(scenes), "threads": torch.get_num_threads(), **words})
        start = spoken = saved = time.monotonic()
        before, sums, counted = self.seconds, {}, 0

        def drawn(step: int) -> Asked:
            return batch(scenes, count=options.batch, seed=options.seed, step=step)

        with ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(drawn, self.step + k) for k in range(2)]
            while self.progress() < 1 and time.monotonic() - start < options.minutes * 60:
                asked = coming.pop(0).result()
                coming.append(ahead.submit(drawn, self.step + 2))
                for name, value in self.learn(asked).items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                now = time.monotonic()
                self.seconds = before + now - start
                if now - spoken > _SPEAK_SECONDS:
                    means = {name: round(value / counted, 4) for name, value in sums.items()}
                    self.tell({"event": "steps", "step": self.step, "seconds": round(self.seconds), **means})
                    spoken, sums, counted = now, {}, 0
                if now - saved > _SAVE_SECONDS:
                    self.save()
                    saved = now
        self.save()
        self.tell({"event": "done" if self.progress() >= 1 else "stopped", "step": self.step})

    def tell(self, row: dict[str, Any]) -> None:
        """Write a line of the log and say it."""
        text = json.dumps(row)
        with open(self.options.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, flush=True)


def encoder_state(net: Any) -> dict[str, Tensor]:
    """Get the weights of the embedded encoder under the names of the net's own."""
    from medgraft.nets.backbone import backbone

    trained = backbone(f"embedded:{_ENCODER}", offline=True)
    assert trained.state_dict().keys() == net.encoder.state_dict().keys()
    return trained.state_dict()


def overlaps(logits: Tensor, asked: Asked) -> Tensor:
    """Get the overlap (IoU) of answers with the whole structures, `(P, )`."""
    drawn, wanted = (logits > 0).float(), asked.wanted
    both = (drawn * wanted).sum((1, 2))
    return both / (drawn.sum((1, 2)) + wanted.sum((1, 2)) - both + asked.beyond).clamp_min(1e-3)


def corrected(asked: Asked, logits: Tensor, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Get points with one more where an answer is wrong, and the answers as first guesses."""
    points = asked.points.clone()
    wrong = ((logits > 0) != (asked.wanted > 0.5)).numpy()
    step = (asked.windows[:, 2] - asked.windows[:, 0]) / GRID
    for row in range(len(points)):
        places = np.argwhere(wrong[row])
        if len(places):
            y, x = places[int(dice.integers(len(places)))]
            corner = asked.windows[row, :2] + (torch.tensor([float(x), float(y)]) + 0.5) * step[row]
            points[row, -1, :2] = corner
            points[row, -1, 2] = float(asked.wanted[row, y, x] > 0.5)
    return points, 2 * logits.sigmoid() - 1


def export(options: argparse.Namespace) -> None:
    """Write the averaged weights into the package, with what made them."""
    log = [json.loads(line) for line in (options.out / "log.jsonl").read_text().splitlines()]
    calls = [row for row in log if row["event"] in ("begin", "again")]
    saved = torch.load(options.out / "state.pt", map_location="cpu", weights_only=True)
    kept = ("seed", "batch", "lr", "encoder_lr", "weight_decay", "hours", "scenes", "threads", "commit")
    provenance = {name: over_calls([row.get(name) for row in calls]) for name in kept}
    provenance |= {"steps": saved["counters"][0], "hours_spent": round(saved["counters"][1] / 3600, 3)}
    kind = ENCODERS[_ENCODER]
    spec = {
        "arch": f"timm:{kind.architecture}",
        "timm_args": kind.args,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "licence": LICENCE,
        "source": SOURCE,
    }
    EMBEDDED.parent.mkdir(parents=True, exist_ok=True)
    state = stored(saved["average"])
    save(EMBEDDED, state=state, words={"input_spec": json.dumps(spec), "provenance": json.dumps(provenance)})
    EMBEDDED.with_suffix(".log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n", encoding="utf-8")
    print(f"{EMBEDDED}: {EMBEDDED.stat().st_size / 1e6:.2f} MB, {sum(t.numel() for t in state.values()):,} numbers")


def main() -> None:
    """Train, or export."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.export:
        export(options)
    else:
        Training(options).run()


if __name__ == "__main__":
    main()
