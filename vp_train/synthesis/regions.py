"""Where named regions lie in a scene: as masks of the label map, and as points in its millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from vp_model.ontology import load_ontology
from vp_train.datasets.labels import Labels
from vp_train.synthesis.boxes import label_boxes, union
from vp_train.synthesis.lesions.model import SyntheticLesion
from vp_train.synthesis.scene import Scene
from vp_train.synthesis.sessions import Session

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


def is_pathology(region: str) -> bool:
    structure = load_ontology().structures.get(region)
    return structure is not None and structure.kind == "pathology"


@dataclass(frozen=True, eq=False)
class Region:
    """Which voxels of a session's label map belong to something.

    Attributes:
        of_label: (all compact labels,) bool, in the label map's own sides.
        added, removed: (256,) bool, codes of the session's lesions that belong to it, or that have taken its place.
    """

    session: Session
    of_label: torch.Tensor
    added: torch.Tensor
    removed: torch.Tensor

    def at(self, places: torch.Tensor | tuple[slice, ...]) -> torch.Tensor:
        """bool: whether voxels belong to it, by their positions in the flattened label map, or those of a block."""
        labels, layer = self.session.scene.subject.labels, self.session.layer
        flat = isinstance(places, torch.Tensor)
        inside = _table(self.of_label, (labels.flatten() if flat else labels)[places])
        if layer is not None and bool((self.added | self.removed).any()):
            codes = (layer.codes.labels.flatten() if flat else layer.codes.labels)[places]
            inside = (inside & ~_table(self.removed, codes)) | _table(self.added, codes)
        return inside

    def voxels(self) -> torch.Tensor:
        """(n, 3) indices in the label map of all its voxels."""
        known = label_boxes(self.session.scene.subject)[: len(self.of_label)]
        boxes = [box for box, wanted in zip(known, self.of_label.tolist(), strict=True) if box is not None and wanted]
        if self.session.layer is not None and bool(self.added.any()):
            for first, lesion in zip(self.session.layer.first, self.session.layer.lesions, strict=True):
                if bool(self.added[first + 1 : first + len(lesion.parts) + 1].any()):
                    boxes.append(tuple(slice(a, a + n) for a, n in zip(lesion.origin, lesion.codes.shape, strict=True)))
        if not boxes:
            return torch.zeros(0, 3, dtype=torch.int64, device=self.of_label.device)
        low, high = union(boxes)
        found = self.at(tuple(slice(a, b) for a, b in zip(low, high, strict=True))).nonzero()
        return found + torch.tensor(low, device=found.device)


def _table(table: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return table.to(values.device)[values.to(torch.int32)]  # half the memory that int64 would take


def region_of(session: Session, labels: Labels, region: str) -> Region:
    """A region of the anatomy by the name that it has in the scene (sides swap in a mirror), without what a lesion has
    replaced; or a pathology: all lesions that are one, and components of its name.

    Raises:
        ValueError: there is no such region.
    """
    nothing = torch.zeros(len(labels.plain), dtype=torch.bool)
    none = torch.zeros(256, dtype=torch.bool)
    if is_pathology(region):
        return Region(session, nothing, _codes(session, lambda lesion: codes_of(lesion, region)), none)
    indices = members(labels, region)
    if session.scene.deformation.mirrored:
        indices = tuple(int(labels.swap[index]) for index in indices)
    chosen = torch.zeros(len(labels.names), dtype=torch.bool)
    chosen[list(indices)] = True
    removed = _codes(session, lambda lesion: range(1, len(lesion.parts) + 1) if lesion.replaces else ())
    return Region(session, chosen[labels.plain], none, removed)


def lesions_of(session: Session, labels: Labels, numbers: Sequence[int], component: str = "") -> Region:
    """Lesions by their numbers in a session, or their components of a name; nothing of those that are not there."""
    chosen = [session.lesions[number] for number in numbers]

    def codes(lesion: SyntheticLesion) -> Sequence[int]:
        if not any(lesion is one for one in chosen):
            return ()
        return lesion.masks.get(component, ()) if component else lesion.own

    nothing = torch.zeros(len(labels.plain), dtype=torch.bool)
    return Region(session, nothing, _codes(session, codes), torch.zeros(256, dtype=torch.bool))


def _codes(session: Session, codes_of: Callable[[SyntheticLesion], Sequence[int]]) -> torch.Tensor:
    """(256,) bool over the codes of a session's layer."""
    chosen = torch.zeros(256, dtype=torch.bool)
    if session.layer is not None:
        for number, lesion in enumerate(session.layer.lesions):
            chosen[session.layer.with_codes(number, codes_of(lesion))] = True
    return chosen


def codes_of(lesion: SyntheticLesion, pathology: str) -> Sequence[int]:
    """Codes of a lesion that is the pathology or a kind of it, and of its components of this name."""
    if pathology == lesion.facts.structure or pathology in load_ontology().ancestors(lesion.facts.structure):
        return lesion.own
    return lesion.masks.get(pathology, ())


def scene_points(scene: Scene, indices: torch.Tensor) -> torch.Tensor:
    """(n, 3) scene mm of voxels (n, 3) of the label map; those that no point of the scene is taken to are left out.

    Newton's method with the affine part of the deformation alone: displacements are smooth.
    """
    if not len(indices):
        return indices.float()
    if not len(indices):
        return indices.float()
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
