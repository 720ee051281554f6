"""How fast boxes are learnt and found beside torchvision's reference loop, at equal average precision.

    python benchmarks/detect.py --shared ../shared --quick     # two epochs: speeds alone
    python benchmarks/detect.py --shared ../shared --full      # as many epochs as the plan says: average precision too

Both train Faster R-CNN on the blood smears of bccd, on its own split (which holds a near-duplicate across its parts;
medgraft is told to allow it): the same encoder with the same weights and frozen stages, strides, width and anchors of
the pyramid, scale of the picture, images a step, epochs, precision and threads. The rest is each one's own: see
benchmarks/_detect_torchvision.py for the reference. Both are processes that take turns on the same cores, some steps
at a time, so that the noise of a shared machine hits both alike; a ratio is the median of those of neighbouring turns.
Without worker processes the time that the processor spent is told too, which a busy machine changes least.
The time of a step holds everything a step needs: reading, decoding and changing images, too. medgraft decodes once,
before the first step; that time is told beside. Prediction is from files to boxes. Found boxes of both are judged by
the same functions on the same test images; the difference is taken image by image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
WANTED = 1.3
COLD = 3  # steps at the start that are not timed: kernels are compiled in them
RESAMPLES = 2000


# ---- the arm of medgraft, a process that is told what to do on stdin --------------------------------------------


class Arm:
    """`mg.train` that waits after every few steps until it is told to go on; then predictions of its run."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.out = options, Path(options["folder"]) / "run"
        self.allowed, self.prepared = options["cold"], 0.0
        self.seconds: list[tuple[float, float]] = []
        self.began = clocks()

    def run(self) -> None:
        """Answer stdin until it ends."""
        import medgraft as mg
        from medgraft.detection.opened import BoxRun
        from medgraft.values import ImageRef

        shutil.rmtree(self.out, ignore_errors=True)
        self.began = clocks()
        report = mg.train(self.options["data"], out=self.out, recipe=self.options["recipe"], listen=self._listen)
        say({"seconds": self.seconds, "ended": True, "scores": report["scores"]["test"]["map50"]})
        opened = BoxRun(self.out)
        refs = [ImageRef(Path(row["path"])) for row in self.options["rows"]["test"]]
        for _ in sys.stdin:
            began = clocks()
            answers = list(opened.files(refs, workers=self.options["predict_workers"]))
            seconds = since(began)
            found = []
            for ref, answer in answers:
                if isinstance(answer, Exception):
                    raise SystemExit(f"{ref}: {answer}")
                found.append(self._plain(answer[0].boxes))
            say({"seconds": seconds, "found": found})

    def _listen(self, event: dict[str, Any]) -> None:
        """Take the time of each step; validation, which comes between epochs, is left out."""
        if event["event"] == "step":
            self.seconds.append(since(self.began))
            self.prepared = self.prepared or self.seconds[0][0]
            self.allowed -= 1
            last = event["epoch"] + 1 == event["epochs"] and event["step"] == event["steps"]
            if self.allowed == 0 and not last:
                say({"seconds": self.seconds, "ended": False, "prepared": self.prepared})
                self.allowed, self.seconds = int(sys.stdin.readline().split()[1]), []
        if event["event"] in ("step", "epoch"):
            self.began = clocks()

    def _plain(self, boxes: Any) -> dict[str, Any]:
        labels = [self.options["classes"].index(name) for name in boxes.labels]
        return {"boxes": boxes.corners.tolist(), "labels": labels, "scores": boxes.scores.tolist()}


