"""CT scans of the chest in HU, with none to six nodules of the lung; one scan a patient."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import bronchial, middle, nodules, scanner, skeleton, space, trunk
from medgraft.phantoms.case import Case, Nodule
from medgraft.phantoms.space import Grid
from medgraft.seeds import generator, permutation
from medgraft.values import Boxes

ANATOMY = ("background", "body", "right_lung", "left_lung", "vessel", "airway", "heart", "bone")
SIZE = 192
_BLOCK = 10
_CLEAR = 2  # scans of a block without nodules
_PLACES = 1000  # pieces of each lung that each tree feeds


def ct_nodules(index: int, *, seed: int = 0, size: int = SIZE) -> Case:
    """Get CT scan `index`: 192 x 192 x 96 voxels of about 1.8 x 1.8 x 3 mm, or finer ones on request.

    Args:
        index: which scan of the set; each can be made alone.
        seed: of the set.
        size: width and height in voxels; there are half as many slices.
    """
    block, rank = divmod(index, _BLOCK)
    clear = permutation(_BLOCK, seed=seed, purpose="phantom-ct-order", epoch=block)[rank] < _CLEAR
    rng = generator(seed, "phantom-ct", index=index)
    female, age = bool(rng.uniform() < 0.5), int(np.clip(rng.normal(63, 9), 35, 88))
    scan = scanner.protocol(rng)
    body = trunk.build(rng, female=female, age=age, contrast=scan.contrast)
    grid = trunk.grid_of(rng, body, size=size)
    shift = (float(rng.normal(0, 12)), float(rng.normal(-150, 25)), float(rng.normal(-250, 120)))
    room = trunk.lungs(generator(seed, "phantom-ct-lungs", index=index), grid, body)
    wanted = [] if clear else nodules.plan_nodules(generator(seed, "phantom-ct-plan", index=index))
    volume, chart, found = _painted(generator(seed, "phantom-ct-paint", index=index), grid, body, room, wanted)
    pixels = scanner.taken(generator(seed, "phantom-ct-scan", index=index), grid, volume, scan=scan, body=body)
    affine = grid.affine(shift)
    mask = _mask(grid, found)
    return Case(
        name=f"phantom_ct_{index + 1:04d}",
        pixels=pixels,
        label="nodule" if found else "clear",
        patient=f"phantom-{index + 1:04d}",
        lesions=tuple(_lesion(one, affine) for one in found),
        mask=mask,
        mask_names=("background", *["nodule"] * len(found)),
        covariates={
            "kernel": scan.kernel,
            "dose": scan.dose,
            "contrast": "yes" if scan.contrast else "no",
            "sex": "F" if female else "M",
            "age": str(age),
        },
        anatomy=chart,
        anatomy_names=ANATOMY,
        boxes=_boxes(mask, len(found)),
        spacing_mm=grid.spacing,
        affine=affine,
    )


def _painted(
    rng: np.random.Generator, grid: Grid, body: trunk.Build, room: trunk.Lungs, wanted: list[nodules.Plan]
) -> tuple[np.ndarray, np.ndarray, list[nodules.Painted]]:
    """Get HU before the scanner, the map of organs and the nodules."""
    volume = trunk.paint_wall(rng, grid, body, room=room)
    inside = volume > -400
    trunk.paint_belly(rng, grid, body, room=room, volume=volume)
    heart = middle.paint_middle(rng, grid, body, room=room, volume=volume)
    bone = skeleton.paint_bones(rng, grid, body, volume=volume)
    _parenchyma(rng, grid, body, room=room, volume=volume)
    vessels, airways = _trees(rng, grid, body, room)
    vessel = space.tubes(grid, vessels.points, radii=vessels.radii)
    vessel *= room.outside < 0
    space.mix(volume, max(body.blood, 30.0), vessel)
    lumen = space.tubes(grid, airways.points, radii=airways.radii)
    space.mix(volume, 30.0, space.tubes(grid, airways.points, radii=airways.radii * 1.18 + 0.45))
    space.mix(volume, trunk.AIR + 20, lumen)
    middle.paint_windpipe(grid, body, volume=volume)
    found = nodules.paint_nodules(rng, grid, wanted, room=room, tree=vessels, volume=volume)
    chart = inside.astype(np.uint8)
    lung = room.depth > 0
    chart[lung] = ANATOMY.index("right_lung")
    half = np.flatnonzero(grid.axes()[2].ravel() > 0)[0]
    chart[..., half:] += lung[..., half:]
    for name, share in (("vessel", vessel), ("airway", lumen), ("heart", heart), ("bone", bone)):
        chart[share > 0.5] = ANATOMY.index(name)
    return volume, chart, found


def _parenchyma(
    rng: np.random.Generator, grid: Grid, body: trunk.Build, *, room: trunk.Lungs, volume: np.ndarray
) -> None:
    """Paint lung without its vessels: denser behind, where it hangs; with fissures, bands and emphysema."""
    rough = space.noise(rng, grid, bump_mm=30, octaves=3, keep=0.7)
    holes = space.noise(rng, grid, bump_mm=14, octaves=2) if rng.uniform() < 0.25 else None
    bends = space.noise(rng, grid, bump_mm=70)
    mean, slope = float(rng.normal(-862, 14)), float(rng.uniform(25, 55))
    low, seam = float(rng.uniform(20, 190)), float(rng.uniform(90, 190))
    band, lift = (330.0 if rng.uniform() < 0.35 else 0.0), float(rng.uniform(10, 24))
    for part in grid.slabs():
        depth = room.depth[part]
        if depth.max() < -grid.voxel:
            continue
        z, y, _ = grid.axes(part)
        bumps = rough[part]
        air = np.float32(mean) + 9 * bumps + np.float32(slope) * (y / body.deep)
        behind = np.clip((y - 0.62 * body.deep) / 22, 0, 1) ** 2
        air += low / 14 * behind * np.clip(14 - depth, 0, 14)
        if holes is not None:  # emphysema, mostly of the upper parts
            air -= 110 * np.clip(holes[part] - 0.4, 0, 1) * np.clip(z / body.tall + 0.3, 0, 1)
        if band:  # collapsed lung over the diaphragm
            sheet = 1 - np.abs(z - room.dome - lift - 5 * bumps) / np.float32(0.9 * grid.spacing[0])
            air += band * np.clip(sheet, 0, 1) * np.clip(bumps - 0.2, 0, 1)
        air += np.float32(seam) * bronchial.fissures(grid, body, part=part, rough=bends[part])
        space.mix(volume[part], air, space.cover(depth, grid.voxel))


def _trees(
    rng: np.random.Generator, grid: Grid, body: trunk.Build, room: trunk.Lungs
) -> tuple[bronchial.Tree, bronchial.Tree]:
    """Get arteries and veins of both lungs as one, and the bronchi."""
    vessels, airways = [], []
    k = body.wide / 132
    for side in (-1, 1):
        gate = middle.hilum(body, side)
        out = np.array([-0.25, 0.1, side])
        targets = bronchial.fed(rng, grid, room=room, side=side, count=_PLACES)
        artery = bronchial.grow(rng, targets, root=gate, ahead=out, radius=7.4 * k)
        targets = bronchial.fed(rng, grid, room=room, side=side, count=_PLACES)
        vein = bronchial.grow(rng, targets, root=gate + [-22, -4, 0], ahead=out, radius=6.8 * k)
        vessels += [artery, vein]
        offset = np.array([0.25, 1.0, -0.35 * side])
        airways.append(bronchial.bronchi_beside(artery, offset=offset, thinnest=1.15))
    return _joined(vessels), _joined(airways)


def _joined(trees: list[bronchial.Tree]) -> bronchial.Tree:
    return bronchial.Tree(*(np.concatenate([getattr(tree, name) for tree in trees]) for name in _PARTS))


_PARTS = ("points", "radii", "generation")


def _mask(grid: Grid, found: list[nodules.Painted]) -> np.ndarray:
    """Number the voxels that are at least half nodule; the voxel in the middle is always one."""
    mask = np.zeros(grid.shape, np.uint8)
    for number, one in enumerate(found, start=1):
        mask[one.part][one.share >= 0.5] = number
        mask[tuple(round(k) for k in one.centre)] = number
    return mask


def _boxes(mask: np.ndarray, count: int) -> Boxes:
    """Get the edges of the boxes round the numbered voxels, x0, y0, z0, x1, y1, z1."""
    corners = []
    for number in range(1, count + 1):
        places = np.argwhere(mask == number)
        corners.append([*places.min(axis=0)[::-1], *(places.max(axis=0)[::-1] + 1)])
    return Boxes(np.array(corners, float).reshape(-1, 6), ("nodule",) * count)


def _lesion(one: nodules.Painted, affine: np.ndarray) -> Nodule:
    ras = (affine @ [*one.centre, 1.0])[:3]
    return Nodule(
        kind="nodule",
        row=one.centre[1],
        column=one.centre[2],
        radius=one.diameter / 2,
        slice=one.centre[0],
        ras_mm=(float(ras[0]), float(ras[1]), float(ras[2])),
        texture=one.plan.texture,
        margin=one.plan.margin,
        attachment=one.plan.attachment,
    )
