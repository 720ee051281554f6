"""How fast label maps of volumes are learnt and drawn beside MONAI's plain loop, at equal Dice; and how much memory.

    python benchmarks/segment.py --shared ../shared --epochs 2    # speeds alone
    python benchmarks/segment.py --shared ../shared               # as many epochs as the plan says: Dice too
    python benchmarks/segment.py --memory                         # one scan of 512 x 512 x 400 voxels

Both train the same net with the same weights and frozen stages on the hippocampus volumes, on their own split, patch by
patch of the same size, in float32, on the same cores; the rest is each one's own: see benchmarks/_segment_monai.py for
the reference. Both are processes that take turns, some steps at a time, so that the noise of a shared machine hits both
alike; a ratio is the median of those of neighbouring turns. What was drawn on the test scans is scored by the same
functions on the files' own grids, and the difference is taken scan by scan.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from detect import Process, clocks, say, since, speed_row

HERE = Path(__file__).resolve().parent
DATA = "hippocampus_msd"
COLD = 3  # steps at the start that are not timed: kernels are compiled in them


class Arm:
    """`mg.train` that waits after every few steps until it is told to go on; then it draws with its run."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.out = options, Path(options["folder"]) / "run"
        self.allowed, self.seconds, self.began = COLD, list[tuple[float, float]](), clocks()

    def run(self) -> None:
        """Answer stdin until it ends."""
        import medgraft as mg
        from medgraft.values import ImageRef

        shutil.rmtree(self.out, ignore_errors=True)
        options = self.options
        mg.train(options["data"], out=self.out, recipe=options["recipe"], listen=self._listen)
        say({"seconds": self.seconds, "ended": True})
        opened: Any = mg.open_run(self.out, device="cpu")
        opened.task.mirrored = ()  # the other arm looks once
        refs = [ImageRef(Path(row["image"])) for row in options["rows"]["test"]]
        for line in sys.stdin:
            path = line.strip().partition(" ")[2]
            began = time.perf_counter()
            found = [answer[0].mask for _, answer in opened.files(refs, workers=options["workers"])]
            seconds = time.perf_counter() - began
            if path != "0":
                np.savez(path, *found)
            say({"seconds": seconds})

    def _listen(self, event: dict[str, Any]) -> None:
        """Take the time of each step; validation, which comes between epochs, is left out."""
        if event["event"] == "step":
            self.seconds.append(since(self.began))
            self.allowed -= 1
            last = event["epoch"] + 1 == event["epochs"] and event["step"] == event["steps"]
            if self.allowed == 0 and not last:
                say({"seconds": self.seconds, "ended": False})
                self.allowed, self.seconds = int(sys.stdin.readline().split()[1]), []
        if event["event"] in ("step", "epoch"):
            self.began = clocks()