def clocks() -> tuple[float, float]:
    """Get the time on the wall, and that which the processor spent on this process."""
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Get the seconds since then by both clocks."""
    now = clocks()
    return now[0] - began[0], now[1] - began[1]


def say(answer: dict[str, Any]) -> None:
    """Tell the other side."""
    print(json.dumps(answer), flush=True)


# ---- both arms, taking turns ------------------------------------------------------------------------------------


class Process:
    """An arm on cores of its own choice; `ask` waits for its answer."""

    def __init__(self, command: list[str], options: dict[str, Any], name: str) -> None:
        folder = Path(options["folder"])
        path = folder / f"{name}.json"
        path.write_text(json.dumps(options))
        threads = str(options["threads"])
        home = folder / "home"  # caches start empty
        shutil.rmtree(home, ignore_errors=True)
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MEDGRAFT_HOME": str(home)}
        self.errors = folder / f"{name}.err"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **own},
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, options["cores"])

    def answer(self) -> dict[str, Any]:
        """Wait for a line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"an arm ended:\n{self.errors.read_text()[-2000:]}")
        return json.loads(line)

    def ask(self, verb: str, value: int) -> dict[str, Any]:
        """Tell it what to do and wait until it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{verb} {value}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compete(options: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """Let both train and predict in turns: seconds of every turn, and what each found at the end."""
    ours = Process([str(HERE / "detect.py"), "--arm"], options, "medgraft")
    prepared = ours.answer()["prepared"]
    theirs = Process([str(HERE / "_detect_torchvision.py")], options, "torchvision")
    theirs.answer()
    turns: list[tuple[Any, Any]] = []
    ended = False
    while not ended:
        pair = [one.ask("train", given.turn) for one in (ours, theirs)]
        turns.append((pair[0]["seconds"], pair[1]["seconds"]))
        ratio = np.sum(pair[1]["seconds"], axis=0) / np.sum(pair[0]["seconds"], axis=0)
        print(f"turn {len(turns)}: {ratio[0]:.2f} times, {ratio[1]:.2f} by processor time", file=sys.stderr, flush=True)
        ended = pair[0]["ended"]
        if ended != pair[1]["ended"]:
            raise SystemExit("the arms did not train as many steps")
    singles = {batch: theirs.ask("predict", batch)["seconds"][0] for batch in (1, 8)}
    batch = min(singles, key=lambda each: singles[each])
    ours.ask("predict", 0)
    found, seconds = ({}, {}), []
    for _ in range(given.rounds):
        found = (ours.ask("predict", 0), theirs.ask("predict", batch))
        seconds.append((found[0]["seconds"], found[1]["seconds"]))
    for one in (ours, theirs):
        one.close()
    kept = {"turns": turns, "predictions": seconds, "prepared": prepared, "batch": batch}
    return {**kept, "found": [one["found"] for one in found]}


# ---- what came of it --------------------------------------------------------------------------------------------


def speeds(told: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Get rows of the table: images a second of both, and the median ratio of neighbouring turns."""
    sizes = step_sizes(options)
    rates, at = [], options["cold"]
    for pair in told["turns"]:
        images = sum(sizes[(at + step) % len(sizes)] for step in range(len(pair[0])))
        rates.append([images / np.sum(each, axis=0) for each in pair])
        at += len(pair[0])
    count = len(options["rows"]["test"])
    found = [[count / np.array(each) for each in pair] for pair in told["predictions"]]
    rows = []
    # Worker processes have times of their own, which a process does not see.
    for number, clock in enumerate(("", ", by processor time")[: 1 if options["workers"] else 2]):
        rows.append(speed_row(f"training images a second{clock}", np.array(rates)[..., number]))
        rows.append(speed_row(f"images a second from files to boxes{clock}", np.array(found)[..., number]))
    return rows


def step_sizes(options: dict[str, Any]) -> list[int]:
    """How many images each step of an epoch has."""
    count, batch = len(options["rows"]["train"]), options["batch"]
    return [min(batch, count - start) for start in range(0, count, batch)]


def speed_row(what: str, rates: np.ndarray) -> str:
    """Get one row: medians, and the quarters of the ratios."""
    ratios = rates[:, 0] / rates[:, 1]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    ours, theirs = np.median(rates, axis=0)
    said = f"{middle:.2f} ({low:.2f} to {high:.2f}, {len(ratios)} turns)"
    return f"| {what} | {ours:.2f} | {theirs:.2f} | {said} | at least {WANTED} |"


