"""What programs compute: masks, measurements, words and images, with their provenance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.vp_model.program_cases import (
    CHANGE,
    MODEL,
    PROGRAMS,
    TARGETS,
    VOLUMES,
    Box,
    BoxVision,
    make_environment,
    make_images,
)
from vp_model.imaging.intensity import Image
from vp_model.outcome import InputVolume, Outcome, Step
from vp_model.program.environment import Limits, ProgramEnvironment, StepResult, Target, initial_known, region_targets
from vp_model.program.errors import ProgramError
from vp_model.program.inspection import inspect_program
from vp_model.program.results import build_outcome


def run(
    code: str, boxes: Mapping[str, Box] | None = None, environment: ProgramEnvironment | None = None
) -> tuple[Outcome, StepResult]:
    environment = environment or make_environment(boxes)
    result = environment.step(code)
    return build_outcome(environment, "prompt", [Step(code, result.output, result.error)], MODEL), result


def values(outcome: Outcome) -> dict[str, float]:
    return {measurement.name: measurement.value for measurement in outcome.measurements}


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_target_programs_run_to_their_end(program: str) -> None:
    outcome, result = run(program)
    assert result.error == ""
    assert outcome.status == ("refused" if "refuse(" in program else "answered")


def test_volume_change_names_both_sessions_and_their_masks() -> None:
    boxes: dict[str, Box] = {
        "left hippocampus": ((-10, 0, 0), (-4, 6, 4)),
        "left hippocampus@v3": ((-10, 0, 0), (-4, 6, 8)),
    }
    outcome, result = run(CHANGE, boxes)
    assert result.error == ""
    assert outcome.task == "volume change"
    assert outcome.structures == (("hippocampus", "left"),)
    volumes = [m.value for m in outcome.measurements if m.name == "volume"]
    assert volumes == pytest.approx([6 * 6 * 4 / 1000, 6 * 6 * 8 / 1000])
    change = next(m for m in outcome.measurements if m.name == "volume change")
    assert change.value == pytest.approx(6 * 6 * 4 / 1000)
    assert (change.unit, change.structure, change.side) == ("ml", "hippocampus", "left")
    assert change.visits == ("2024-03-01", "2025-03-01")
    assert change.visit == "2025-03-01"
    assert change.masks == ("mask-1", "mask-2", "mask-3")
    assert values(outcome)["relative volume change"] == pytest.approx(100)
    yearly = next(m for m in outcome.measurements if m.name == "annual volume change")
    assert yearly.unit == "ml/a"
    assert yearly.value == pytest.approx(change.value, rel=0.01)


def test_masks_lie_on_each_input_of_the_session_in_the_order_given() -> None:
    outcome, _ = run('show(segment("brainstem", v1<MOD>, v2<MOD>, v3<MOD>))')
    assert [(mask.identifier, mask.volume, mask.visit, mask.session) for mask in outcome.masks] == [
        ("mask-1", "v1", "2024-03-01", 0),
        ("mask-2", "v2", "2024-03-01", 0),
        ("mask-3", "v3", "2025-03-01", 1),
    ]
    images = make_images()
    for mask in outcome.masks:
        assert mask.voxels.shape == images[mask.volume].voxels.shape
        assert np.array_equal(mask.world, images[mask.volume].world)


def test_a_session_takes_the_maximum_over_its_volumes() -> None:
    boxes: dict[str, Box] = {
        "brainstem@v1": ((-3, -3, -4), (0, 3, 4)),
        "brainstem@v2": ((0, -3, -4), (3, 3, 4)),
    }
    outcome, _ = run('roi = segment("brainstem", v1<MOD>, v2<MOD>)\nshow(roi)\nreport("volume", volume(roi))', boxes)
    assert values(outcome)["volume"] == pytest.approx(6 * 6 * 8 / 1000)
    assert np.array_equal(outcome.masks[0].voxels, outcome.masks[1].voxels)


def test_a_paired_structure_without_a_side_gives_two_masks_and_one_volume() -> None:
    environment = make_environment()
    modulations = np.arange(64, dtype=np.float32).reshape(2, 32)
    code = 'roi = segment("hippocampus", v1<MOD>, v2<MOD>)\nshow(roi)\nreport("volume", volume(roi))\n'
    result = environment.step(code, modulations)
    outcome = build_outcome(environment, "", [Step(code)], MODEL)
    assert result.error == ""
    vision = environment.state.vision
    assert isinstance(vision, BoxVision)
    assert [(name, volumes) for name, volumes, _ in vision.calls] == [
        ("left hippocampus", ("v1", "v2")),
        ("right hippocampus", ("v1", "v2")),
    ]
    assert all(np.array_equal(given, modulations) for _, _, given in vision.calls)
    assert [(mask.side, mask.volume, mask.label) for mask in outcome.masks] == [
        ("left", "v1", "left hippocampus"),
        ("left", "v2", "left hippocampus"),
        ("right", "v1", "right hippocampus"),
        ("right", "v2", "right hippocampus"),
    ]
    (measurement,) = outcome.measurements
    assert (measurement.structure, measurement.side, len(measurement.masks)) == ("hippocampus", "both", 4)
    assert measurement.value == pytest.approx(sum(m.voxels.sum() * 2 for m in outcome.masks if m.volume == "v1") / 1000)
    assert outcome.structures == (("hippocampus", "both"),)


def test_the_kth_marker_takes_the_kth_modulation() -> None:
    environment = make_environment()
    modulations = np.arange(96, dtype=np.float32).reshape(3, 32)
    code = 'a = segment("brainstem", v3<MOD>)\nb = segment("brainstem", v1<MOD>, v2<MOD>)\n'
    assert environment.step(code, modulations).error == ""
    vision = environment.state.vision
    assert isinstance(vision, BoxVision)
    assert np.array_equal(vision.calls[0][2], modulations[:1])
    assert np.array_equal(vision.calls[1][2], modulations[1:])
    assert "2 <MOD>" in environment.step(code.split("\n")[1], modulations).error


def test_names_persist_and_printed_text_comes_back() -> None:
    environment = make_environment()
    assert environment.step('roi = segment("brainstem", v1<MOD>)\nsize = volume(roi)').error == ""
    result = environment.step('print(size)\nprint(f"{size:.1f} in {roi}")\nprint(visits(roi))')
    assert result.output == "0.29 ml\n0.3 ml in brainstem\n[2024-03-01]"


def test_an_error_names_its_line_and_keeps_what_came_before() -> None:
    environment = make_environment()
    result = environment.step('roi = segment("brainstem", v1<MOD>)\nprint("before")\nwhen = visits(roi)[3]\nx = 1')
    assert result.error == "line 3: The list has 1 elements; there is none with index 3."
    assert result.output == "before"
    assert set(environment.types) == {"v1", "v2", "v3", "roi"}
    assert environment.step("print(roi)").output == "brainstem"


def test_encodings_come_back_in_order() -> None:
    result = make_environment().step("encode(v1<MOD>)\nencode(v2<MOD>, v3<MOD>)")
    assert [encoding.shape for encoding in result.encodings] == [(1, 8), (2, 8)]


def test_a_refusal_ends_the_program_and_gives_a_reason_for_people() -> None:
    environment = make_environment()
    code = 'refuse("missing session")\nreport("volume", volume(segment("brainstem", v1<MOD>)))'
    assert environment.step(code).refused
    outcome = build_outcome(environment, "", [Step(code)], MODEL)
    assert (outcome.status, outcome.measurements) == ("refused", ())
    assert "session" in outcome.reason
    assert environment.step("x = 1").refused


def test_an_empty_region_is_reported_in_words_not_as_a_crash() -> None:
    code = """\
