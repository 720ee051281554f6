"""What an image is called by its content, so that it is known again under any name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from medgraft.samples.facts import source_sha256
from medgraft.storage import sha256_file
from medgraft.values import ImageRef


def identify(refs: Sequence[ImageRef]) -> list[str]:
    """Get the identity of each image's content: sha256 of the file's bytes, and which image in the file.

    A file that cannot be opened gets an identity of its own, so that its decoding says why.
    """
    hashed: dict[Path, str] = {}  # for this call only, as files change; the rows of an array share a file

    def one(ref: ImageRef) -> str:
        try:
            if ref.files:
                return identity(ref, source_sha256(ref))
            path = ref.path.parent if _in_npz(ref) else ref.path
            if path not in hashed:
                hashed[path] = sha256_file(path)
            return identity(ref, hashed[path])
        except OSError:
            return f"unreadable:{ref}"

    if len(refs) < 64:
        return [one(ref) for ref in refs]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing lets go of the interpreter
        return list(threads.map(one, refs, chunksize=32))


def identity(ref: ImageRef, sha256: str) -> str:
    """Get the name of one image's content, given its file's sha256."""
    array = f"/{quote(ref.path.name)}" if _in_npz(ref) else ""
    return f"{sha256}{array}" if ref.index is None else f"{sha256}{array}#{ref.index}"


def _in_npz(ref: ImageRef) -> bool:
    """Whether the reference names an array inside an npz, as if that were a folder."""
    return ref.path.parent.suffix.lower() == ".npz" and ref.path.parent.is_file()
