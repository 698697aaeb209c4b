"""The experiments: their statistics, their tables, and that each runs end to end on made-up heads."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import typer
from scipy import stats
from typer.testing import CliRunner

from tests.vp_train.heads import head
from vp_model.agent import Agent
from vp_model.language.state import initial_text
from vp_model.outcome import InputVolume
from vp_model.vision.config import config_from_dict
from vp_model.volume import Volume
from vp_train.cli import app
from vp_train.datasets.labels import load_labels
from vp_train.experiments import (
    anatomy,
    interaction,
    language,
    lesions,
    longitudinal,
    native,
    quantities,
    refusals,
    specialists,
    zero_shot,
)
from vp_train.experiments.checkpoint import load_language, named
from vp_train.experiments.commands import EXPERIMENTS, settings_of
from vp_train.experiments.document import HEADING, document
from vp_train.experiments.fitting import draw_images, fit, read_fit
from vp_train.experiments.report import Bars, Report, write_report
from vp_train.experiments.statistics import cohens_d, compare, summarise
from vp_train.synthesis.chance import Chance
from vp_train.synthesis.lesions.anatomy import anatomy_of
from vp_train.synthesis.scene import draw_grid, draw_scene, render

RUNNER = CliRunner()


def tiny(name: str, **changes: Any) -> dict[str, Any]:
    """Settings that take a second, on the coarsest grid."""
    settings = copy.deepcopy(settings_of(name, "small"))
    settings.update(samples=2, **changes)
    if "fit" in settings:
        settings["fit"].update(steps=2, spacing_mm=8.0)
        settings["fit"]["network"].update(channels=[4, 8, 8], interaction_size=8, working_spacing_mm=8.0)
    return settings


def test_a_summary_holds_mean_deviation_and_an_interval_about_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 60).tolist()
    summary = summarise(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.deviation == pytest.approx(np.std(values, ddof=1))
    half = 1.96 * summary.deviation / np.sqrt(60)
    assert summary.low == pytest.approx(summary.mean - half, abs=0.006)
    assert summary.high == pytest.approx(summary.mean + half, abs=0.006)
    with pytest.raises(ValueError, match="no value"):
        summarise([float("nan")])


def test_a_comparison_is_paired() -> None:
    generator = np.random.default_rng(2)
    base = generator.normal(0.5, 0.3, 30)
    better = base + generator.normal(0.02, 0.01, 30)
    compared = compare(better.tolist(), base.tolist())
    assert compared.p_t == pytest.approx(stats.ttest_rel(better, base).pvalue)
    assert compared.p_wilcoxon == pytest.approx(stats.wilcoxon(better, base).pvalue)
    assert "significant" in compared.verdict()
    assert compare([0.5, 0.5], [0.5, 0.5]).p_t == 1.0
    assert compare([1.0] * 5, [0.0] * 5).p_t == pytest.approx(stats.binomtest(5, 5).pvalue)
    with pytest.raises(ValueError, match="Pairs"):
        compare([0.1], [0.1, 0.2])


def test_effect_size_is_the_difference_in_pooled_deviations() -> None:
    assert cohens_d([2.0, 4.0], [1.0, 3.0]) == pytest.approx(1 / np.sqrt(2))


def test_a_report_is_written_for_people_and_for_machines(tmp_path: Path) -> None:
    bars = Bars(("one", "two"), {"ours": [summarise([0.1, 0.2]), None]}, "Dice")
    report = Report("name", "Title", "theirs", ("a", "b"), (("1", "2"),), ("a note",), {"steps": 3}, {"x": [1]}, bars)
    write_report(report, tmp_path)
    assert "| 1 | 2 |" in (tmp_path / "name.md").read_text()
    assert json.loads((tmp_path / "name.json").read_text())["values"] == {"x": [1]}
    assert (tmp_path / "name.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("scale", ["small", "full"])
def test_every_experiment_has_settings_that_build_its_network(scale: str) -> None:
    for name in EXPERIMENTS:
        settings = settings_of(name, scale)
        if "fit" in settings:
            config_from_dict(settings["fit"]["network"])
            assert settings["fit"]["steps"] > 0
    with pytest.raises(typer.BadParameter):
        settings_of("nothing", scale)


def test_what_tells_an_outcome_apart_carries_no_risk_at_low_coverage() -> None:
    certainties, wrong = np.array([0.9, 0.2, 0.8, 0.4]), np.array([False, True, False, True])
    assert refusals.risks(certainties, wrong).tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert refusals.risks(-certainties, wrong).tolist() == pytest.approx([1, 1, 2 / 3, 1 / 2])


def test_calibration_error_is_the_distance_of_stated_from_observed() -> None:
    chances = np.array([0.25] * 4 + [0.95] * 2)
    assert refusals.calibration_error(chances, np.array([True] + [False] * 3 + [True] * 2)) == pytest.approx(0.05 / 3)
    assert refusals.calibration_error(chances, np.array([True] * 4 + [False] * 2)) == pytest.approx(
        (4 * 0.75 + 2 * 0.95) / 6
    )


def test_certainty_of_refusing_is_high_where_the_bundled_model_refuses() -> None:
    model, tokenizer = load_language()
    beginnings = refusals.first_tokens(tokenizer)
    agent, volumes = Agent.load(), (InputVolume("v1", "T1", "2024-03-01", 0),)
    found = {}
    for prompt in ("segment the left hippocampus", "segment the pancreas"):
        plan = agent.plan(prompt, volumes)
        state = initial_text(prompt, volumes, agent.checkpoint.served)
        found[prompt] = refusals.certainty(model, tokenizer, state, plan.program, beginnings)
    assert found["segment the left hippocampus"].refusal < 0.1 < 0.9 < found["segment the pancreas"].refusal
    assert all(0 <= item.program <= 1 for item in found.values())
    assert found["segment the left hippocampus"].program > 0.5


def test_refusals_and_language_judge_the_same_checkpoint_on_held_out_phrasings() -> None:
    report = refusals.run({"prompts": 12, "seed": 5})
    assert len(report.values["refusal"]) == len(report.values["wrong"]) == 12
    assert sum(int(row[1]) for row in report.rows) == 12
    assert report.curve is not None
    report = language.run({"prompts": 6, "shown": 2})
    assert [row[:2] for row in report.rows] == [("trained phrasings", "6"), ("held-out phrasings", "6")]
    assert report.settings["checkpoint"].startswith(Agent.load().identity.name)


def test_native_resolution_is_reported_as_ratios_of_the_conformed_to_the_native() -> None:
    costs = {
        mode: {
            "isotropic": [{"cpu": 2.0, "peak": 5.0}] * 2,
            "own": [{"cpu": 1.0, "peak": 2.0}] * 2,
            "1 mm": [{"cpu": 2.0, "peak": 5.0}, {"cpu": 4.0, "peak": 5.0}],
        }
        for mode in ("inference", "training")
    }
    alike = native.report({"1": costs}, {"samples": 2})
    assert alike.rows[0][1].startswith("2.00 / 3.00: 1.5 ±"), "The paper's shared grid, where nothing else is asked."
    report = native.report({"1": costs, "2": costs}, {"samples": 2, "reference": "own"})
    assert report.rows[-1][:3] == ("**all**", "3 ± 1.2 [2, 4]", "2.5 ± 0 [2.5, 2.5]")
    assert report.rows[0][1].startswith("1.00 / 3.00: 3 ±")


def test_a_document_gets_the_reports_and_keeps_what_stands_above(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "EXPERIMENTS.md"
    page.parent.mkdir()
    page.write_text(f"# Experiments\n\nWhat they are.\n\n{HEADING}\n\nold results\n")
    bars = Bars(("one",), {"ours": [summarise([0.1, 0.2])]}, "Dice")
    for name, shown in (("first", bars), ("second", None)):
        report = Report(name, name.title(), "theirs", ("a",), (("1",),), ("note",), {}, {}, shown, cpu_seconds=60)
        write_report(report, tmp_path / "results")
    assert document(tmp_path / "results", ("second", "third", "first"), page) == ["third"]
    text = page.read_text()
    assert text.startswith("# Experiments\n\nWhat they are.\n")
    assert "old results" not in text
    assert text.index("## Second") < text.index("## First")
    assert "2 minutes of CPU in all" in text
    assert "Without a report: third." in text
    assert "![first](pictures/experiments/first.png)" in text
    assert (page.parent / "pictures/experiments/first.png").is_file()
    before = text
    document(tmp_path / "results", ("second", "third", "first"), page)
    assert page.read_text() == before
    page.write_text("nothing")
    with pytest.raises(ValueError, match="heading"):
        document(tmp_path / "results", ("first",), page)


def test_of_all_experiments_one_without_data_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Report("language", "Language", "theirs", ("a",), (("1",),), (), {}, {})
    some = {
        "zero-shot": EXPERIMENTS["zero-shot"],
        "interaction": EXPERIMENTS["interaction"],
        "language": lambda _: done,
    }
    monkeypatch.setattr("vp_train.experiments.commands.EXPERIMENTS", some)
    monkeypatch.setattr(Agent, "load", lambda folder=None: None)
    result = RUNNER.invoke(app, ["experiment", "all", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert (tmp_path / "language.md").is_file()
    assert "interaction: Name the folder of label maps" in result.output


def series(monkeypatch: pytest.MonkeyPatch, broken: str = "") -> list[str]:
    """Replaces the experiments by three quick ones, one of which judges a checkpoint; notes which ran."""
    ran: list[str] = []

    def quick(name: str, judged: dict[str, str]) -> Callable[[Any], Report]:
        def run(_: Any) -> Report:
            ran.append(name)
            if name == broken:
                raise RuntimeError("out of luck")
            return Report(name, name.title(), "theirs", ("a",), (("1",),), (), judged, {})

        return run

    checkpoints = {"refusals": {"checkpoint": named()["checkpoint"]}}
    some = {name: quick(name, checkpoints.get(name, {})) for name in ("language", "interaction", "refusals")}
    monkeypatch.setattr("vp_train.experiments.commands.EXPERIMENTS", some)
    return ran


def test_a_series_goes_on_with_what_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["experiment", "all", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")]
    (tmp_path / "data").mkdir()
    ran = series(monkeypatch)
    assert RUNNER.invoke(app, command).exit_code == 0
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 0 and "interaction: done with these settings" in result.output
    assert ran == ["language", "interaction", "refusals"]
    (tmp_path / "out/interaction.asked.json").unlink()  # as if it had been interrupted before its end
    (tmp_path / "out/refusals.json").write_text("{")
    RUNNER.invoke(app, command)
    assert ran[3:] == ["interaction", "refusals"]
    RUNNER.invoke(app, [*command, "--again"])
    assert ran[5:] == ["language", "interaction", "refusals"]
    (tmp_path / "data/further.nii.gz").write_bytes(b"1")
    RUNNER.invoke(app, command)
    assert ran[8:] == ["language", "interaction", "refusals"]


def test_other_weights_or_settings_make_a_result_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["experiment", "all", "--out", str(tmp_path)]
    ran = series(monkeypatch)
    RUNNER.invoke(app, command)
    monkeypatch.setattr("vp_train.experiments.progress.named", lambda folder=None: {"checkpoint": "another"})
    RUNNER.invoke(app, command)
    assert ran[3:] == ["refusals"]
    before = settings_of("interaction", "small")
    monkeypatch.setattr(
        "vp_train.experiments.commands.settings_of",
        lambda name, scale: {**before, "samples": 1} if name == "interaction" else settings_of(name, scale),
    )
    del ran[:]
    RUNNER.invoke(app, command)
    assert "interaction" in ran and "language" not in ran


def test_an_experiment_that_breaks_is_reported_last_and_loses_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = series(monkeypatch, broken="interaction")
    result = RUNNER.invoke(app, ["experiment", "all", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert ran == ["language", "interaction", "refusals"]
    assert (tmp_path / "refusals.md").is_file()
    assert "interaction: RuntimeError: out of luck" in result.output.splitlines()[-1]
    assert "raise RuntimeError" in (tmp_path / "interaction.failure.txt").read_text()
    ran = series(monkeypatch)
    assert RUNNER.invoke(app, ["experiment", "all", "--out", str(tmp_path)]).exit_code == 0
    assert ran == ["interaction"]
    assert not (tmp_path / "interaction.failure.txt").exists()


def test_a_fit_learns_and_depends_on_its_seed_alone() -> None:
    settings = read_fit({**tiny("interaction")["fit"], "steps": 3})
    first, second = fit(settings, [head()]), fit(settings, [head()])
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_stream_interaction_judges_the_three_variants_on_the_same_sets() -> None:
    report = interaction.run(tiny("interaction"), [head()], [head()])
    assert [row[0] for row in report.rows] == ["attention", "max", "mean"]
    assert {len(values) for scores in report.values["dice"].values() for values in scores.values()} == {2}


def test_specialists_are_compared_with_the_one_network_target_by_target() -> None:
    both = ["left cerebral white matter", "right cerebral white matter"]
    settings = tiny("specialists", targets=both, together=both)
    report = specialists.run(settings, [head()], [head()])
    assert [row[0] for row in report.rows] == settings["targets"]
    with pytest.raises(ValueError, match="left cerebral white matter"):
        specialists.run({**settings, "together": both[1:]}, [head()], [head()])


def test_lesion_synthesis_is_switched_off_for_one_of_two_networks(tmp_path: Path) -> None:
    chance = Chance.seeded(5)
    image = draw_images(head(), chance, 4.0, 1, "FLAIR")[0]
    voxels = image.placed.features[0, 0].numpy()
    nibabel.save(nibabel.Nifti1Image(voxels, image.placed.world), tmp_path / "one_flair.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image((voxels > 0.9).astype(np.uint8), image.placed.world), tmp_path / "one_lesion.nii.gz"
    )
    anatomies = [anatomy_of(head()), anatomy_of(head())]
    report = lesions.run(tiny("lesion-synthesis"), [head()], [head()], anatomies, tmp_path)
    assert report.rows[-1][0] == "real: one"
    assert set(report.values["real"]["one"]) == {"with", "without", "threshold"}


def test_synthesis_adds_lesions_that_are_asked_for_and_others_that_are_not() -> None:
    ablation = lesions.Ablation({"made_up": anatomy_of(head())}, ("acute infarct",), ("glioma",), share=1.0, beside=1.0)
    scene = draw_scene(head(), load_labels(), Chance.seeded(3), 0.0)
    found = [lesion.facts.structure for lesion in ablation.synthetic(scene, Chance.seeded(4)).synthetic]
    assert found[0] == "infarct"
    assert set(found[1:]) <= {"glioma"}
    without = ablation.without(scene, Chance.seeded(4))
    assert without.synthetic == ()
    assert without.lesions is None or without.lesions.threshold == np.inf


def test_the_threshold_finds_bright_spots_within_the_brain_and_no_specks() -> None:
    generator = np.random.default_rng(0)
    voxels = generator.normal(100, 5, (40, 40, 40)).astype(np.float32)
    voxels[10:14, 10:14, 10:14] = 160
    voxels[30, 30, 30] = 160
    brain = np.zeros(voxels.shape, dtype=bool)
    brain[4:36, 4:36, 4:36] = True
    found = lesions.threshold_lesions(Volume(torch.from_numpy(voxels)[None], np.eye(4)), brain)
    assert found[11:13, 11:13, 11:13].all()
    assert not found[30, 30, 30]
    assert found.sum() < 200


def test_whole_brain_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="with its reference"):
        anatomy.run({}, tmp_path)
    result = RUNNER.invoke(app, ["experiment", "whole-brain", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert result.exit_code == 2


def test_whole_brain_judges_the_checkpoint_and_another_tool(tmp_path: Path) -> None:
    shape = (48, 56, 48)
    ids = np.zeros(shape, dtype=np.int16)
    ids[8:24, 8:48, 8:40] = 2
    ids[24:40, 8:48, 8:40] = 41
    world = np.diag([4.0, 4.0, 4.0, 1.0])
    for folder in ("scans", "tool"):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(ids, world), tmp_path / folder / "one_seg.nii.gz")
    nibabel.save(nibabel.Nifti1Image((ids > 0).astype(np.float32), world), tmp_path / "scans/one_t1.nii.gz")
    report = anatomy.run({}, tmp_path / "scans", others={"perfect": tmp_path / "tool"})
    assert set(report.values["dice"]["perfect"]["one"].values()) == {1.0}
    assert report.columns == ("structure", "VoxelPrompt one", "perfect one")
    assert any("Against perfect" in note for note in report.notes)


def test_end_to_end_answers_are_compared_with_the_truth_and_with_code_by_hand() -> None:
    report = quantities.run({"samples": 1, "spacing_mm": 4.0}, [head()])
    shown = {"left hippocampus"}  # of what is asked for, the made-up head has this alone
    assert len(report.rows) == len(quantities.QUESTIONS)
    answered = report.values["errors"]
    for question in quantities.QUESTIONS:
        pair = answered[question.prompt]
        count = len(pair["prompted"]) + report.values["unanswered"][question.prompt]
        assert count == 1 or (count == 0 and question.targets[0] not in shown)
        assert all(np.isfinite(value) for value in pair["prompted"])


def test_zero_shot_prompts_single_patients_and_counts_refusals_as_empty(tmp_path: Path) -> None:
    image = draw_images(head(), Chance.seeded(5), 4.0, 1, "FLAIR")[0]
    voxels, world = image.placed.features[0, 0].numpy(), image.placed.world
    nibabel.save(nibabel.Nifti1Image(voxels, world), tmp_path / "one_flair.nii.gz")
    nibabel.save(nibabel.Nifti1Image((voxels > 0.9).astype(np.uint8), world), tmp_path / "one_lesion.nii.gz")
    settings = settings_of("zero-shot", "small")
    report = zero_shot.run(settings, tmp_path)
    assert report.values["refused"] == {"real": 0}
    settings["datasets"]["real"]["prompt"] = "segment the pancreas"
    report = zero_shot.run(settings, tmp_path)
    assert report.values["refused"] == {"real": 1}
    assert report.values["dice"]["real"]["prompted"] == [0.0]
    with pytest.raises(FileNotFoundError, match="no case"):
        zero_shot.run(settings, None)


def test_a_structure_grows_by_what_was_asked_and_its_neighbours_follow() -> None:
    labels, chance = load_labels(), Chance.seeded(1)
    scene = draw_scene(head(), labels, chance, 0.0)
    shape, world = draw_grid(head(), [1.0, 1.0, 1.0], None, chance)
    later = longitudinal.changed(scene, {"left hippocampus": 0.5, "right hippocampus": -0.5})

    def volume(given: Any, name: str) -> float:
        return float(
            render(given, labels, shape, world, Chance.seeded(2), "T1").targets[labels.targets.index(name)].sum()
        )

    assert volume(later, "left hippocampus") > 1.1 * volume(scene, "left hippocampus")
    assert volume(later, "right hippocampus") < 0.9 * volume(scene, "right hippocampus")
    assert volume(later, "third ventricle") == pytest.approx(volume(scene, "third ventricle"), rel=0.02)
    assert volume(later, "brain") == pytest.approx(volume(scene, "brain"), rel=0.02)


def test_longitudinal_effect_sizes_of_the_truth_are_those_that_were_made() -> None:
    settings = {**settings_of("longitudinal", "small"), "people": 3, "spacing_mm": 3.0, "noise_mm": 0.01}
    report = longitudinal.run(settings, [head()])
    effects = {row[0]: float(row[1]) for row in report.rows}
    assert effects["hippocampus"] < -2
    assert len(report.values["changes"]["hippocampus"]["measured"]["patients"]) == 3
