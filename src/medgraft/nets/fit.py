"""Put weights into a net: all of the encoder, or a clear refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from medgraft.errors import BadWeights
from medgraft.nets.request import Opened, Request, Stage
from medgraft.values import InputSpec


@dataclass(frozen=True, eq=False)
class Fetched:
    """Weights and where they came from.

    Attributes:
        state: key -> tensor.
        sha256: of the file.
        source: in words, for reports.
        origin: what the user named, for messages.
    """

    state: dict[str, torch.Tensor]
    sha256: str
    source: str
    origin: str


def is_head(key: str, heads: Sequence[str]) -> bool:
    """Tell whether a key belongs to a part of the net that grafting cuts off."""
    return any(key == head or key.startswith(head + ".") for head in heads)


def outputs_in(state: Mapping[str, torch.Tensor], heads: Sequence[str]) -> int:
    """Get the number of outputs of the head in a state: the length of its last bias; 1000 when there is none."""
    biases = [
        t for key, t in state.items() if is_head(key, heads) and key.endswith("bias") and "aux" not in key.lower()
    ]
    return int(biases[-1].shape[0]) if biases else 1000


def load_strict(
    net: nn.Module, state: Mapping[str, torch.Tensor], *, heads: Sequence[str], keep_head: bool, origin: str
) -> None:
    """Load every weight of the encoder.

    Args:
        net: filled in place.
        state: key -> tensor, by the keys of the net.
        heads: names of the parts that grafting cuts off; their keys may be absent, or of another shape.
        keep_head: True wants the head's weights too.
        origin: where the state came from, for the message.

    Raises:
        BadWeights: weights are missing, have another shape, are left over, or are not finite numbers.
    """
    own = net.state_dict()
    wanted = {key: value for key, value in own.items() if keep_head or not is_head(key, heads)}
    given = {key: value for key, value in state.items() if key in wanted}
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in given.items() if value.shape != wanted[key].shape]
    extra = [key for key in state if key not in own and not is_head(key, heads)]
    if missing or wrong or extra:
        raise BadWeights(_mismatch(wanted, given, missing=missing, wrong=wrong, extra=extra), where=origin, do=_DO)
    damaged = next((k for k, v in given.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())), None)
    if damaged:
        raise BadWeights(
            f"the weights {damaged} hold numbers that are not finite", where=origin, do="Get the file again."
        )
    net.load_state_dict(given, strict=False)


_DO = "Name the architecture the file was made for with file:PATH,arch=NAME."


def _mismatch(
    wanted: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    *,
    missing: Sequence[str],
    wrong: Sequence[str],
    extra: Sequence[str],
) -> str:
    said = []
    if missing:
        names = ", ".join(f"{key} {tuple(wanted[key].shape)}" for key in missing[:3])
        said.append(f"{len(missing)} of {len(wanted)} weights are missing, first {names}")
    if wrong:
        key = wrong[0]
        said.append(
            f"{len(wrong)} have another shape, first {key}: "
            f"{tuple(given[key].shape)} in the file, {tuple(wanted[key].shape)} in the net"
        )
    if extra:
        said.append(f"{len(extra)} do not belong to the net, first {', '.join(extra[:3])}")
    return "the weights do not fit: " + "; ".join(said)


def opened(
    request: Request,
    fetched: Fetched | None,
    architecture: str,
    spec: InputSpec,
    *,
    licence: str,
    stages: tuple[Stage, ...] = (),
    whole: nn.Module | None = None,
    classes: tuple[str, ...] = (),
) -> Opened:
    """Put an `Opened` together; what the weight file says of its licence comes before what the library says."""
    options = dict(request.facts.get("timm_args") or {})
    if fetched is None:
        return Opened(architecture, spec, stages, whole, source="random numbers", classes=classes, options=options)
    if request.state is not None:
        licence = str(request.facts.get("licence") or "not stated")
    found = Opened(architecture, spec, stages, whole, licence, fetched.source, fetched.sha256, classes)
    return replace(found, options=options)
