"""Labels and label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vp_model.volume import write_nifti
from vp_train.datasets.labels import load_labels
from vp_train.datasets.maps import HELD_OUT, load_subjects, split


def test_every_side_has_its_other_side() -> None:
    labels = load_labels()
    for index, name in enumerate(labels.names):
        other = labels.names[int(labels.swap[index])]
        assert name.removeprefix("left ").removeprefix("right ") == other.removeprefix("left ").removeprefix("right ")
        assert (name == other) == (not name.startswith(("left ", "right ")))


def test_targets_are_structures_brain_and_lesion() -> None:
    labels = load_labels()
    assert len(labels.targets) == 34
    assert labels.targets[:2] == ("left cerebral white matter", "right cerebral white matter")
    assert labels.targets[-2:] == ("brain", "white matter lesion")
    assert len(set(labels.targets)) == len(labels.targets)


def test_ids_of_a_label_map_become_the_structures_that_they_name() -> None:
    labels = load_labels()
    compact = labels.compact(np.array([17, 53, 136, 25, 999, 60000, -3]))
    assert [labels.names[index] for index in compact] == [
        "left hippocampus",
        "right hippocampus",
        "left lateral ventricle",
        "left cerebral white matter",
        "background",
        "background",
        "background",
    ]


def test_brain_holds_ventricles_but_no_fluid_around_it() -> None:
    labels = load_labels()
    compact = labels.compact(np.array([4, 24, 507]))
    assert labels.mask(compact, "brain").tolist() == [True, False, False]


def test_label_map_of_another_orientation_is_read_in_ras(tmp_path: Path) -> None:
    """The same head, stored with its first axis to the left, is the same subject."""
    ids = np.zeros((60, 60, 60), dtype=np.int16)
    ids[20:40, 20:40, 20:40] = 2
    ids[35:40, 20:40, 20:40] = 41
    write_nifti(tmp_path / "synthseg_01_seg.nii.gz", ids, np.eye(4))
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = 59
    write_nifti(tmp_path / "synthseg_19_seg.nii.gz", np.ascontiguousarray(ids[::-1]), mirrored)
    first, second = load_subjects(tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(first.labels, second.labels)
    again = load_subjects(tmp_path, tmp_path / "cache")[0]
    np.testing.assert_array_equal(again.labels, first.labels)
    assert (again.low, again.high) == (first.low, first.high)


def test_coarse_label_map_is_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "synthseg_01_seg.nii.gz", np.full((9, 9, 9), 2, dtype=np.int16), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(ValueError, match="1 mm are expected"):
        load_subjects(tmp_path)


def test_folder_without_label_maps_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="synthseg"):
        load_subjects(tmp_path)


def test_held_out_subjects_are_whole_and_apart(shared_data: Path, tmp_path: Path) -> None:
    for name in ("synthseg_20", *HELD_OUT[:1], "synthseg_13"):
        (tmp_path / f"{name}_seg.nii.gz").symlink_to(shared_data / "brains" / f"{name}_seg.nii.gz")
    training, held_out = split(load_subjects(tmp_path))
    assert [subject.name for subject in training] == ["synthseg_13"]
    assert [subject.name for subject in held_out] == list(HELD_OUT)
    labels = load_labels()
    present = set(np.unique(training[0].labels.numpy()))
    assert set(range(1, labels.structures + 1)) <= present
    # RAS: the left hemisphere lies at lower x.
    left, right = (
        np.argwhere(training[0].labels.numpy() == labels.index(f"{side} hippocampus"))[:, 0].mean()
        for side in ("left", "right")
    )
    assert left < right


def test_lesions_of_a_label_map_are_white_matter_that_can_be_lesioned() -> None:
    labels = load_labels()
    ids = np.array([25, 57, 2])
    marked = labels.compact_with_lesions(ids)
    assert (marked >= len(labels.names)).tolist() == [True, True, False]
    assert labels.compact(ids).tolist() == [labels.index("left cerebral white matter")] * 1 + [
        labels.index("right cerebral white matter"),
        labels.index("left cerebral white matter"),
    ]
