"""What a line of a program must agree with: read off the prompt and the study, without learning."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vp_model.agent import Agent
from vp_model.language.asked import asked_structures
from vp_model.language.held import Held
from vp_model.outcome import InputVolume

KNOWN = frozenset(
    {"thalamus", "brainstem", "caudate", "putamen", "dorsal striatum", "brain", "white matter lesion", "hippocampus"}
)
BOTH = frozenset({"left", "right"})
TWO_VISITS = (
    InputVolume("v1", "FLAIR", "2023-01-05", 0),
    InputVolume("v2", "T1", "2023-01-05", 0),
    InputVolume("v3", "T2", "2024-02-06", 1),
    InputVolume("v4", "T1", "2024-02-06", 1),
    InputVolume("v5", "T1+C", "2024-02-06", 1),
)


@pytest.mark.parametrize(
    ("prompt", "sides"),
    [
        ("volume of the left hippocampus", [{"left"}]),
        ("right-sided thalamus and the caudate of the left side", [{"right"}, {"left"}]),
        ("thalamus (r), brainstem", [{"right"}, BOTH]),
        ("caudate in the left hemisphere, putamen", [{"left"}, BOTH]),
        ("left caudate right putamen", [{"left"}, {"right"}]),
        ("thalamus left caudate", [BOTH, BOTH]),
        ("is the left one larger: hippocampus", [BOTH]),
        ("both hippocampi", [BOTH]),
        ("left (L) caudate; thalamus of the right hemisphere", [{"left"}, {"right"}]),
        ("caudate (l); right putamen", [{"left"}, {"right"}]),
        ("left caudate + left and right putamen", [{"left"}, BOTH]),
        ("share of the left thalamus in both caudates", [{"left"}, BOTH]),
        ("caudate on the right versus left-sided putamen", [{"right"}, {"left"}]),
        ("caudate (r) and l thalamus", [{"right"}, {"left"}]),
        ("right-sided weakness. signal of the thalamus", [BOTH]),
        ("left arm numbness, volume of the right caudate", [{"right"}]),
        ("neglect on the left; how large is the putamen", [BOTH]),
        ("measure the left thalamus on both scans", [{"left"}]),
        ("compare the right caudate in both images", [{"right"}]),
        ("shrinkage of the caudate on the left (visual loss)", [{"left"}]),
        ("nothing but the right thalamus left", [{"right"}]),
        ("right thalamus left caudate", [{"right"}, {"left"}]),
    ],
)
def test_a_side_belongs_to_the_structure_beside_it_or_where_that_is_open_to_none(
    prompt: str, sides: list[set[str]]
) -> None:
    assert [set(item.sides) for item in asked_structures(prompt, KNOWN)] == [set(side) for side in sides]


def held(prompt: str, volumes: tuple[InputVolume, ...] = TWO_VISITS) -> Held:
    return Held(prompt, volumes, KNOWN)


def test_numbered_structures_are_those_of_the_prompt_in_its_order_and_on_their_sides() -> None:
    rules = held("outline the right hippocampus, the left caudate and the brainstem")
    first = 'roi_1 = segment("right hippocampus", v1<MOD>)'
    assert rules.agrees(first, ['task("segmentation")'])
    assert not rules.agrees(first.replace("right", "left"), ['task("segmentation")'])
    assert rules.agrees('roi_2 = segment("left caudate", v1<MOD>)', [first])
    assert not rules.agrees('roi_2 = segment("brainstem", v1<MOD>)', [first])


def test_a_numbered_structure_that_is_another_becomes_the_one_of_its_number() -> None:
    rules = held("outline the right hippocampus, the left caudate, the putamen and the brainstem")
    before = ['task("segmentation")', 'roi_1 = segment("right hippocampus", v1<MOD>)', "show(roi_1)"]
    caudate = 'roi_2 = segment("left caudate", v1<MOD>)'
    assert rules.mended('roi_2 = segment("brainstem", v1<MOD>)', before)[0] == caudate
    before += [caudate, "show(roi_2)", 'roi_3_left = segment("left putamen", v1<MOD>)']
    right = 'roi_3_right = segment("right putamen", v1<MOD>)'
    assert rules.mended('roi_3_right = segment("right hippocampus", v1<MOD>)', before)[0] == right


def test_a_program_begins_once() -> None:
    assert held("volume of the brainstem").agrees('task("volume analysis")', [])
    assert not held("volume of the brainstem").agrees('task("volume analysis")', ['task("volume analysis")'])


def test_parts_of_an_assembled_structure_may_be_numbered() -> None:
    one, two = 'roi_1 = segment("left caudate", v1<MOD>)', 'roi_2 = segment("left putamen", v1<MOD>)'
    assert held("volume of the left dorsal striatum").agrees(two, [one])
    assert held("volume of the left dorsal striatum in the brain").agrees(two, [one])
    assert not held("volume of the left dorsal striatum and the brainstem").agrees(two, [one])


def test_a_program_ends_only_when_it_has_come_to_all_that_is_asked_for() -> None:
    rules = held("volume of the hippocampus on the left, and of the brainstem")
    lines = ['roi_1 = segment("left hippocampus", v1<MOD>)', "show(roi_1)"]
    assert not rules.may_end(lines)
    assert rules.may_end([*lines, 'roi_2 = segment("brainstem", v1<MOD>)'])
    assert held("volume of the left hippocampus in the brain").may_end(lines)
    assert held("known white matter lesions: volume of the left hippocampus").may_end(lines)


def test_a_program_that_says_where_a_lesion_lies_need_not_find_the_places_that_are_named() -> None:
    lines = ['roi = segment("white matter lesion", v1<MOD>)', "show(roi)"]
    rules = held("does the white matter lesion sit in the thalamus or the brainstem")
    assert rules.may_end([*lines, "answer(lobe_of(roi), roi)"])
    beside = held("volume of the white matter lesion and the thalamus")
    assert not beside.may_end(lines) and beside.may_end([*lines, "answer(lobe_of(roi), roi)"])


@pytest.mark.requirement("Lesions can be selected by side, lobe, size and signal")
@pytest.mark.parametrize(
    ("prompt", "meant", "others"),
    [
        ("volume of lesions in the left frontal lobe", ["left frontal lobe"], ["frontal lobe", "left parietal lobe"]),
        ("right temporal white matter lesions", ["right temporal lobe"], ["left temporal lobe", "temporal lobe"]),
        ("lesions in the occipital lobe", ["occipital lobe"], ["left occipital lobe", "frontal lobe"]),
        ("infratentorial lesions on the left", ["infratentorial region"], ["brainstem", "supratentorial region"]),
        ("lesions of the brainstem", ["brainstem"], ["cerebellum"]),
    ],
)
def test_lesions_are_chosen_by_the_lobe_that_the_prompt_names(prompt: str, meant: list[str], others: list[str]) -> None:
    known = KNOWN | {"frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe", "cerebellum"}
    rules = Held(prompt, TWO_VISITS, known)
    before = ['task("volume analysis")', 'roi_all = segment("white matter lesion", v1<MOD>, v3<MOD>)']
    assert rules.agrees(before[1], before[:1])
    for lobe in (*meant, *others):
        line = f'roi = in_lobe(roi_all, "{lobe}")'
        assert rules.agrees(line, before) is (lobe in meant), lobe
        if lobe in others:
            assert rules.mended(line, before) == tuple(f'roi = in_lobe(roi_all, "{other}")' for other in meant)


@pytest.mark.parametrize(
    ("prompt", "region", "lobe"),
    [
        ("thalamic lesions, how many", "left thalamus", "thalamus"),
        ("brainstem lesions: number", "brainstem", "brainstem"),
        ("white matter lesions that are located in the right thalamus", "right thalamus", "right thalamus"),
    ],
)
def test_a_place_of_lesions_is_not_asked_for_itself_and_all_lesions_are_not_meant(
    prompt: str, region: str, lobe: str
) -> None:
    rules, task = held(prompt), ['task("volume analysis")']
    whole = 'roi_all = segment("white matter lesion", v1<MOD>, v3<MOD>)'
    for wrong in (f'roi = segment("{region}", v1<MOD>, v3<MOD>)', whole.replace("roi_all", "roi_1")):
        assert not rules.agrees(wrong, task) and whole in rules.mended(wrong, task)
    assert rules.agrees(whole, task)
    choice = f'roi = in_lobe(roi_all, "{lobe}")'
    assert not rules.agrees("show(roi_all)", [*task, whole]) and rules.agrees(choice, [*task, whole])
    assert choice in rules.mended("show(roi_all)", [*task, whole])


@pytest.mark.parametrize(
    "prompt", ["thalamus, white matter lesions: volume", "thalamus + lesions", "volume of the lesions and the thalamus"]
)
def test_a_structure_beside_lesions_in_a_list_is_asked_for_itself(prompt: str) -> None:
    rules = held(prompt)
    lines = [
        'task("volume analysis")',
        'roi_1_left = segment("left thalamus", v1<MOD>, v3<MOD>)',
        'roi_1_right = segment("right thalamus", v1<MOD>, v3<MOD>)',
        'roi_2 = segment("white matter lesion", v1<MOD>, v3<MOD>)',
    ]
    if "and" in prompt:
        lines = [lines[0], *(line.replace("roi_1", "roi_2") for line in lines[1:3]), lines[3].replace("roi_2", "roi_1")]
        lines = [lines[0], lines[3], *lines[1:3]]
    for number in range(1, 4):
        assert rules.agrees(lines[number], lines[:number]), lines[number]


def test_the_place_of_a_disease_that_cannot_be_found_changes_nothing_that_is_asked_for() -> None:
    rules, task = held("infarct in the thalamus; volume of the left hippocampus"), ['task("volume analysis")']
    line = 'roi = segment("left hippocampus", v1<MOD>, v3<MOD>)'
    assert rules.agrees(line, task)
    assert isinstance(rules.agrees("show(roi)", [*task, line.replace("roi", "roi_all")]), bool)
    lesions = held("white matter lesions in the thalamus")
    assert isinstance(lesions.agrees("show(x)", [*task, 'x_all = segment("left thalamus", v1<MOD>)']), bool)


def test_where_lesions_lie_is_asked_of_all_of_them() -> None:
    rules = held("are the lesions in the thalamus or in the brainstem")
    lines = ['task("location")', 'roi = segment("white matter lesion", v1<MOD>)', "show(roi)"]
    for number in (1, 2):
        assert rules.agrees(lines[number], lines[:number])


def test_lesions_are_chosen_by_the_signal_that_the_prompt_names() -> None:
    before = ['task("segmentation")', 'roi_all = segment("white matter lesion", v1<MOD>)']
    line = 'roi = with_signal(roi_all, around, "hyperintense", v1)'
    for word, other in (("hyperintense", "hypointense"), ("hypointense", "hyperintense")):
        rules = held(f"segment the {word} lesions")
        right = line.replace("hyperintense", word)
        assert rules.agrees(before[1], before[:1]) and rules.agrees(right, before)
        assert rules.mended(line.replace("hyperintense", other), before) == (right,)
        whole = before[1].replace("roi_all", "roi")
        assert not rules.agrees(whole, before[:1]) and before[1] in rules.mended(whole, before[:1])
    assert held("dark lesions, T1").agrees(line.replace("hyper", "hypo"), before)
    assert not held("volume of the isointense lesions").agrees(line, before)


def test_a_structure_without_a_side_is_segmented_on_both() -> None:
    rules = held("volume of the thalamus")
    line = 'roi = segment("left thalamus", v1<MOD>)'
    assert rules.mended(line, []) == ('left = segment("left thalamus", v1<MOD>)',)
    assert rules.agrees(line.replace("roi", "left"), [])
    assert not rules.may_end([line])
    assert rules.may_end([line.replace("roi", "left"), line.replace("roi", "right").replace('"left', '"right')])


def test_the_side_of_a_list_may_be_said_once() -> None:
    rules = held("volume of the right putamen and caudate")
    lines = [f'roi_{number} = segment("right {name}", v1<MOD>)' for number, name in ((1, "putamen"), (2, "caudate"))]
    assert rules.agrees(lines[1], lines[:1]) and rules.may_end(lines)


def test_a_word_that_may_be_a_structure_with_slips_leaves_structures_to_alpha() -> None:
    rules = held("outline the braxnstym, the left hippocampus")
    assert rules.agrees('roi_2 = segment("left hippocampus", v1<MOD>)', ['roi_1 = segment("brainstem", v1<MOD>)'])


def test_a_program_about_several_structures_does_not_begin_as_one_about_a_single_one() -> None:
    rules, line = held("segment the right hippocampus and the brainstem"), 'roi = segment("right hippocampus", v1<MOD>)'
    assert not rules.agrees(line, ['task("segmentation")'])
    assert rules.mended(line, ['task("segmentation")']) == ('roi_1 = segment("right hippocampus", v1<MOD>)',)


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("white matter lesions larger than 150 mm3", "150"),
        ("white matter lesions above 0.5 ml", "500"),
        ("white matter lesions below 2 cubic centimeters", "2000"),
        ("white matter lesions over 80 cubic millimeters", "80"),
    ],
)
def test_a_size_is_the_prompts_in_cubic_millimetres(prompt: str, size: str) -> None:
    rules, before = held(prompt), ['roi_all = segment("white matter lesion", v1<MOD>)']
    line = "roi = larger_than(roi_all, {})"
    assert rules.agrees(line.format(size), before)
    assert not rules.agrees(line.format("1500"), before)
    assert rules.mended(line.format("1500"), before) == (line.format(size),)


def test_sizes_that_the_prompt_does_not_name_are_left_to_alpha() -> None:
    assert held("large white matter lesions").agrees("roi = larger_than(roi_all, 1000)", [])


def test_a_date_is_the_prompts() -> None:
    rules = held("size of the brainstem on 2024-02-06")
    assert rules.agrees('when = visit("2024-02-06")', [])
    assert rules.mended('when = visit("2023-01-05")', []) == ('when = visit("2024-02-06")',)


ENHANCEMENT = ['task("enhancement")', 'roi = segment("brainstem", v3<MOD>, v4<MOD>, v5<MOD>)']
CHANGE = ['task("intensity change")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>, v3<MOD>, v4<MOD>, v5<MOD>)']


def test_a_volume_at_the_date_of_one_session_is_of_that_session_alone() -> None:
    rules = held("volume of the brainstem on 5 January 2023")
    before = ['task("volume analysis")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>, v3<MOD>)']
    chosen = 'when = visit("2023-01-05")'
    for line in ("show(roi)", "for when in visits(roi):", "when = latest(roi)"):
        assert not rules.agrees(line, before)
        assert rules.mended(line, before) == (chosen,)
    assert rules.agrees("show(at(roi, when))", [*before, chosen])
    assert rules.agrees("show(roi)", ['task("segmentation")', before[1]])
    assert held("volume of the brainstem").agrees("show(roi)", before)


@pytest.mark.parametrize(
    ("prompt", "chosen"),
    [
        ("brainstem volume on the first scan", "when = earliest(roi)"),
        ("how large is the brainstem on the most recent mri scan", ""),
        ("how large is the brainstem at the latest visit", "when = latest(roi)"),
        ("brainstem volume compared with the first scan", ""),
        ("volume of the brainstem in the present scan", ""),
        ("how has the brainstem changed since the last scan", ""),
        ("brainstem volume", ""),
    ],
)
def test_a_volume_of_the_first_or_the_last_session_is_of_that_alone(prompt: str, chosen: str) -> None:
    before = ['task("volume analysis")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>, v3<MOD>)']
    assert held(prompt).agrees("show(roi)", before) is not bool(chosen)
    assert held(prompt).mended("show(roi)", before) == ((chosen,) if chosen else ())


def test_the_whole_brain_is_asked_for_where_the_brain_may_be_said_in_passing() -> None:
    named = ['task("segmentation")', 'roi_2 = segment("brainstem", v1<MOD>)', "show(roi_2)"]
    assert held("the brainstem in the brain images").may_end([line.replace("_2", "") for line in named])
    assert not held("brain parenchyma and brainstem").may_end(named)


def test_the_date_of_no_session_is_a_missing_session() -> None:
    before = ['task("volume analysis")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>, v3<MOD>)']
    assert held("brainstem volume on 2019-01-05").impossible('when = visit("2023-01-05")', before) == "missing session"
    assert not held("brainstem volume on 2023-01-05").impossible('when = visit("2023-01-05")', before)


@pytest.mark.parametrize(("kind", "missing"), [("CT", False), ("T1", True)])
def test_hounsfield_units_need_ct_and_nothing_else(kind: str, missing: bool) -> None:
    rules = held("Hounsfield units of the brainstem", (InputVolume("v1", kind, "2023-01-05", 0),))
    assert rules.agrees('refuse("missing image")', []) is missing


def test_hounsfield_units_are_read_from_ct() -> None:
    volumes = (InputVolume("v1", "T1", "2023-01-05", 0), InputVolume("v2", "CT", "2023-01-05", 0))
    before = ['task("intensity analysis")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>)']
    line = 'report("mean intensity", mean_intensity(roi, {0}))'
    assert held("HU of the brainstem", volumes).mended(line.format("v1"), before) == (line.format("v2"),)
    assert held("signal of the brainstem", volumes).agrees(line.format("v1"), before)


@pytest.mark.parametrize(
    ("prompt", "task", "fits"),
    [
        ("where is the brainstem", "location", False),
        ("where are the white matter lesions", "location", True),
        ("where is the thalamus relative to the brainstem", "location", True),
        ("is the brainstem symmetric", "volume comparison", False),
        ("is the thalamus symmetric", "volume comparison", True),
        ("difference of thalamus volume between 2023 and 2024", "volume comparison", False),
        ("asymmetry of the thalamus in 2023 and 2024", "volume comparison", True),
        ("mean adc of the thalamus", "diffusion restriction", False),
        ("is the thalamus restricted", "diffusion restriction", True),
        ("dwi and adc of the thalamus", "diffusion restriction", True),
        ("the brainstem, how large", "relative volume analysis", False),
        ("how much of the brainstem is hyperintense", "relative volume analysis", True),
        ("the brainstem, how large", "volume analysis", True),
    ],
)
def test_a_task_needs_as_many_structures_as_it_is_about(prompt: str, task: str, fits: bool) -> None:
    assert held(prompt).agrees(f'task("{task}")', []) is fits


def test_a_second_structure_that_the_prompt_does_not_name_is_not_understood() -> None:
    before = ['task("extent analysis")', 'first = segment("left thalamus", v1<MOD>)']
    line = 'second = segment("brain", v1<MOD>)'
    assert held("how far is the left thalamus from the ventricle").impossible(line, before) == "not understood"
    assert held("how far is the left thalamus from the brain").impossible(line, before) == ""


def test_the_same_is_done_to_every_volume_in_their_order() -> None:
    rules = held("remove the brainstem")
    before = ['task("tissue removal")', 'roi = segment("brainstem", v1<MOD>, v2<MOD>)']
    first, second = "save(remove(v1, roi))", "save(remove(v2, roi))"
    assert rules.mended("save(remove(v2, roi))", before) == (first,)
    assert rules.mended("save(isolate(v2, roi))", [*before, first]) == (second,)
    assert rules.agrees(second, [*before, first])
    assert not rules.may_end([*before, first])
    assert rules.may_end([*before, first, second])


@pytest.mark.parametrize(
    ("prompt", "written", "margins"),
    [
        ("crop 20 mm beyond the brainstem", 10, [20]),
        ("crop to the brainstem", 15, [10]),
        ("crop to the white matter lesions within 3 mm of the cortex", 15, [10]),
        ("crop with 1.5 cm around the brainstem", 10, [15]),
        ("crop the brainstem, margin 8", 12, [10, 8]),
    ],
)
def test_a_margin_is_the_prompts(prompt: str, written: int, margins: list[int]) -> None:
    before = ['task("image cropping")', 'roi = segment("brainstem", v1<MOD>)']
    expected = tuple(f"save(crop(v1, roi, {margin}))" for margin in margins)
    assert held(prompt).mended(f"save(crop(v1, roi, {written}))", before) == expected
    assert all(held(prompt).agrees(line, before) for line in expected)


def test_enhancement_is_measured_from_the_image_without_contrast_agent_to_the_one_with_it() -> None:
    rules = held("does the brainstem enhance")
    before = "before = ratio(mean_intensity(roi, {0}), mean_intensity(around, {0}))"
    assert rules.agrees(before.format("v4"), ENHANCEMENT)
    assert rules.mended(before.format("v5"), ENHANCEMENT) == (before.format("v4"),)
    after = before.replace("before", "after")
    assert rules.mended(after.format("v4"), ENHANCEMENT) == (after.format("v5"),)


def test_a_change_of_intensity_is_one_between_images_of_one_sequence_type() -> None:
    rules = held("did the signal of the brainstem change")
    first = "before = mean_intensity(at(roi, earliest(roi)), {})"
    assert rules.mended(first.format("v1"), CHANGE) == (first.format("v2"),)
    later = "after = mean_intensity(at(roi, latest(roi)), {})"
    assert rules.mended(later.format("v3"), [*CHANGE, first.format("v2")]) == (later.format("v4"),)


def test_what_the_study_lacks_makes_a_line_impossible() -> None:
    rules = held("did the signal of the brainstem change", (TWO_VISITS[0], TWO_VISITS[2]))
    before = ['task("intensity change")', 'roi = segment("brainstem", v1<MOD>, v3<MOD>)']
    assert rules.impossible("before = mean_intensity(at(roi, earliest(roi)), v1)", before) == "missing image"
    assert rules.impossible("before = volume(at(roi, earliest(roi)))", before) == ""
    assert held("did the signal of the brainstem change").impossible(CHANGE[1], CHANGE[:1]) == ""


def test_where_a_disease_is_named_no_other_is_segmented() -> None:
    rules = Held("how large is the glioma", TWO_VISITS, KNOWN | {"glioma", "edema"})
    line = 'roi = segment("{}", v1<MOD>)'
    assert rules.agrees(line.format("glioma"), [])
    assert rules.mended(line.format("edema"), []) == (line.format("glioma"),)
    assert rules.agrees('roi_half = segment("left cerebral white matter", v1<MOD>)', []), "anatomy says where"


def test_a_disease_is_segmented_as_often_as_it_is_named() -> None:
    rules = Held("how far is the glioma from the ventricle", TWO_VISITS, KNOWN | {"glioma"})
    first = 'first = segment("glioma", v1<MOD>)'
    assert rules.agrees(first, [])
    assert not rules.agrees(first.replace("first", "second"), [first])


def test_a_program_that_segments_nothing_that_is_asked_for_goes_on() -> None:
    rules = Held("how large is the glioma", TWO_VISITS, KNOWN | {"glioma"})
    assert not rules.may_end(['roi = segment("left thalamus", v1<MOD>)'])


def test_intensities_are_read_from_an_image_of_the_sequence_type_that_is_named() -> None:
    rules, before = held("signal of the brainstem on the t2"), ['task("signal intensity")']
    line = "inside = mean_intensity(roi, {0}) + sd_intensity(roi, {0})"
    assert rules.agrees(line.format("v3"), before)
    assert rules.mended(line.format("v4"), before) == (line.format("v3"),)
    assert held("signal of the brainstem").agrees(line.format("v4"), before)


def test_a_session_is_missed_only_where_one_is_asked_for() -> None:
    assert not held("asymmetry of the hippocampus").agrees('refuse("missing session")', [])
    assert held("has the hippocampus changed").agrees('refuse("missing session")', [])
    assert held("size of the hippocampus on 2001-02-03").agrees('refuse("missing session")', [])


def test_a_disease_whose_name_begins_with_a_structure_asks_for_nothing() -> None:
    assert [item.name for item in asked_structures("hippocampal sclerosis: volume of the thalamus", KNOWN)] == [
        "thalamus"
    ]


def test_nothing_is_done_twice() -> None:
    assert not held("remove the brain").agrees("save(remove(v1, roi))", ["save(remove(v1, roi))"])
    assert held("remove the brain").agrees("save(remove(v2, roi))", ["save(remove(v1, roi))"])


@pytest.mark.parametrize(
    ("prompt", "unknown", "missing"),
    [
        ("volume of the left thalamus", False, False),
        ("volume of the pancreas", True, False),
        ("how are you", True, False),
        ("volume of the left thalamus on the ct", False, True),
        ("does the brainstem enhance", False, False),
        ("is diffusion restricted in the brainstem", False, True),
        ("mean hounsfield units of the brainstem", False, True),
        ("mean t1 intensity of the brainstem", False, False),
    ],
)
def test_refusals_need_something_unknown_or_an_image_that_may_be_missing(
    prompt: str, unknown: bool, missing: bool
) -> None:
    assert held(prompt).agrees('refuse("unknown structure")', []) is unknown
    assert held(prompt).agrees('refuse("missing image")', []) is missing


@pytest.mark.requirement("a line that contradicts its prompt is written anew")
def test_alpha_writes_a_contradicting_line_anew() -> None:
    """The prompt says another size than the one that the writer is held to, so that every line of α contradicts it."""
    agent = Agent.load()
    volumes = (InputVolume("v1", "FLAIR", "2024-03-01", 0),)
    prompt = "volume of the white matter lesions larger than 150 mm3"
    assert "larger_than(roi_all, 150)" in agent.plan(prompt, volumes).program
    other = Held(prompt.replace("150", "420"), volumes, agent.checkpoint.served)
    written = agent.write(prompt, volumes, other)
    assert "larger_than(roi_all, 420)" in written.code
    assert written.modulations.shape == (written.code.count("<MOD>"), 32)


class Without(Held):
    """Held to the prompt, and against one line."""

    line = ""

    def agrees(self, line: str, before: Sequence[str]) -> bool:
        return line.strip() != self.line and super().agrees(line, before)


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("segment the left thalamus", 'task("segmentation")'),
        ("what is the mean t2 signal of the left thalamus", 'refuse("missing image")'),
    ],
)
def test_a_first_line_that_contradicts_the_prompt_becomes_the_next_best_one(prompt: str, line: str) -> None:
    agent = Agent.load()
    volumes = (InputVolume("v1", "T1", "2024-03-01", 0),)
    assert agent.plan(prompt, volumes).program.splitlines()[0] == line
    held = Without(prompt, volumes, agent.checkpoint.served)
    held.line = line
    written = agent.write(prompt, volumes, held).code
    assert written.startswith(('task("', 'refuse("')) and not written.startswith(line)
    assert written.startswith('task("') or line.startswith("task")


@pytest.mark.parametrize(
    ("prompt", "line", "agrees"),
    [
        ("cephalocaudal length of the brainstem", 'x = extent(roi, "superior-inferior")', True),
        ("cephalocaudal length of the brainstem", 'x = extent(roi, "anterior-posterior")', False),
        ("length of the left/right putamen", 'x = extent(roi, "superior-inferior")', True),
        ("the biggest plaque's longest axis", "roi = largest(roi_all)", True),
        ("the longest axis of the plaques", "roi = largest(roi_all)", False),
        ("plaques larger than 50 mm3", 'roi_all = segment("white matter lesion", v1<MOD>)', True),
        ("volume of the plaques", 'roi_all = segment("white matter lesion", v1<MOD>)', False),
        ("volume of the putamen on the latest scan", "when = latest(roi)", True),
        ("volume of the putamen on the present study", "when = latest(roi)", False),
    ],
)
def test_what_a_line_chooses_was_spoken_of(prompt: str, line: str, agrees: bool) -> None:
    assert held(prompt).agrees(line, ['task("extent analysis")']) is agrees


def test_a_direction_that_contradicts_the_prompt_becomes_the_prompts() -> None:
    line = 'before = extent(at(roi, earliest(roi)), "anterior-posterior")'
    mended = held("vertical extent of the brainstem").mended(line, ['task("extent change")'])
    assert mended == (line.replace("anterior-posterior", "superior-inferior"),)


@pytest.mark.parametrize(
    ("prompt", "agrees"),
    [
        ("where does the left caudate lie from the left putamen", True),
        ("where in the images are the left caudate and left putamen", False),
        ("where are the thalamus, caudate, putamen and brainstem", False),
        ("where in the brain are the plaques", True),
    ],
)
def test_a_place_is_that_of_a_lesion_or_of_one_structure_from_another(prompt: str, agrees: bool) -> None:
    assert held(prompt).agrees('task("location")', ()) is agrees


def test_the_brain_that_only_holds_the_lesions_is_not_related_to_them() -> None:
    line = 'first = segment("brain", v4<MOD>)'
    assert not held("where in the brain are the plaques").agrees(line, ['task("location")'])
    assert held("direction from the plaques to the brain").agrees(line, ['task("location")'])


@pytest.mark.parametrize(
    ("prompt", "agrees"),
    [
        ("is the caudate as large as the putamen", True),
        ("ratio of caudate to putamen", True),
        ("left caudate, left putamen, in terms of volume", False),
        ("left caudate as well as left putamen, volumes", False),
        ("how many a caudate would it take to fill the putamen", True),
    ],
)
def test_structures_of_a_list_are_compared_only_where_the_prompt_compares(prompt: str, agrees: bool) -> None:
    assert held(prompt).agrees('task("volume comparison")', ()) is agrees


def test_an_image_of_the_named_type_in_an_earlier_session_alone_is_missing() -> None:
    line = 'report("mean intensity", mean_intensity(roi, v1))'
    assert held("mean flair signal of the thalamus").impossible(line, ['task("intensity analysis")']) == "missing image"
    assert not held("mean t1 signal of the thalamus").impossible(line, ['task("intensity analysis")'])


@pytest.mark.parametrize(
    ("prompt", "line", "mended"),
    [
        ("maximum signal of the brainstem", 'report("mean intensity", mean_intensity(now, v4))', "maximum"),
        ("the greatest luminance of the brainstem", 'report("mean intensity", mean_intensity(now, v4))', "maximum"),
        ("lowest value in the brainstem", 'report("maximum intensity", max_intensity(roi, v4))', "minimum"),
        ("mean and maximum signal of the brainstem", 'report("mean intensity", mean_intensity(now, v4))', ""),
        ("signal of the greatest plaque", 'report("mean intensity", mean_intensity(now, v4))', ""),
    ],
)
def test_the_highest_or_the_lowest_intensity_is_reported_where_it_is_asked_for(
    prompt: str, line: str, mended: str
) -> None:
    before = ['task("intensity analysis")']
    found = held(prompt).mended(line, before)
    assert held(prompt).agrees(line, before) is not bool(mended)
    if mended:
        name = mended[:3]
        arguments = line.split("_intensity")[1]
        assert found == (f'report("{mended} intensity", {name}_intensity{arguments}',)


def test_an_extreme_is_looked_for_in_the_last_session() -> None:
    line = 'roi = segment("brainstem", v1<MOD>, v4<MOD>)'
    mended = held("peak signal of the brainstem").mended(line, ['task("intensity analysis")'])
    assert mended == ('roi = segment("brainstem", v3<MOD>, v4<MOD>, v5<MOD>)',)


def test_an_extreme_is_reported_once_and_nothing_else() -> None:
    before = ['task("intensity analysis")', 'report("maximum intensity", max_intensity(roi, v4))']
    assert not held("peak signal of the brainstem").mended('report("SD intensity", sd_intensity(roi, v4))', before)


@pytest.mark.parametrize(
    ("prompt", "may_refuse"),
    [
        ("what volume is occupied by the thalamus", False),
        ("what number of plaques does the participant have", False),
        ("mask of the thalamus", False),
        ("how many layers does the thalamus have", True),
        ("how many plaques are within the hippocampus", True),
        ("how many plaques are within the thalamus", False),
        ("why is the thalamus so large", True),
        ("is the large thalamus malignant", True),
        ("volume of the pancreas beside the thalamus", True),
    ],
)
def test_a_plain_question_for_a_size_or_a_number_is_understood(prompt: str, may_refuse: bool) -> None:
    assert held(prompt).agrees('refuse("not understood")', ()) is may_refuse


@pytest.mark.parametrize(
    ("prompt", "line", "mended"),
    [
        ("hyperintense share of the brainstem", "limit = mean_intensity(around, v4) - spread", "+ spread"),
        ("hypointense share of the brainstem", "part = brighter_than(roi, v4, limit)", "darker_than"),
    ],
)
def test_what_is_bright_is_not_taken_for_dark(prompt: str, line: str, mended: str) -> None:
    before = ['task("relative volume analysis")']
    assert not held(prompt).agrees(line, before)
    assert [mended in text for text in held(prompt).mended(line, before)] == [True]


def test_signal_is_named_as_the_modality_of_its_image_has_it() -> None:
    ct = (InputVolume("v1", "CT", "2023-01-05", 0),)
    before = ['task("signal intensity")', "inside = mean_intensity(roi, v1)"]
    mended = held("signal of the brainstem", ct).mended('    answer("hyperintense", roi)', before)
    assert mended == ('    answer("hyperdense", roi)',)
    assert held("signal of the brainstem").agrees('    answer("hyperintense", roi)', before)


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("thalamus and brain and caudate", ["brain"]),
        ("thalamus, brain; caudate", ["brain"]),
        ("thalamus in the brain", []),
        ("left caudate, white matter lesion, thalamus", ["white matter lesion"]),
        ("white matter lesions known, thalamus", []),
    ],
)
def test_what_stands_in_a_list_is_asked_for(prompt: str, meant: list[str]) -> None:
    assert [item.name for item in asked_structures(prompt, KNOWN) if item.meant] == meant


def test_a_comparison_of_sides_misses_no_session() -> None:
    assert not held("which of the two thalami is smaller").agrees('refuse("missing session")', ())
    assert held("is the thalamus smaller").agrees('refuse("missing session")', ())


def test_a_reason_is_no_session() -> None:
    assert not held("since she has ataxia: length of the thalamus").agrees('refuse("missing session")', ())
    assert held("thalamus volume since the last scan").agrees('refuse("missing session")', ())


def test_a_session_is_of_the_year_that_the_prompt_says() -> None:
    line = 'when = visit("2023-01-05")'
    assert held("volume of the thalamus at the 2023 scan").agrees(line, ['task("volume analysis")'])
    assert not held("accident in 2015. current volume of the thalamus").agrees(line, ['task("volume analysis")'])


def test_a_mask_alone_is_no_measurement() -> None:
    assert not held("complete mask of the thalamus").agrees('task("volume analysis")', ())
    assert held("mask and volume of the thalamus").agrees('task("volume analysis")', ())


@pytest.mark.parametrize(
    ("prompt", "missing"),
    [
        ("change of the thalamus volume on flair", True),
        ("change of the thalamus volume on t1", False),
        ("change of the thalamus volume", False),
    ],
)
def test_a_change_needs_the_images_that_are_named_in_two_sessions(prompt: str, missing: bool) -> None:
    line = 'task("volume change")'
    assert held(prompt).agrees(line, ()) is not missing
    assert held(prompt).impossible(line, ()) == ("missing image" if missing else "")


def test_intensities_are_read_from_the_first_image_of_the_last_session_that_fits() -> None:
    volumes = (*TWO_VISITS, InputVolume("v6", "T1", "2024-02-06", 1))
    line = 'report("mean intensity", mean_intensity(now, v6))'
    mended = held("mean t1 signal of the brainstem", volumes).mended(line, ['task("intensity analysis")'])
    assert mended == (line.replace("v6", "v4"),)


@pytest.mark.parametrize(
    ("prompt", "line", "mended"),
    [
        (
            "as seen from the left putamen, where is the left caudate",
            'first = segment("left putamen", v4<MOD>)',
            'first = segment("left caudate", v4<MOD>)',
        ),
        (
            "direction from the left caudate to the thalamus",
            'first = segment("left caudate", v4<MOD>)',
            'first_left = segment("left thalamus", v4<MOD>)',
        ),
    ],
)
def test_what_others_are_seen_from_is_the_second_structure(prompt: str, line: str, mended: str) -> None:
    before = ['task("location")']
    assert not held(prompt).agrees(line, before)
    assert held(prompt).mended(line, before) == (mended,)
    assert held(prompt).agrees(mended, before)
    assert held("where is the left putamen to the left caudate").agrees(
        'first = segment("left putamen", v4<MOD>)', before
    )


def test_two_sides_are_those_of_one_structure() -> None:
    before = ['task("volume comparison")', 'left = segment("left caudate", v4<MOD>)']
    prompt = "compare the left caudate with the right putamen"
    assert not held(prompt).agrees('right = segment("right putamen", v4<MOD>)', before)
    assert held(prompt).agrees('second = segment("right putamen", v4<MOD>)', before)


def test_a_structure_is_assembled_of_its_own_parts_and_of_all() -> None:
    parts = {"basal ganglia", "caudate", "putamen", "globus pallidus", "nucleus accumbens"}
    known = Held("volume of the left basal ganglia", TWO_VISITS, KNOWN | parts)
    before = ['task("volume analysis")', 'roi_1 = segment("left caudate", v4<MOD>)']
    putamen, thalamus = ('roi_2 = segment("left ' + name + '", v4<MOD>)' for name in ("putamen", "thalamus"))
    assert known.agrees(putamen, before)
    assert known.mended(thalamus, before) == (putamen,)
    pallidum, accumbens = (
        f'roi_{number} = segment("left {name}", v4<MOD>)'
        for number, name in ((3, "globus pallidus"), (4, "nucleus accumbens"))
    )
    whole = [*before, putamen, pallidum, accumbens]
    assembled = 'roi = assemble("basal ganglia", roi_1, roi_2, roi_3, roi_4)'
    assert known.mended('roi_5 = segment("left thalamus", v4<MOD>)', whole) == (assembled,)
    assert known.mended(assembled.replace("basal ganglia", "cerebellum"), whole) == (assembled,)
    assert known.agrees(assembled, whole)


def test_no_part_is_missed_in_a_list_of_structures() -> None:
    several = held("volume of the left caudate, left thalamus and left basal ganglia")
    before = ['task("volume analysis")', 'roi_1 = segment("left caudate", v4<MOD>)']
    assert several.agrees('roi_2 = segment("left thalamus", v4<MOD>)', before)


@pytest.mark.parametrize(
    ("prompt", "agrees"),
    [
        ("for my report, outline the left caudate", False),
        ("outline the left caudate and report its size", True),
        ("colour the left caudate in the volume", False),
        ("outline the left caudate and give the volume", True),
        ("outline the left caudate, change in the volume of it", True),
    ],
)
def test_a_mask_is_not_measured_for_words_that_only_sound_so(prompt: str, agrees: bool) -> None:
    assert held(prompt).agrees('task("volume analysis")', ()) is agrees


def test_the_largest_diameter_is_not_that_of_the_largest_lesion() -> None:
    before = ['task("extent analysis")', 'roi_all = segment("white matter lesion", v4<MOD>)']
    line = "roi = largest(roi_all)"
    assert not held("largest in-plane diameter of the plaques over 5 ml").agrees(line, before)
    assert not held("what greatest long axis have the plaques").agrees(before[1], before[:1])
    assert held("diameter of the largest of the plaques").agrees(line, before)


def test_a_change_is_no_comparison_of_sides() -> None:
    line = 'task("volume comparison")'
    assert not held("shrinking of the caudates between the sessions").agrees(line, ())
    assert held("did one of the caudates shrink more between the sessions").agrees(line, ())


@pytest.mark.parametrize(
    ("prompt", "change"),
    [
        ("essential tremor since 2010. size of the left caudate", False),
        ("size of the left caudate (impaired since 2010)", False),
        ("size of the left caudate, secondary progressive ms", False),
        ("left caudate since 2010.", True),
        ("size of the left caudate since the scan of 2010.", True),
        ("progressive ms. has the left caudate shrunk since last year", True),
    ],
)
def test_the_history_of_a_patient_asks_for_no_change(prompt: str, change: bool) -> None:
    assert held(prompt).agrees('task("volume change")', ()) is change
    assert held(prompt).agrees('refuse("missing session")', ()) is change


def test_lesions_above_a_size_are_not_those_below_it() -> None:
    before = ['task("signal intensity")', 'roi_all = segment("white matter lesion", v4<MOD>)']
    above, below = "roi = larger_than(roi_all, 100)", "roi = smaller_than(roi_all, 100)"
    assert held("signal of plaques > 100 mm³").mended(below, before) == (above,)
    assert held("signal of plaques below 100 mm³").mended(above, before) == (below,)
    assert held("plaques over 100 but not above 100 mm³").agrees(above, before)


def test_how_far_two_structures_lie_apart_is_no_direction() -> None:
    assert not held("how far do the left caudate and the right putamen lie apart").agrees('task("location")', ())
    assert held("is the left caudate above or far behind the right putamen").agrees('task("location")', ())


def test_lesions_that_are_to_be_counted_are_counted_before_they_are_measured() -> None:
    before = ['task("volume analysis")', 'roi = segment("white matter lesion", v4<MOD>)', "show(roi)"]
    volume, count = 'report("volume", volume(roi))', 'report("count", count(components(roi)))'
    assert held("how many plaques are there").mended(volume, before) == (count,)
    assert held("how many plaques are there").agrees(volume, [*before, count])
    assert held("volume of the plaques").agrees(volume, before)
    indented = held("how many plaques are there").mended('    report("volume", volume(at(roi, when)))', before)
    assert indented == ('    report("count", count(components(at(roi, when))))',)


def test_a_percentile_is_one_that_the_prompt_names() -> None:
    before = ['task("intensity analysis")', 'roi = segment("brainstem", v4<MOD>)']
    line = 'report("percentile intensity", percentile_intensity(roi, v4, {}))'
    named = held("90th percentile of the brainstem on t1, 72 year old man")
    assert named.agrees(line.format(90), before)
    assert named.mended(line.format(75), before) == (line.format(90),)
    assert held("upper quartile of the brainstem on t1").agrees(line.format(75), before)


@pytest.mark.requirement("Diffusion and enhancement are measured on the images that show them")
def test_diffusion_and_enhancement_are_measured_on_their_own_images() -> None:
    kinds = ("T1", "T1+C", "DWI", "ADC", "DWI")
    volumes = [InputVolume(f"v{n}", kind, "2024-03-01", 0) for n, kind in enumerate(kinds, 1)]
    marked = ", ".join(f"{volume.name}<MOD>" for volume in volumes)
    diffusion = ['task("diffusion restriction")', f'roi = segment("white matter lesion", {marked})']
    enhancement = ['task("enhancement")', *diffusion[1:]]
    known = frozenset({"white matter lesion"})
    prompts = ("does the white matter lesion restrict diffusion", "does the white matter lesion enhance")
    for before, written, meant in (
        (diffusion, "bright = mean_intensity(around, v1) * 1.05", "bright = mean_intensity(around, v3) * 1.05"),
        (diffusion, "dark = mean_intensity(around, v3)", "dark = mean_intensity(around, v4)"),
        (diffusion, "two = mean_intensity(roi, v4)", "two = mean_intensity(roi, v4)"),
        (
            enhancement,
            "after = ratio(mean_intensity(roi, v1), mean_intensity(around, v2))",
            "after = ratio(mean_intensity(roi, v2), mean_intensity(around, v2))",
        ),
        (enhancement, "one = mean_intensity(roi, v1)", "one = mean_intensity(roi, v1)"),
    ):
        held = Held(prompts[int(before is enhancement)], volumes, known)
        assert held.agrees(written, before) == (written == meant)
        if written != meant:
            assert held.mended(written, before) == (meant,)
    assert Held(prompts[0], volumes, known).impossible("dark = mean_intensity(around, v1)", diffusion) == ""
    without = [diffusion[0], 'roi = segment("white matter lesion", v1<MOD>, v3<MOD>)']
    assert Held(prompts[0], volumes, known).impossible("dark = mean_intensity(around, v1)", without) == "missing image"