roi = segment("white matter lesion", v1<MOD>)
show(roi)
report("volume", volume(roi))
report("left-right extent", extent(roi, "left-right"))
report("bounding box", bounding_box(roi))
report("longest diameter", longest_diameter(roi))
report("surface area", surface_area(roi))
report("center of mass", center_of_mass(roi))
report("mean intensity", mean_intensity(roi, v1))
report("intensity difference", mean_intensity(roi, v1) - mean_intensity(surrounding(roi, 5), v1))
report("relative volume change", percent_change(volume(roi), volume(roi)))
report("volume asymmetry", asymmetry(volume(roi), volume(roi)))
report("volume ratio", ratio(volume(roi), volume(roi)))
report("count", count(components(roi)))
save(crop(v1, roi, 10))
save(remove(v1, fill(largest(roi))))
show(brighter_than(dilate(closing(roi, 3), 3), v1, median_intensity(roi, v1)))
"""
    outcome, result = run(code, {})
    assert result.error == ""
    assert outcome.masks == ()
    assert values(outcome) == {"volume": 0.0, "count": 0.0}
    assert next(m for m in outcome.measurements if m.name == "count").structure == "white matter lesion"
    assert [image.operation for image in outcome.derived] == ["remove"]
    said = [text.text for text in outcome.texts]
    assert "white matter lesion was not found (2024-03-01)." in said
    assert "left-right extent of white matter lesion: white matter lesion was not found." in said
    assert any("nothing to crop to" in text for text in said)


def test_intensities_agree_with_numpy_on_the_voxels_of_the_region() -> None:
    code = """\
