"""Where named regions lie in a scene: as masks of the label map, and as points in its millimetres."""

from __future__ import annotations

import torch

from vp_model.ontology import load_ontology
from vp_train.datasets.labels import Labels
from vp_train.synthesis.scene import Scene

ROUNDS = 30
"""Of the search for the point of the scene that a deformation takes to a voxel; each brings it several times nearer."""
NEAR_VOXELS = 0.25
SIDES = ("left", "right")


def members(labels: Labels, region: str) -> tuple[int, ...]:
    """Compact labels of a region of the anatomy: a structure of a side, of both (`hippocampus`), the brain, or one that
    the ontology puts together from parts (`left basal ganglia`).

    Raises:
        ValueError: the label maps have no such region.
    """
    if region == "brain":
        return labels.brain
    if region in labels.names[1 : labels.lesion]:
        return (labels.index(region),)
    both = [labels.index(f"{side} {region}") for side in SIDES if f"{side} {region}" in labels.names]
    if both:
        return tuple(both)
    side, _, bare = region.partition(" ") if region.startswith(("left ", "right ")) else ("", "", region)
    structure = load_ontology().structures.get(bare)
    if structure is None or not structure.parts:
        raise ValueError(f"No region of the label maps is called {region!r}.")
    found: list[int] = []
    for part in structure.parts:
        sided = f"{side} {part}".strip()
        found += members(labels, sided if sided in labels.names else part)
    return tuple(found)


def region_mask(scene: Scene, labels: Labels, region: str) -> torch.Tensor:
    """(w, h, d) bool over the label map: the region by the name that it has in the scene (sides swap in a mirror)."""
    indices = members(labels, region)
    if scene.deformation.mirrored:
        indices = tuple(int(labels.swap[index]) for index in indices)
    chosen = torch.zeros(int(labels.plain.shape[0]), dtype=torch.bool)
    chosen[[index for index, plain in enumerate(labels.plain.tolist()) if plain in indices]] = True
    # A look-up of uint8 needs int32 indices, not int64: an eighth of the memory of a whole head is saved twice.
    return chosen.to(scene.subject.labels.device)[scene.subject.labels.to(torch.int32)]


def scene_points(scene: Scene, indices: torch.Tensor) -> torch.Tensor:
    """(n, 3) scene mm of voxels (n, 3) of the label map; those that no point of the scene is taken to are left out.

    Newton's method with the affine part of the deformation alone: displacements are smooth.
    """
    deformation = scene.deformation
    matrix = deformation.matrix.clone()
    matrix[:, 0] *= -1.0 if deformation.mirrored else 1.0
    back = torch.linalg.inv(matrix).to(indices.device)
    wanted = indices.float()
    points = (wanted - deformation.shift.to(indices.device)) @ back.T
    for _ in range(ROUNDS):
        error = wanted - _taken(scene, points)
        points = points + error @ back.T
        if float(error.abs().max()) < NEAR_VOXELS / 4:
            break
    return points[(wanted - _taken(scene, points)).abs().amax(dim=1) < NEAR_VOXELS]


def _taken(scene: Scene, points: torch.Tensor) -> torch.Tensor:
    return scene.deformation.voxels_at(points.T[:, :, None, None])[:, :, 0, 0].T
