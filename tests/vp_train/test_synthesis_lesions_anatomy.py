"""Anatomy beside label maps: with and without parcels."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.vp_train.heads import head
from tests.vp_train.lesion_heads import MIDDLE, head_and_anatomy, plain_labels, whole_head
from vp_model.ontology import load_ontology
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import load_subjects
from vp_train.synthesis.lesions.anatomy import Anatomy, anatomy_of, load_anatomies

LABELS = load_labels()
DATA = Path(os.environ.get("VP_SHARED_DATA", "../shared/data")) / "brains"


def aspect(anatomy: Anatomy, name: str) -> np.ndarray:
    return np.array([getattr(place, name) for place in anatomy.places])[anatomy.place.numpy()]


def test_every_voxel_of_the_brain_has_a_compartment_and_all_but_fluid_a_territory() -> None:
    subject, anatomy = head_and_anatomy()
    brain = np.isin(plain_labels(subject), LABELS.brain)
    compartment = aspect(anatomy, "compartment")
    assert (compartment[brain] != "").all()
    assert (aspect(anatomy, "lobe")[brain] != "").all()
    parenchyma = np.isin(compartment, ["white matter", "grey matter"])
    assert (aspect(anatomy, "territory")[parenchyma] != "").all()
    assert (aspect(anatomy, "territory")[~parenchyma] == "").all()


def test_compartments_follow_the_labels() -> None:
    subject, anatomy = head_and_anatomy()
    compact, compartment = plain_labels(subject), aspect(anatomy, "compartment")
    assert (compartment[compact == LABELS.index("third ventricle")] == "ventricle").all()
    assert (compartment[compact == LABELS.index("left thalamus")] == "grey matter").all()
    assert (compartment[compact == LABELS.index("cerebrospinal fluid")] == "extra-axial").all()
    assert (compartment[compact == LABELS.index("skin")] == "").all()


def test_left_is_at_low_x_and_midline_ventricles_have_no_side() -> None:
    subject, anatomy = head_and_anatomy()
    compact, side = plain_labels(subject), aspect(anatomy, "side")
    brainstem = compact == LABELS.index("brainstem")
    assert (side[:MIDDLE][brainstem[:MIDDLE]] == "left").mean() > 0.9
    assert (side[MIDDLE:][brainstem[MIDDLE:]] == "right").mean() > 0.9
    assert (side[compact == LABELS.index("third ventricle")] == "midline").all()


def test_without_parcels_lobes_lie_where_lobes_lie() -> None:
    _, anatomy = head_and_anatomy()
    lobe = aspect(anatomy, "lobe")
    centres = {name: np.argwhere(lobe == name).mean(axis=0) for name in np.unique(lobe) if name}
    assert centres["frontal lobe"][1] > centres["parietal lobe"][1] > centres["occipital lobe"][1]
    assert centres["temporal lobe"][2] < centres["parietal lobe"][2]
    assert centres["cerebellum"][2] < centres["occipital lobe"][2]


def test_depth_grows_from_the_surface_inwards() -> None:
    _, anatomy = head_and_anatomy()
    assert int(anatomy.dura[MIDDLE, MIDDLE, MIDDLE]) > 35
    inside = anatomy.dura > 0
    assert int(anatomy.dura[inside].min()) == 1
    assert set(aspect(anatomy, "compartment")[(anatomy.dura == 1).numpy()]) <= {"extra-axial", ""}


def test_a_head_without_fluid_or_cortex_still_has_all_it_needs() -> None:
    anatomy = anatomy_of(head())
    found = anatomy.shares("compartment", anatomy.place)
    assert set(found) == {"white matter", "grey matter", "ventricle", "extra-axial"}
    assert {"frontal lobe", "occipital lobe"} <= set(anatomy.shares("lobe", anatomy.place))


def test_names_are_the_ontologys() -> None:
    _, anatomy = head_and_anatomy()
    structures = load_ontology().structures
    for place in anatomy.places:
        assert place.lobe in (*structures, "")
        assert not place.territory or load_ontology().find(f"{place.territory} territory")


def saved(folder: Path, parcels: np.ndarray) -> None:
    """The made-up head as files, all of its parts as aseg ids."""
    ids = np.zeros(LABELS.plain.shape[0], dtype=np.int16)
    for index in range(1000, 0, -1):
        if index < len(LABELS.from_id):
            ids[LABELS.from_id[index]] = index
    ids[0] = 0
    compact = whole_head().labels.numpy()
    world = np.eye(4)
    nibabel.save(nibabel.Nifti1Image(ids[compact], world), folder / "synthseg_99_seg.nii.gz")
    nibabel.save(nibabel.Nifti1Image(parcels.astype(np.int16), world), folder / "synthseg_99_parc.nii.gz")


def test_parcels_decide_lobe_and_territory_and_are_cached(tmp_path: Path) -> None:
    compact = whole_head().labels.numpy()
    parcels = np.where(compact == LABELS.index("left cerebral cortex"), 1022, 0)  # postcentral: parietal, MCA
    parcels[compact == LABELS.index("right cerebral cortex")] = 2005  # cuneus: occipital, PCA
    saved(tmp_path, parcels)
    subject = load_subjects(tmp_path)[0]
    first = load_anatomies(tmp_path, [subject], tmp_path / "cache")[0]
    (tmp_path / "synthseg_99_parc.nii.gz").unlink()
    (tmp_path / "synthseg_99_seg.nii.gz").unlink()
    again = load_anatomies(tmp_path, [subject], tmp_path / "cache")[0]
    for anatomy in (first, again):
        lobe, territory = aspect(anatomy, "lobe"), aspect(anatomy, "territory")
        names = plain_labels(subject)
        for side, wanted, artery in (
            ("left", "parietal lobe", "middle cerebral artery"),
            ("right", "occipital lobe", "posterior cerebral artery"),
        ):
            cortex = names == LABELS.index(f"{side} cerebral cortex")
            assert (lobe[cortex] == wanted).all()
            assert (territory[cortex] == artery).all()
            white = names == LABELS.index(f"{side} cerebral white matter")
            assert (lobe[white] == wanted).mean() > 0.9, "white matter belongs to the nearest cortex"
    assert again.places == first.places
    torch.testing.assert_close(again.place, first.place)


def test_parcels_of_another_grid_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, np.zeros((5, 5, 5)))
    with pytest.raises(ValueError, match=r"synthseg_99_parc\.nii\.gz"):
        load_anatomies(tmp_path, load_subjects(tmp_path))


@pytest.mark.skipif(not DATA.exists(), reason="The shared label maps are not here.")
def test_parcels_of_a_real_head_give_lobes_of_plausible_size() -> None:
    from vp_train.datasets.maps import read_subject

    subject = read_subject(DATA / "synthseg_13_seg.nii.gz", LABELS)
    anatomy = load_anatomies(DATA, [subject])[0]
    cerebral = anatomy.place[anatomy.inside(anatomy.place, ("white matter", "grey matter"))]
    lobes = anatomy.shares("lobe", cerebral)
    assert 0.25 < lobes["frontal lobe"] < 0.42
    assert lobes["frontal lobe"] > lobes["temporal lobe"] > lobes["insular cortex"] > 0.005
    sides = anatomy.shares("side", cerebral)
    assert abs(sides["left"] - sides["right"]) < 0.03
    assert anatomy.shares("territory", cerebral)["middle cerebral artery"] > 0.35