roi = segment("brainstem", v1<MOD>)
bright = brighter_than(roi, v1, 4.5)
report("percent of region", percent_of(volume(bright), volume(roi)))
report("mean intensity", mean_intensity(bright, v1))
report("percentile intensity", percentile_intensity(roi, v1, 50))
report("SD intensity", sd_intensity(roi, v1))
show(bright)
"""
    outcome, result = run(code)
    assert result.error == ""
    levels = np.repeat([2.0, 3.0, 4.0, 5.0], 36)  # planes at z = -7, -5, -3 and -1 of the ramp
    assert values(outcome)["percent of region"] == pytest.approx(100 * np.mean(levels > 4.5))
    assert values(outcome)["mean intensity"] == pytest.approx(5)
    assert values(outcome)["percentile intensity"] == pytest.approx(np.percentile(levels, 50))
    assert values(outcome)["SD intensity"] == pytest.approx(levels.std())
    assert outcome.masks[0].label == "hyperintense part of brainstem"
    intensity = next(m for m in outcome.measurements if m.name == "mean intensity")
    assert (intensity.volume, intensity.masks) == ("v1", ("mask-1",))


def test_ct_intensities_have_hounsfield_units() -> None:
    images = make_images()
    volumes = [InputVolume("v1", "CT", "", 0)]
    environment = ProgramEnvironment(volumes, {"v1": images["v1"]}, BoxVision(images), TARGETS)
    outcome, _ = run('report("mean intensity", mean_intensity(segment("brainstem", v1<MOD>), v1))', None, environment)
    assert outcome.measurements[0].unit == "[hnsf'U]"
    assert outcome.measurements[0].visit == ""


def test_points_of_lengths_and_centres_are_in_world_coordinates() -> None:
    code = """\
roi = segment("brainstem", v1<MOD>)
report("left-right extent", extent(roi, "left-right"))
report("bounding box", bounding_box(roi))
report("center of mass", center_of_mass(roi))
report("longest diameter", longest_diameter(roi))
"""
    outcome, result = run(code)
    assert result.error == ""
    found = values(outcome)
    assert found["left-right extent"] == pytest.approx(6)
    assert (found["bounding box anterior-posterior"], found["bounding box superior-inferior"]) == pytest.approx((6, 8))
    assert [found[f"center of mass {axis}"] for axis in "xyz"] == pytest.approx([0, -6, -4])
    assert found["longest diameter"] == pytest.approx(np.sqrt(36 + 36 + 64))
    for measurement in outcome.measurements:
        assert measurement.points


def test_derived_images_name_their_source_and_masks() -> None:
    code = """\
