"""The layout of Pascal VOC: one XML file an image, with its size and its objects.

Corners are taken as they are written, xmin to xmax as edges. The standard counts pixels from 1 and includes the last,
which would be xmin - 1 to xmax; most programs that write these files do not, and nothing in a file tells.

Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medgraft.errors import BadData, BadTable
from medgraft.samples.boxed import Annotated, Found, as_dataset, name_of
from medgraft.samples.boxes import Written, numbers_of
from medgraft.samples.dataset import Columns, DataSet, as_number, some
from medgraft.samples.near import IMAGE_FOLDERS, Near, unwrapped
from medgraft.samples.words import split_word
from medgraft.values import ImageRef

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_XML_FOLDERS = ("annotations", "annotation", "xmls", "xml", "labels")
_MAX_BYTES = 4 << 20
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Drawn(NamedTuple):
    """What one XML file says.

    Attributes:
        filename: of the image; may be empty.
        size: width and height in pixels, None where they are not given.
        boxes: its objects; difficult ones are ignored.
    """

    filename: str
    size: tuple[int, int] | None
    boxes: tuple[Written, ...]


class _Part(NamedTuple):
    """XML files that lie together, where their images may lie, the split they are of, and whether to look deeper."""

    xml: Path
    images: tuple[Path, ...]
    split: str | None = None
    deep: bool = False


class Voc:
    """A folder of XML files: in a folder Annotations beside JPEGImages or images, beside the images, or by split."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A folder with XML files whose first is an annotation."""
        if not data.is_dir():
            return None
        parts = _parts(unwrapped(data))
        first = next((path for part in parts for path in _documents(part)), None)
        if first is None or not _looks_voc(first):
            return None
        return 7, f"the folder holds boxes as Pascal VOC XML, such as {first.name}"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read every XML file; the lists of ImageSets give the splits.

        Raises:
            BadTable: the lists name an image twice, or too many boxes cannot be used.
            BadData: too many images or XML files are missing or cannot be understood.
        """
        root = unwrapped(data) if data.is_dir() else data.parent
        found = Found(root, "voc")
        parts = _parts(root) if data.is_dir() else []
        if not parts:
            raise BadData("no Pascal VOC XML is in this folder", where=data, do="Give the folder that holds them.")
        lists = {} if columns.split == "none" else _lists(root)
        listed: set[str] = set()
        aside: list[str] = []
        for part in parts:
            near = Near(part.images)
            for path in _documents(part):
                stem = path.relative_to(part.xml).with_suffix("").as_posix()
                name = stem if stem in lists else Path(stem).name
                if lists and name not in lists:
                    aside.append(stem)
                    continue
                listed.add(name)
                split = lists.get(name, part.split or split_word(stem.split("/")[0]))
                _read(path, stem, near, None if columns.split == "none" else split, found=found)
            _note_bare(near, found)
        for stem in lists:
            if stem not in listed:
                found.leave_out(stem, f"the list of {lists[stem]} in ImageSets names it, and it has no XML file")
        if aside:
            found.notes.append(f"{len(aside)} XML files are in no list of ImageSets and are not used ({some(aside)})")
        return as_dataset(found, limit_bad=limit_bad)


def read_voc(path: Path) -> Drawn:
    """Read one XML file.

    Raises:
        BadTable: it is no XML, no annotation, too large, or declares a document type or entities.
    """
    root = _tree(path)
    if root.tag != "annotation":
        raise BadTable(f"this is no annotation of Pascal VOC but <{root.tag[:40]}>", where=path)
    sides = [as_number(root.findtext(f"size/{name}")) for name in ("width", "height")]
    size = (int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None
    boxes = tuple(_box(item, f"object {number}") for number, item in enumerate(root.findall("object"), start=1))
    return Drawn((root.findtext("filename") or "").strip(), size, boxes)


def _box(item: Element, where: str) -> Written:
    label = (item.findtext("name") or "").strip()
    box = item.find("bndbox")
    if box is None:
        turned = "is a turned box (robndbox)" if item.find("robndbox") is not None else "has no bndbox"
        return Written(where, label, wrong=turned)
    corners, wrong = numbers_of([box.findtext(name) for name in _CORNERS], _CORNERS)
    difficult = as_number(item.findtext("difficult"))
    return Written(where, label, corners, bool(difficult), wrong)


def _tree(path: Path) -> Element:
    """Parse XML that declares nothing: entities can be made to fill the memory or to read other files."""
    from xml.etree.ElementTree import TreeBuilder
    from xml.parsers import expat

    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise BadTable(
            "the file declares a document type or entities, which is not read", where=path, do="Remove <!DOCTYPE ...>."
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadTable(f"the file is larger than {_MAX_BYTES >> 20} MiB", where=path)
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise BadTable(f"the file cannot be read: {error.strerror}", where=path) from error
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise BadTable(f"this is no XML ({error})", where=path) from error


def _read(path: Path, stem: str, near: Near, split: str | None, *, found: Found) -> None:
    try:
        drawn = read_voc(path)
    except BadTable as error:
        found.leave_out(path, error)
        return
    # The name inside is what its author's disk had: it often is that of another file.
    image = near.of_stem(stem) or near.of_stem(Path(stem).name) or near.named(drawn.filename)
    if image is None:
        found.leave_out(path, near.why(drawn.filename or stem))
        return
    found.images.append(Annotated(ImageRef(image), path, drawn.boxes, drawn.size, split))


def _note_bare(near: Near, found: Found) -> None:
    used = {one.ref.path for one in found.images}
    bare = [name_of(path, found.root) for path in near.images() if path not in used]
    if bare:
        found.notes.append(f"{len(bare)} images have no XML file that is used ({some(bare)})")


def _parts(root: Path) -> list[_Part]:
    """XML files in a folder of annotations; or beside their images in `root`; or in train, val and test."""
    folders = sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    beside = tuple(root / name for name in IMAGE_FOLDERS)
    for folder in folders:
        if folder.name.lower() in _XML_FOLDERS and any(folder.rglob("*.xml")):
            return [_Part(folder, (*beside, folder, root), deep=True)]
    if any(root.glob("*.xml")):
        above = tuple(root.parent / name for name in IMAGE_FOLDERS)
        return [_Part(root, (root, *beside, *above))]
    named = [(item, word) for item in folders if (word := split_word(item.name))]
    return [part._replace(split=word) for item, word in named for part in _parts(item)]


def _documents(part: _Part) -> Iterator[Path]:
    paths = part.xml.rglob("*.xml") if part.deep else part.xml.glob("*.xml")
    return (path for path in sorted(paths) if not path.name.startswith("."))


def _looks_voc(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"<annotation" in file.read(4096)


def _lists(root: Path) -> dict[str, str]:
    """Stem -> split by the text files in ImageSets/Main or ImageSets."""
    folders = [folder for folder in (root / "ImageSets" / "Main", root / "ImageSets") if folder.is_dir()]
    paths = [path for folder in folders for path in sorted(folder.glob("*.txt"))]
    words = {path: split_word(path.stem) for path in paths}
    if not any(word == "train" for word in words.values()):
        words |= {path: "train" for path in paths if path.stem == "trainval"}
    found: dict[str, str] = {}
    for path, word in words.items():
        if word is None or path.parent != folders[0] and any(p.parent == folders[0] and words[p] for p in paths):
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            stem = _stem(line)
            if found.get(stem, word) != word:
                raise BadTable(
                    f"{stem!r} is in the list of {found[stem]} and in that of {word}",
                    where=path,
                    do="Keep it in one of them.",
                )
            if stem:
                found[stem] = word
    return found


def _stem(line: str) -> str:
    """`a/b` of the line `a/b.jpg 1`; a name may hold dots."""
    name = line.strip().split("\t")[0]
    head, _, last = name.rpartition(" ")
    name = head.strip() if head and last in ("1", "-1", "0") else name
    ending = Path(name).suffix.lower()
    return name[: -len(ending)] if ending in (".jpg", ".jpeg", ".png", ".xml", ".bmp", ".tif", ".tiff") else name
