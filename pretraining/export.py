"""Turn a training's averaged weights into an embedded encoder: one file that says where it came from.

    python -m pretraining.export runs/pretraining/a --name resnet10t --rank 1

Weights are stored in half precision, everything of BatchNorm in full: a
variance may be smaller than half precision can hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgraft.weights.catalogue import EMBEDDED
from medgraft.weights.tensors import save
from pretraining.encoders import ENCODERS
from pretraining.objective import MEAN, STD

LICENCE = "Apache-2.0"
SOURCE = "procedural images made by formulas alone: no photograph, no patient (pretraining/ in the repository)"


def stored(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """Get an encoder's tensors under timm's names: half precision but for norms and biases."""
    found = {}
    for name, tensor in average.items():
        name = name.removeprefix("net.")
        if name.endswith("num_batches_tracked"):
            continue
        found[name] = tensor.half() if tensor.ndim > 1 else tensor.float()
    return found


def fingerprint(state: dict[str, Tensor]) -> str:
    """Get the sha256 of the tensors, by name, apart from the file they are in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def provenance(log: list[dict[str, Any]], counters: list[float], state: dict[str, Tensor]) -> dict[str, Any]:
    """Get what made the weights, from the training's own log and the counters of its checkpoint."""
    calls = [row for row in log if row["event"] in ("begin", "again")]
    kept = ("seed", "programs", "pool", "render", "size", "large", "batch", "lr", "weight_decay", "temperature")
    kept += ("renew", "device", "teacher", "start", "hours")
    step, views, seconds = counters
    rendered = max((row["rendered"] for row in log if row["event"] == "steps" and row["step"] <= step), default=None)
    return {
        **{name: over_calls([row.get(name) for row in calls]) for name in kept},
        "weights_of_losses": over_calls([row.get("weights") for row in calls]),
        # One for each state of the code that a call ran with.
        "commit": over_calls([row.get("commit", "unknown") for row in calls]),
        "views": int(views),
        "steps": int(step),
        "hours_spent": round(seconds / 3600, 3),
        "images_rendered": rendered,
        "tensors_sha256": fingerprint(state),
    }


def over_calls(values: list[Any]) -> Any:
    """Get the one value that all calls had, or the list of those that followed one another."""
    changes = [value for k, value in enumerate(values) if k == 0 or value != values[k - 1]]
    return changes[0] if len(changes) == 1 else changes


def main() -> None:
    """Write NAME.safetensors and NAME.log.jsonl into the package."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("training", type=Path, help="the folder of pretraining.train")
    given.add_argument("--name", required=True)
    given.add_argument("--rank", type=int, required=True, help="1 is the default encoder")
    given.add_argument("--out", type=Path, default=EMBEDDED)
    options = given.parse_args()
    log = [json.loads(line) for line in (options.training / "log.jsonl").read_text().splitlines()]
    log = [{name: value for name, value in row.items() if name not in ("out", "keep")} for row in log]
    begun = next(row for row in log if row["event"] == "begin")
    kind = ENCODERS[begun["encoder"]]
    saved = torch.load(options.training / "state.pt", map_location="cpu", weights_only=True)
    state = stored(saved["average"])
    spec = {
        "arch": f"timm:{kind.architecture}",
        "timm_args": kind.args,
        "image_size": begun["large"],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "interpolation": "bilinear",
        "licence": LICENCE,
        "source": SOURCE,
        "rank": options.rank,
    }
    words = {"input_spec": json.dumps(spec), "provenance": json.dumps(provenance(log, saved["counters"], state))}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.name}.safetensors"
    save(path, state=state, words=words)
    lines = [json.dumps(row) for row in log]
    (options.out / f"{options.name}.log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {sum(t.numel() for t in state.values()):,} numbers")


if __name__ == "__main__":
    main()