roi = segment("brainstem", v1<MOD>)
show(roi)
save(crop(v1, roi, 4))
save(isolate(v1, roi))
"""
    outcome, result = run(code)
    assert result.error == ""
    crop, isolated = outcome.derived
    assert (crop.identifier, crop.operation, crop.source, crop.masks) == ("image-1", "crop", "v1", ("mask-1",))
    assert crop.voxels.shape == (14, 13, 8)  # cut at the border of the field of view
    assert np.allclose(crop.world[:3, 3], [-6.5, -11.5, -11])
    assert (isolated.voxels != isolated.voxels.min()).sum() <= outcome.masks[0].voxels.sum()


def test_arithmetic_keeps_units_and_refuses_those_that_do_not_fit() -> None:
    environment = make_environment()
    environment.step('roi = segment("brainstem", v1<MOD>)\nsize = volume(roi)\nwidth = extent(roi, "left-right")')
    assert "cannot be added" in environment.step("x = size + width").error
    assert "cannot be divided" in environment.step("x = size / width").error
    assert "cannot be multiplied" in environment.step("x = size * width").error
    assert "cannot be compared" in environment.step("if size > width:\n    print(1)").error
    assert 'report("volume") takes a quantity in ml' in environment.step('report("volume", width)').error
    assert environment.step("print((size + size) / 2)").output == environment.step("print(size)").output
    assert environment.step("print(size / size)").output == "1.00"
    assert environment.step("print(-size * 2 + size + size)").output == "0.00 ml"
    assert environment.step("print(size / 0)").error == ""
    assert "division by zero" in environment.step("print(1 / 0)").error


def test_a_measure_of_several_sessions_asks_for_one() -> None:
    environment = make_environment()
    environment.step('roi = segment("brainstem", v1<MOD>, v3<MOD>)')
    assert "at(roi, latest(roi))" in environment.step("x = volume(roi)").error
    assert (
        "segment it on a volume of that session"
        in environment.step("x = mean_intensity(at(roi, earliest(roi)), v3)").error
    )
    assert environment.step("x = mean_intensity(roi, v3) - mean_intensity(roi, v1)").error == ""
    assert environment.step('x = volume(at(roi, visit("2025-03-01")))').error == ""


def test_experimental_structures_say_so_on_masks_and_measurements() -> None:
    images = make_images()
    environment = ProgramEnvironment(VOLUMES, images, BoxVision(images), TARGETS, experimental={("brainstem", "")})
    outcome, _ = run('roi = segment("brainstem", v1<MOD>)\nshow(roi)\nreport("volume", volume(roi))', None, environment)
    assert outcome.masks[0].experimental
    assert outcome.measurements[0].experimental


def test_the_same_program_gives_the_same_identifiers() -> None:
    first, second = run(CHANGE)[0], run(CHANGE)[0]
    assert first.summary() == second.summary()


def test_volumes_of_one_session_may_have_different_grids() -> None:
    images = make_images()
    world = np.diag([2.0, 2.0, 1.0, 1.0])
    world[:3, 3] = [-11, -11, -11.5]
    images["v2"] = Image(np.zeros((12, 12, 24), np.float32), world)
    environment = ProgramEnvironment(VOLUMES, images, BoxVision(images), TARGETS)
    outcome, result = run(
        'roi = segment("brainstem", v1<MOD>, v2<MOD>)\nshow(roi)\nreport("volume", volume(roi))\n'
        'report("mean intensity", mean_intensity(roi, v2))\n',
        None,
        environment,
    )
    assert result.error == ""
    assert [mask.voxels.shape for mask in outcome.masks] == [(24, 24, 12), (12, 12, 24)]
    sizes = [mask.voxels.sum() * abs(np.linalg.det(mask.world)) / 1000 for mask in outcome.masks]
    assert sizes == pytest.approx([values(outcome)["volume"]] * 2, rel=0.35)


def test_a_failed_step_fails_the_outcome_with_its_reason() -> None:
    outcome, result = run("x = unknown_operation(v1)")
    assert outcome.status == "failed"
    assert outcome.reason == result.error
    assert "There is no operation unknown_operation" in outcome.reason


def test_targets_come_from_the_ontology() -> None:
    class Structure:
        def __init__(self, name: str, paired: bool) -> None:
            self.name, self.paired = name, paired

    class Ontology:
        def resolve(self, term: str, /) -> tuple[Structure, str] | None:
            side, _, rest = term.partition(" ")
            if side in ("left", "right"):
                return Structure(rest, True), side
            return (Structure(term, term == "thalamus"), "both") if term != "pancreas" else None

    found = region_targets(Ontology(), ["left hippocampus", "right hippocampus", "left caudate", "brainstem"])
    assert found["hippocampus"] == Target("hippocampus", ("left", "right"))
    assert found["left hippocampus"] == Target("hippocampus", ("left",))
    assert found["brainstem"] == Target("brainstem", ("",))
    assert "caudate" not in found
    assert set(region_targets(Ontology(), ["thalamus"])) == {"thalamus", "left thalamus", "right thalamus"}
    with pytest.raises(ValueError, match="pancreas"):
        region_targets(Ontology(), ["pancreas"])


def test_a_program_is_inspected_without_images() -> None:
    known = initial_known(VOLUMES, TARGETS)
    code = """\
