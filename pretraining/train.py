"""Train an encoder on the pool; a later call goes on where the last one stopped.

    python -m pretraining.train --encoder resnet10t --out runs/pretraining/a --hours 2 --minutes 9

`--hours` is the whole budget and sets the schedule: the learning rate is a
cosine of the time spent so far. `--minutes` ends this call before the budget
does; call again until it says that it is done.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medgraft.storage import sha256_file
from medgraft.weights.tensors import load
from pretraining.encoders import ENCODERS, Encoder, Kind
from pretraining.numbers import NUMBERS, as_seen
from pretraining.objective import (
    Imitation,
    Questions,
    contrast_loss,
    dense_loss,
    normalise,
    numbers_loss,
    program_loss,
)
from pretraining.pool import BLOCK, Pool, Taken, stream
from pretraining.programs import draw_programs
from pretraining.render import MASKS
from pretraining.views import View, view

HERE = Path(__file__).parent
_SPEAK_SECONDS, _SAVE_SECONDS = 30, 120
# What a training cannot change on the way: another net, other images, other classes.
_FIXED = ("encoder", "seed", "programs", "pool", "render", "large", "teacher")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--encoder", choices=tuple(ENCODERS), default="resnet10t")
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--hours", type=float, required=True, help="of training, over all calls")
    given.add_argument("--minutes", type=float, default=1e9, help="of this call")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--programs", type=int, default=8192)
    given.add_argument("--pool", type=int, default=65536, help="images held")
    given.add_argument("--keep", type=Path, help="folder that keeps the rendered images for the next call")
    given.add_argument("--render", type=int, default=96, help="side of a rendered image in pixels")
    given.add_argument("--size", type=int, default=64, help="side of a view in pixels")
    given.add_argument("--large", type=int, default=96, help="side of a view in the last fifth of the budget")
    given.add_argument("--batch", type=int, default=256, help="images a step; each gives two views")
    given.add_argument("--lr", type=float, default=2e-3)
    given.add_argument("--weight-decay", type=float, default=0.04)
    given.add_argument("--temperature", type=float, default=0.2)
    given.add_argument("--renew", type=float, default=0.1, help="share of the time that renders new images")
    given.add_argument("--weights", type=float, nargs=4, default=(1.0, 1.0, 2.0, 1.0))
    given.add_argument("--teacher", type=Path, help="an exported resnet10t whose features are imitated too")
    given.add_argument("--imitate", type=float, default=4.0, help="weight of that")
    given.add_argument("--start", type=Path, help="an exported .safetensors to start from")
    given.add_argument("--commit", default=commit(), help="that this code is of, where no git is there to say it")
    given.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = given.parse_args()
    if options.keep and torch.device(options.device).type != "cpu":
        given.error("--keep maps files into memory, which only the CPU can; on a GPU leave it out")
    if options.batch > options.pool:
        given.error(f"--batch {options.batch} is more than the pool holds (--pool {options.pool})")
    return options


def written(options: argparse.Namespace) -> dict[str, Any]:
    """Get the options as they go into the log and the checkpoint; files by name and sha256."""
    words = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    for key in ("teacher", "start"):
        path = getattr(options, key)
        words[key] = f"{path.name} sha256={sha256_file(path)}" if path else None
    return words


def begin_from(encoder: Encoder, path: Path) -> None:
    """Load an exported encoder; every number must be there but the counters of BatchNorm."""
    state = {f"net.{name}": tensor for name, tensor in load(path).items()}
    counters = {name: t for name, t in encoder.state_dict().items() if name.endswith("num_batches_tracked")}
    encoder.load_state_dict(state | counters)


class Training:
    """Encoder, questions, optimiser, average; and what a checkpoint holds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        torch.manual_seed(options.seed)
        kind = ENCODERS[options.encoder]
        self.programs = draw_programs(options.programs, seed=options.seed)
        words = {"count": options.pool, "size": options.render, "seed": options.seed, "device": self.device}
        self.pool = Pool(self.programs, folder=options.keep, **words)
        self.encoder = Encoder(kind, options.large)
        numbers = len(NUMBERS)
        self.questions = Questions(kind.channels, programs=options.programs, numbers=numbers, masks=len(MASKS))
        if options.start:
            begin_from(self.encoder, options.start)
        learning = [self.encoder, self.questions, *self._teacher(kind)]
        self.whole = nn.ModuleList(learning).to(self.device, memory_format=torch.channels_last)
        plain = [p for p in self.whole.parameters() if p.ndim <= 1]
        decayed = [p for p in self.whole.parameters() if p.ndim > 1]
        groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=True)
        self.average = {name: t.detach().clone() for name, t in self.encoder.state_dict().items()}
        self.centre = torch.zeros(numbers)
        self.spread = torch.ones(numbers)
        self.step, self.views, self.seconds = 0, 0, 0.0

    def _teacher(self, kind: Kind) -> list[nn.Module]:
        """Open the trained encoder that is imitated, if one is; get what learns to say what it says."""
        self.teacher = None
        if self.options.teacher is None:
            return []
        taught = ENCODERS["resnet10t"]
        self.teacher = Encoder(taught, self.options.large)
        begin_from(self.teacher, self.options.teacher)
        self.teacher = self.teacher.eval().to(self.device, memory_format=torch.channels_last)
        self.imitation = Imitation(kind.channels[-1], taught.channels)
        return [self.imitation]

    def progress(self) -> float:
        """Get the share of the budget that is spent."""
        return min(1.0, self.seconds / (self.options.hours * 3600))

    def rate(self) -> float:
        """Get the learning rate: a short rise, then half a cosine, both by time."""
        spent = self.progress()
        rising = min(1.0, (self.step + 1) / 200)
        return self.options.lr * rising * max(1e-3, 0.5 * (1 + math.cos(math.pi * spent)))

    def learn(self) -> dict[str, float]:
        """Do one step."""
        options = self.options
        draw = torch.Generator(self.device).manual_seed(stream(options.seed, "step", self.step))
        rows = torch.randperm(len(self.pool), generator=draw, device=self.device)[: options.batch]
        taken = self.pool.take(rows)
        size = options.size if self.progress() < 0.8 else options.large
        one = view(taken.images, taken.masks, size=size, area=(0.35, 1), gray=0.0, draw=draw)
        two = view(taken.images, taken.masks, size=size, area=(0.15, 0.8), gray=0.15, draw=draw)
        pixels = normalise(torch.cat([one.pixels, two.pixels])).to(memory_format=torch.channels_last)
        weights = list(options.weights)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            levels = self.encoder(pixels)
            logits, numbers, compared, dense = self.questions(levels)
        losses = self.losses(taken, (logits.float(), numbers.float(), compared, dense.float()), (one, two))
        if self.teacher is not None:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                with torch.no_grad():
                    taught = self.teacher(pixels)
                losses["imitation"] = self.imitation(levels[-1], taught)
            weights.append(options.imitate)
        total = sum(w * loss for w, loss in zip(weights, losses.values(), strict=True))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(self.whole.parameters(), 3.0)
        self.optimiser.step()
        self.follow()
        self.step += 1
        self.views += 2 * options.batch
        hits = (logits[: options.batch].argmax(1) == taken.programs[:, 0]).float().mean()
        return {name: float(loss.detach()) for name, loss in losses.items()} | {"top1": float(hits)}

    def losses(self, taken: Taken, answers: tuple[Tensor, ...], views: tuple[View, View]) -> dict[str, Tensor]:
        """Get the four losses of one batch of two views."""
        logits, numbers, compared, dense = answers
        first, second = compared.chunk(2)
        seen = torch.cat([as_seen(taken.numbers, own.masks, zoom=own.zoom, gray=own.gray) for own in views])
        wanted = ((seen - self.centre.to(self.device)) / self.spread.to(self.device)).clamp(-4, 4)
        shares, masks = taken.shares.repeat(2), torch.cat([own.masks for own in views])
        return {
            "contrast": contrast_loss(first, second, temperature=self.options.temperature),
            "program": program_loss(logits, taken.programs.repeat(2, 1), shares),
            "numbers": numbers_loss(numbers, wanted, shares),
            "dense": dense_loss(dense, masks, shares),
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Let the average follow the weights, faster at the start."""
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        for name, tensor in self.encoder.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def save(self) -> None:
        """Write everything needed to go on, whole or not at all."""
        state = {
            "average": self.average, "encoder": self.encoder.state_dict(), "questions": self.questions.state_dict(),
            "imitation": None if self.teacher is None else self.imitation.state_dict(),
            "optimiser": self.optimiser.state_dict(), "centre": self.centre, "spread": self.spread,
            "counters": [self.step, self.views, self.seconds], "rendered": self.pool.rendered,
            "options": written(self.options),
        }  # fmt: skip
        path = self.options.out / "state.pt"
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def restore(self) -> bool:
        """Take up an earlier call, its pool of images too.

        Raises:
            SystemExit: this call was told something that a training cannot change on the way.
        """
        path = self.options.out / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        told, now = state.get("options", {}), written(self.options)
        other = [f"--{name} {told.get(name)} (now {now[name]})" for name in _FIXED if told.get(name) != now[name]]
        if other:
            raise SystemExit(f"{path} was begun with {', '.join(other)}: say the same, or take another --out")
        self.average = state["average"]
        self.encoder.load_state_dict(state["encoder"])
        self.questions.load_state_dict(state["questions"])
        if self.teacher is not None:
            self.imitation.load_state_dict(state["imitation"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.optimiser.param_groups[0]["weight_decay"] = self.options.weight_decay  # that of this call
        self.centre, self.spread = state["centre"].cpu(), state["spread"].cpu()
        self.step, self.views, self.seconds = state["counters"]
        self.pool.go_to(state["rendered"])
        return True


def commit() -> str:
    """Get the commit that generator and training are of, marked where their files differ from it."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], capture_output=True, text=True, cwd=HERE).stdout.strip()
        except FileNotFoundError:
            return ""

    head = git("rev-parse", "--short=12", "HEAD")
    return head + ("-dirty" if git("status", "--porcelain", ".") else "") if head else "unknown"


class Log:
    """One line an event, to the log that is kept with the weights and to the screen."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        self.sums: dict[str, float] = {}
        self.steps, self.views, self.spoken = 0, 0, time.monotonic()

    def say(self, event: str, **facts: Any) -> None:
        """Write one event."""
        line = json.dumps({"event": event, **facts})
        with open(self.path, "a", encoding="utf-8") as file:
            print(line, file=file)
        print(line, flush=True)

    def step(self, training: Training, losses: dict[str, float]) -> None:
        """Add the losses of a step, and every half minute say their means."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.views += 2 * training.options.batch
        passed = time.monotonic() - self.spoken
        if passed > _SPEAK_SECONDS:
            means = {name: round(value / self.steps, 4) for name, value in self.sums.items()}
            self.say(
                "steps",
                step=training.step,
                views=training.views,
                seconds=round(training.seconds),
                lr=round(training.rate(), 6),
                views_per_second=round(self.views / passed, 1),
                rendered=training.pool.rendered * BLOCK,
                **means,
            )
            self.sums, self.steps, self.views, self.spoken = {}, 0, 0, time.monotonic()


def fill(pool: Pool, log: Log) -> None:
    """Render until the pool is full."""
    first, began = pool.rendered, time.monotonic()
    while pool.rendered < pool.blocks:
        pool.advance()
    speed = (pool.rendered - first) * BLOCK / max(time.monotonic() - began, 1e-6)
    log.say("pool", images=len(pool), images_per_second=round(speed, 1))


def go_on(training: Training, log: Log, *, until: float) -> None:
    """Train and render in turns until the budget is spent or the clock says `until`."""
    options, pool = training.options, training.pool
    before, rendering, done = training.seconds, 0.0, 0
    saved = started = time.monotonic()
    # At least one step a call, however long the images took: many short calls come to an end too.
    while training.progress() < 1 and (done == 0 or time.monotonic() < until):
        losses = training.learn()
        done += 1
        now = time.monotonic()
        training.seconds = before + now - started
        log.step(training, losses)
        if rendering < options.renew * (now - started):
            pool.advance()
            rendering += time.monotonic() - now
        if now - saved > _SAVE_SECONDS:
            training.save()
            saved = time.monotonic()


def main() -> None:
    """Train until the budget or this call's time is over."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + options.minutes * 60
    training, log = Training(options), Log(options.out)
    again = training.restore()
    log.say("again" if again else "begin", **written(options))
    fill(training.pool, log)
    if not again:
        training.centre, training.spread = (t.cpu() for t in training.pool.standards())
    go_on(training, log, until=until)
    training.save()
    log.say("done" if training.progress() >= 1 else "stopped", views=training.views, step=training.step)


if __name__ == "__main__":
    main()
