"""Downloads: the Hugging Face hub and plain addresses, kept under `$MEDGRAFT_HOME/hub`.

`offline=True` looks into the cache and opens no socket.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from medgraft.errors import BadWeights, Offline
from medgraft.storage import home, sha256_file

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Found:
    """A file that is here.

    Attributes:
        path: where it is.
        sha256: of its bytes.
    """

    path: Path
    sha256: str


def folder() -> Path:
    """Get the folder of downloaded weights."""
    return home() / "hub"


def fetch(repository: str, filename: str, *, name: str, offline: bool) -> Found:
    """Get one file of a hub repository, from the cache or from the network.

    Args:
        repository: "OWNER/NAME" or "OWNER/NAME@REVISION".
        filename: the file in it.
        name: what the user typed, for messages.
        offline: True only looks into the cache.

    Raises:
        Offline: it is not in the cache and the network is forbidden or cannot be reached.
        BadWeights: the repository or the file does not exist.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, _, revision = repository.partition("@")
    absent = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError)
    place = {"revision": revision or None, "cache_dir": folder()}
    try:
        if not offline and not isinstance(try_to_load_from_cache(repo, filename, **place), str):
            _knock(repo, filename, revision or None, name=name)
        path = Path(hf_hub_download(repo, filename, local_files_only=offline, endpoint=_endpoint(), **place))
    except LocalEntryNotFoundError as error:
        raise _offline(name, offline) from error
    except absent as error:
        raise BadWeights(
            f"the hub has no {filename} there that may be read", where=name, do="Check the name and your access."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise _offline(name, offline) from error
    return Found(path, sha256_file(path))


def _knock(repo: str, filename: str, revision: str | None, *, name: str) -> None:
    """Ask for a file's size once: the download itself would try a dead network again for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        address = hf_hub_url(repo, filename, revision=revision, endpoint=_endpoint())
        get_hf_file_metadata(address, timeout=10, endpoint=_endpoint())
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # the HTTP library under it has changed its name and its errors before
        raise _offline(name, False) from error


def _endpoint() -> str | None:
    # Read at call time: huggingface_hub reads it once, when it is imported.
    return os.environ.get("HF_ENDPOINT") or None


def fetch_weights(repository: str, *, name: str, offline: bool, filename: str | None = None) -> Found:
    """Get the weights of a hub repository: safetensors where there are any. Arguments and errors as `fetch`."""
    names = (filename,) if filename and filename.endswith(".safetensors") else WEIGHT_FILES
    problem: Exception | None = None
    for candidate in names:
        try:
            return fetch(repository, candidate, name=name, offline=offline)
        except (BadWeights, Offline) as error:
            problem = problem or error
            if isinstance(error, Offline) and not offline:
                break
    assert problem is not None
    raise problem


def fetch_url(url: str, *, name: str, offline: bool) -> Found:
    """Get a weight file by its address, checked against the hash in its name. Errors as `fetch`."""
    target = folder() / "checkpoints" / Path(urlparse(url).path).name
    if not target.is_file():
        if offline:
            raise _offline(name, offline)
        _download(url, target, name)
    return Found(target, sha256_file(target))


def has_url(url: str) -> bool:
    """Tell whether the file of an address was downloaded."""
    return (folder() / "checkpoints" / Path(urlparse(url).path).name).is_file()


def repositories() -> set[str]:
    """Get the names "OWNER/NAME" of hub repositories whose weights are here."""
    found = set()
    for place in folder().glob("models--*"):
        if any(True for name in WEIGHT_FILES for _ in place.glob(f"snapshots/*/{name}")):
            found.add("/".join(place.name.split("--")[1:]))
    return found


def _download(url: str, target: Path, name: str) -> None:
    import torch.hub

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.load_state_dict_from_url(
            url, model_dir=str(target.parent), progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except OSError as error:
        raise _offline(name, False) from error
    except RuntimeError as error:
        target.unlink(missing_ok=True)
        raise BadWeights(f"the download is damaged ({error})", where=name, do="Try again.") from error


def _offline(name: str, forbidden: bool) -> Offline:
    why = "the network is forbidden (--offline)" if forbidden else "the network cannot be reached"
    return Offline(
        f"the weights are not in {folder()} and {why}",
        where=name,
        do="Run once with the network, or bring the file here and use file:PATH.safetensors,arch=NAME.",
    )