task("volume comparison")
if count(components(segment("brainstem", v3<MOD>))) > 1:
    x = segment("hippocampus", v1<MOD>, v2<MOD>)
y = segment("left hippocampus", v1<MOD>)
"""
    found = inspect_program(code, known, TARGETS)
    assert found.task == "volume comparison"
    assert found.structures == (("brainstem", ""), ("hippocampus", "both"), ("hippocampus", "left"))
    assert found.volumes == ("v3", "v1", "v2")
    assert found.refusal == ""
    assert inspect_program('refuse("not understood")', known, TARGETS).refusal == "not understood"
    with pytest.raises(ProgramError, match="line 1: unknown is not defined"):
        inspect_program("show(unknown)", known, TARGETS)


def test_every_operation_runs_and_agrees_with_its_definition() -> None:
    code = """\
a = segment("brainstem", v1<MOD>)
b = dilate(a, 2)
lesion = segment("white matter lesion", v1<MOD>)
both = union(a, lesion)
report("volume", volume(intersection(b, a)))
report("volume", volume(difference(b, a)))
report("volume", volume(surrounding(a, 2)))
report("volume", volume(both))
report("volume", volume(larger_than(both, 100)))
report("volume", volume(smaller_than(both, 100)))
report("volume", volume(largest(both)))
report("volume", volume(erode(b, 2)))
report("volume", volume(opening(a, 0.5)))
report("volume", volume(closing(a, 2)))
report("volume", volume(fill(a)))
report("volume", volume(union(brighter_than(a, v1, 3), darker_than(a, v1, 3.5))))
report("volume ratio", ratio(volume(a), volume(lesion)))
report("count", count(components(a)))
report("count", count(visits(a)))
report("median intensity", median_intensity(a, v1))
report("surface area", surface_area(a))
save(remove(v1, a))
show(at(a, visit("2024-03-01")))
"""
    outcome, result = run(code)
    assert result.error == ""
    inside, lesion = 6 * 6 * 8 / 1000, 3 * 3 * 4 / 1000
    sizes = [m.value for m in outcome.measurements if m.name == "volume"]
    grown = sizes[1]
    assert sizes == pytest.approx(
        [inside, grown, grown, inside + lesion, inside, lesion, inside, inside, inside, inside, inside, inside]
    )
    # By definition: voxel centres within 2 mm of one of the 6 × 6 × 4 centres, on a grid of 1 × 1 × 2 mm.
    steps = [(x, y, z) for x in range(-2, 8) for y in range(-2, 8) for z in range(-1, 5)]
    gaps = [[max(0, -v, v - last) * size for v, last, size in zip(s, (5, 5, 3), (1, 1, 2), strict=True)] for s in steps]
    assert grown == pytest.approx((sum(np.linalg.norm(gap) <= 2 for gap in gaps) - 144) * 2 / 1000)
    found = values(outcome)
    assert found["volume ratio"] == pytest.approx(inside / lesion)
    assert found["median intensity"] == pytest.approx(3.5)
    assert [m.value for m in outcome.measurements if m.name == "count"] == [1, 1]
    assert (outcome.derived[0].voxels[outcome.masks[0].voxels] == 0).all()


def test_failures_of_the_vision_network_are_not_hidden_as_the_programs() -> None:
    class Broken(BoxVision):
        def segment(self, *arguments):  # type: ignore[no-untyped-def,override]
            raise RuntimeError("out of memory")

    images = make_images()
    environment = ProgramEnvironment(VOLUMES, images, Broken(images), TARGETS, limits=Limits())
    with pytest.raises(RuntimeError, match="out of memory"):
        environment.step('segment("brainstem", v1<MOD>)')