def compete(options: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """Let both train and draw in turns: seconds of every turn, and where what they drew is."""
    ours = Process([str(HERE / "segment.py"), "--arm"], options, "medgraft")
    ours.answer()
    theirs = Process([str(HERE / "_segment_monai.py")], options, "monai")
    theirs.answer()
    theirs.ask("train", COLD)
    turns, ended = [], False
    while not ended:
        pair = [one.ask("train", given.turn) for one in (ours, theirs)]
        turns.append([one["seconds"] for one in pair])
        ratio = np.sum(turns[-1][1], axis=0) / np.sum(turns[-1][0], axis=0)
        print(f"turn {len(turns)}: {ratio[0]:.2f} times, {ratio[1]:.2f} by processor time", file=sys.stderr, flush=True)
        ended = pair[0]["ended"]
        if ended != pair[1]["ended"]:
            raise SystemExit("the arms did not train as many steps")
    paths = [str(Path(options["folder"]) / f"{name}.npz") for name in ("medgraft", "monai")]
    drawn = []
    for turn in range(given.rounds):
        names = paths if turn == 0 else ("0", "0")
        drawn.append([one.ask("draw", name)["seconds"] for one, name in zip((ours, theirs), names, strict=True)])  # type: ignore[arg-type]
    for one in (ours, theirs):
        one.close()
    return {"turns": turns, "drawn": drawn, "paths": paths}


def report(told: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Get the rows of the table."""
    steps = [[np.array(one).sum(axis=0) / len(one) for one in pair] for pair in told["turns"] if len(pair[0])]
    rates = options["batch"] / np.array(steps)  # (turns, arms, clocks)
    rows = [
        speed_row(f"training patches a second{clock}", rates[..., number])
        for number, clock in enumerate(("", ", by processor time")[: 1 if options["workers"] else 2])
    ]
    count = len(options["rows"]["test"])
    rows.append(
        speed_row("scans a second, from files to label maps", count / np.array(told["drawn"][1:] or told["drawn"]))
    )
    return [*rows, dice_row(told, options)]


def dice_row(told: dict[str, Any], options: dict[str, Any]) -> str:
    """Get the row of both mean Dice scores and of their difference."""
    from medgraft.files.label_map import read_label_map
    from medgraft.scores.intervals import bca, draws
    from medgraft.scores.mask_cases import mask_scores

    scores = []
    for path in told["paths"]:
        with np.load(path) as file:
            drawn = [file[name] for name in file.files]
        own = []
        for row, found in zip(options["rows"]["test"], drawn, strict=True):
            truth = read_label_map(Path(row["label"])).values.astype(np.uint8)
            words: dict[str, Any] = {"classes": options["classes"], "spacing_mm": None, "tolerance": 1.0}
            own.append(float(np.nanmean(mask_scores(truth, found, **words)["dice"])))
        scores.append(np.array(own))
    sides = {"ours": scores[0], "theirs": scores[1], "difference": scores[0] - scores[1]}
    statistics = {name: (lambda rows, own=own: rows @ own / rows.sum(axis=1)) for name, own in sides.items()}
    drawn_again = draws(statistics, np.arange(len(scores[0])), seed=0, count=2000)
    cells = []
    for name, own in sides.items():
        low, high, _ = bca(float(own.mean()), drawn_again[name])
        form = "+.3f" if name == "difference" else ".3f"
        cells.append(f"{own.mean():{form}} ({low:{form}} to {high:{form}})")
    return f"| mean Dice of {len(scores[0])} test scans | {cells[0]} | {cells[1]} | difference {cells[2]} | not worse |"


def prepare(given: argparse.Namespace) -> dict[str, Any]:
    """Plan as medgraft does, and write down what both arms share."""
    import medgraft as mg
    from medgraft.samples.dataset import Columns, read_samples
    from medgraft.segmentation.choices import form_of

    data, out = given.shared / "data" / DATA, given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    words: dict[str, Any] = {"mask_column": "mask", "backbone": given.backbone, "patients_unknown": True}
    settings: dict[str, Any] = {"fit.precision": "fp32", "machine.workers": given.workers, "scores.resamples": 100}
    settings |= {} if given.limit is None else {"split.limit_train": given.limit}
    settings |= {} if given.patches is None else {"masks.patches": given.patches}
    recipe = mg.plan(data, task="segment", epochs=given.epochs, offline=True, settings=settings, **words)
    recipe.save(out / "recipe.yaml")
    rows: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
    for sample in read_samples(data, columns=Columns(mask="mask")).samples:
        if sample.mask is not None and sample.split:
            rows[sample.split].append(
                {"image": str(sample.image.path.resolve()), "label": str(sample.mask.path.resolve())}
            )
    rows["train"] = rows["train"][: given.limit]
    form, fit = form_of(recipe), recipe.fit
    batch, each = fit.batch_size or 2, 1
    steps = (fit.epochs or 1) * -(-(recipe.masks.patches or 1) * len(rows["train"]) // batch)
    cores = sorted(os.sched_getaffinity(0))[-given.threads :] if hasattr(os, "sched_getaffinity") else []
    return {
        "folder": str(out),
        "recipe": str(out / "recipe.yaml"),
        "data": str(data.resolve()),
        "backbone": given.backbone,
        "form": form.to_dict(),
        "thawed": recipe.depth.thaw if isinstance(recipe.depth.thaw, int) else 5,
        "classes": list(recipe.masks.names or []),
        "spacing": list(recipe.masks.spacing_mm or ()),
        "patch": list(form.patch),
        "mirrors": list(recipe.masks.mirrored or ()),
        "batch": batch,
        "each": each,
        "steps": steps,
        "lr": fit.head_lr,
        "rows": rows,
        "threads": given.threads,
        "workers": given.workers,
        "cores": cores,
    }


def memory(shape: tuple[int, int, int]) -> str:
    """Draw on one large scan, and get seconds and the peak of memory as a line."""
    import torch

    from medgraft.learn.segmenter import DrawForm, graft_segmenter
    from medgraft.nets.decoder import DecoderForm
    from medgraft.samples.framing import FrameForm
    from medgraft.tasks.answers import Answers

    form = DrawForm(
        FrameForm((1.0, 0.8, 0.8), "all", ((40.0, 400.0),)),
        DecoderForm("unet", 8, 0, 3),
        (64,) * 3,
        (64, 128, 128),
        (16,) * 3,
    )
    task = graft_segmenter(Answers(classes=("organ", "lesion")), form, backbone_name="embedded:resnet10t_small").eval()
    pixels = torch.from_numpy(np.random.default_rng(0).random((1, *shape), np.float32))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, time.perf_counter()
    drawn = [part.argmax(dim=0).to(torch.uint8) for _, part in task.chances(pixels)]
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    assert sum(len(part) for part in drawn) == shape[0]
    whole = np.prod(shape) * 4 * 3 / 2**20
    return (
        f"{' x '.join(map(str, shape[::-1]))} voxels in {seconds:.0f} s; {before} MB with the scan in memory, "
        f"{after} MB at the peak (probabilities of all voxels alone would be {whole:.0f} MB more)"
    )


def main() -> None:
    """Let both arms run and print one table."""
    if len(sys.argv) == 3 and sys.argv[1] == "--arm":
        import torch

        options = json.loads(Path(sys.argv[2]).read_text())
        torch.set_num_threads(options["threads"])
        return Arm(options).run()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    parser.add_argument("--out", type=Path, default=Path("runs/segment"))
    parser.add_argument("--backbone", default="embedded:resnet10t_small")
    parser.add_argument("--epochs", type=int, help="instead of as many as are planned")
    parser.add_argument("--patches", type=int, help="of a scan and epoch, instead of as many as are planned")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, of both")
    parser.add_argument("--threads", type=int, default=1, help="and as many cores, the same for both")
    parser.add_argument("--limit", type=int, help="training scans, for a first try")
    parser.add_argument("--turn", type=int, default=10, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=4, help="turns of drawing; the first is not timed")
    parser.add_argument("--memory", action="store_true", help="draw on one large scan and stop")
    parser.add_argument("--size", type=int, nargs=3, default=(400, 512, 512), help="(D, H, W) of that scan")
    given = parser.parse_args()
    if given.memory:
        d, h, w = given.size
        return print(memory((d, h, w)))
    options = prepare(given)
    told = compete(options, given)
    (given.out / "segment.json").write_text(json.dumps({"options": options, **told}) + "\n")
    shown = {name: value for name, value in options.items() if name not in ("rows", "folder", "recipe", "data", "form")}
    print(f"{json.dumps(shown)}\n\n| what | medgraft | MONAI | ratio | wanted |\n|---|---|---|---|---|")
    print("\n".join(report(told, options)))
    return None


if __name__ == "__main__":
    main()