def precision_rows(told: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Get rows of both average precisions and of their difference, judged image by image."""
    from medgraft.scores.boxes import Detections
    from medgraft.scores.intervals import bca, draws_together
    from medgraft.scores.matching import match_boxes
    from medgraft.scores.precision import precision_scores
    from medgraft.values import Boxes

    rows = options["rows"]["test"]
    classes = tuple(options["classes"])

    def boxes(one: dict[str, Any]) -> Boxes:
        names = tuple(classes[label] for label in one["labels"])
        scores = np.array(one["scores"]) if "scores" in one else None
        return Boxes(np.array(one["boxes"], dtype=np.float64).reshape(-1, 4), names, scores)

    keys, truth = tuple(row["path"] for row in rows), tuple(boxes(row) for row in rows)
    matches = [
        match_boxes(Detections(keys, truth, tuple(map(boxes, found)), classes), by_size=False)
        for found in told["found"]
    ]

    def joint(weights: np.ndarray) -> dict[str, np.ndarray]:
        own = [precision_scores(each, weights) for each in matches]
        told = {f"{side} {name}": own[side][name] for side in (0, 1) for name in ("map50", "map")}
        return told | {f"2 {name}": own[0][name] - own[1][name] for name in ("map50", "map")}

    whole = joint(np.ones((1, len(rows))))
    drawn = draws_together(joint, np.arange(len(rows)), seed=0, count=RESAMPLES)

    def cell(name: str, form: str) -> str:
        value = float(whole[name][0])
        low, high, _ = bca(value, drawn[name])
        ends = "no interval" if low is None or high is None else f"{low:{form}} to {high:{form}}"
        return f"{value:{form}} ({ends})"

    return [
        f"| {what} | {cell(f'0 {name}', '.3f')} | {cell(f'1 {name}', '.3f')} | difference "
        f"{cell(f'2 {name}', '+.3f')} | not worse |"
        for what, name in (("AP at IoU .50", "map50"), ("AP, mean over IoU .50 to .95", "map"))
    ]


def prepare(given: argparse.Namespace) -> dict[str, Any]:
    """Plan as medgraft does, and write down what both arms share."""
    import medgraft as mg
    from medgraft.samples.dataset import read_samples

    data, out = given.shared / "data" / "bccd", given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    backbone = f"file:{(given.shared / 'weights' / 'mobilenet_v2.safetensors').resolve()}"
    settings = {"split.allow_leaks": True, "input.channels": 3, "fit.precision": given.precision, "fit.patience": 0}
    words: dict[str, Any] = {"backbone": backbone, "depth": 3, "offline": True, "settings": settings}
    planned = mg.plan(data, task="detect", epochs=given.epochs, **words)  # the average of the weights depends on them
    changes: dict[str, Any] = {"scores.resamples": 100, "machine.workers": given.workers}
    changes |= {} if given.limit is None else {"split.limit_train": given.limit}
    recipe = planned.changed(changes)
    recipe.save(out / "recipe.yaml")
    samples = read_samples(data).samples
    classes = sorted({name for sample in samples if sample.boxes is not None for name in sample.boxes.labels})
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        if sample.boxes is not None and sample.split is not None:
            labels = [classes.index(name) for name in sample.boxes.labels]
            boxes = {"boxes": sample.boxes.corners.tolist(), "labels": labels}
            rows[sample.split].append({"path": str(sample.image.path.resolve()), **boxes})
    rows["train"] = rows["train"][: given.limit]
    side = recipe.input.image_size or 0
    shapes = [image_size(row["path"]) for row in rows["train"]]
    shared = {"side": side, "short": round(side * float(np.median([min(one) / max(one) for one in shapes])))}
    shared |= {name: getattr(recipe.boxes, name) for name in ("strides", "ratios", "width", "most")}
    shared |= {"epochs": recipe.fit.epochs, "batch": recipe.fit.batch_size, "thawed": recipe.depth.thaw}
    cores = sorted(os.sched_getaffinity(0))[-given.threads :] if hasattr(os, "sched_getaffinity") else []
    files = {"folder": str(out), "recipe": str(out / "recipe.yaml"), "data": str(data.resolve()), "backbone": backbone}
    own = {"threads": given.threads, "workers": given.workers, "predict_workers": given.workers, "cores": cores}
    return {**shared, **files, **own, "cold": COLD, "seed": 0, "classes": classes, "rows": rows} | {
        "precision": given.precision
    }


def image_size(path: str) -> tuple[int, int]:
    """Get width and height of a file."""
    from PIL import Image

    with Image.open(path) as file:
        return file.size


def main() -> None:
    """Let both arms run and print one table."""
    if len(sys.argv) == 3 and sys.argv[1] == "--arm":
        return run_arm(json.loads(Path(sys.argv[2]).read_text()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    parser.add_argument("--out", type=Path, default=Path("runs/detect"))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_const", dest="epochs", const=2, help="two epochs: speeds alone")
    how.add_argument("--full", action="store_const", dest="epochs", const=None, help="as many epochs as planned")
    how.add_argument("--epochs", type=int, help="so many epochs; 2 where nothing is said")
    parser.set_defaults(epochs=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of both")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, of both")
    parser.add_argument("--threads", type=int, default=1, help="and as many cores, the same for both")
    parser.add_argument("--limit", type=int, help="training images, for a first try")
    parser.add_argument("--turn", type=int, default=5, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of prediction")
    given = parser.parse_args()
    options = prepare(given)
    told = compete(options, given)
    kept = {name: value for name, value in told.items() if name != "found"}
    shown = {name: value for name, value in options.items() if name not in ("rows", "folder", "recipe", "data")}
    (given.out / "detect.json").write_text(json.dumps({"options": shown, **kept}) + "\n")
    print(f"{json.dumps(shown)}\n\n| what | medgraft | torchvision | ratio | wanted |\n|---|---|---|---|---|")
    print("\n".join([*speeds(told, options), *precision_rows(told, options)]))
    print(f"\nmedgraft's survey, decoding of all images and first step: {told['prepared']:.1f} s, once.", end=" ")
    print(f"torchvision predicted {told['batch']} at a time, the faster of 1 and 8.")


def run_arm(options: dict[str, Any]) -> None:
    """Be the process of medgraft."""
    import torch

    torch.set_num_threads(options["threads"])
    Arm(options).run()


if __name__ == "__main__":
    main()
