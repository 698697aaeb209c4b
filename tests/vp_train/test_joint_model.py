"""Joint training of α and m: what an example holds, and which way its gradients go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.vp_train import joint_runs
from vp_model.language.decoding import Writer, make_constraint
from vp_model.language.model import LanguageModel
from vp_model.language.state import feedback_text
from vp_model.language.tokens import END, NEXT
from vp_model.ontology import load_ontology
from vp_model.program.environment import ProgramEnvironment, region_targets
from vp_train.joint.calls import Call, vision_calls
from vp_train.joint.examples import JointExample
from vp_train.joint.model import JointModel
from vp_train.language.truth import MadeUpBrain
from vp_train.tasks.context import make_context
from vp_train.tasks.described import location_from_encoding, one_component, one_lesion, signal_from_encoding
from vp_train.tasks.registry import examples


@dataclass(frozen=True)
class Watching(MadeUpBrain):
    """A made-up brain that notes each call of `segment`: region, volumes, and the first number of each one's φ."""

    made: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = field(default_factory=list)

    def segment(
        self, name: str, volumes: Sequence[str], modulations: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        self.made.append((name, tuple(volumes), tuple(int(row[0]) for row in modulations)))
        return super().segment(name, volumes, modulations)


def with_masks(count: int = 1) -> JointExample:
    """An example of which `count` masks or more are asked for on one set of volumes."""
    source = joint_runs.source()
    return next(
        example
        for example in map(source.draw, range(200))
        if any(len(asked.regions) >= count and float(asked.targets[0].sum()) > 3 for asked in example.passes)
    )


def gradients(model: JointModel, example: JointExample) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    model(example).total.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def read(text: str) -> tuple[int, ...]:
    return tuple(joint_runs.tokenizer().encode(text, add_special_tokens=False).ids)


@pytest.mark.requirement("Dice of the masks trains α through φ (3.1)")
@pytest.mark.parametrize("conditioning", ["all", "decoder", "readout"])
def test_gradient_of_the_segmentation_loss_reaches_the_decoder_of_alpha(conditioning: str) -> None:
    recipe = replace(joint_runs.RECIPE, vision={**joint_runs.VISION, "conditioning": conditioning})
    model = joint_runs.awake(joint_runs.state(recipe)).model
    logits = model.answer(with_masks()).logits[0][0]
    decoder = model.language.decoder.layers[0].mlp.up_proj.weight
    found = torch.autograd.grad(logits.sum(), [decoder, model.language.condition.weight])
    assert all(float(gradient.abs().max()) > 0 for gradient in found)


@pytest.mark.requirement("The cross-entropy of a later step trains m through ε (A.2)")
def test_gradient_of_a_later_steps_cross_entropy_reaches_the_encoder_of_m() -> None:
    model = joint_runs.awake(joint_runs.state()).model
    example = joint_runs.described(location_from_encoding, joint_runs.lesioned_study())
    assert not example.passes
    found = gradients(model, example)
    assert float(found["vision.down.0.weight"].abs().max()) > 0
    assert float(found["vision.encoding.weight"].abs().max()) > 0
    assert not any(name.startswith("vision.up") for name in found)


def test_a_program_without_feedback_trains_m_by_its_masks_alone() -> None:
    model = joint_runs.awake(joint_runs.state()).model
    found = gradients(model, with_masks())
    assert "vision.encoding.weight" not in found
    model.segmentation_weight = 0.0
    assert float(gradients(model, with_masks())["vision.down.0.weight"].abs().max()) == 0


def test_alpha_reads_an_example_in_training_as_it_does_when_it_writes() -> None:
    made = joint_runs.awake(joint_runs.state())
    model = made.model.eval()
    example = joint_runs.described(signal_from_encoding, joint_runs.lesioned_study())
    first, second = example.steps
    seen: list[torch.Tensor] = []
    hook = model.language.vocabulary.register_forward_hook(lambda *call: seen.append(call[2].detach()[0]))
    answer = model.answer(example)
    hook.remove()
    phi = _phi(model.language, first.read, first.code, model.marker)
    encoded = model.vision.encodings(
        model.vision.shared([example.images[index] for index in first.encodings[0].volumes]), torch.stack(phi)[None]
    )[0]

    writer = Writer(model.language, made.tokenizer, make_constraint(made.tokenizer))
    writer._advance([*first.read, *first.code])
    torch.testing.assert_close(writer._logits, seen[0][-1], atol=1e-4, rtol=1e-4)
    count = len(first.encodings[0].volumes)
    writer.read(feedback_text(f"encoding of {count} volumes"), [encoded.detach().numpy()])
    torch.testing.assert_close(writer._logits, seen[1][len(second.read) - 1], atol=1e-4, rtol=1e-4)
    assert len(seen) == 2 and not answer.exact


def _phi(language: LanguageModel, state: tuple[int, ...], code: tuple[int, ...], marker: int) -> list[torch.Tensor]:
    written = language(torch.tensor([[*state, *code]]))
    return [written.phi[0, len(state) + place] for place, token in enumerate(code) if token == marker]


def test_a_step_before_feedback_ends_with_the_token_that_asks_for_it() -> None:
    example = joint_runs.described(location_from_encoding, joint_runs.lesioned_study())
    tokenizer = joint_runs.tokenizer()
    assert [step.ending for step in example.steps] == [tokenizer.token_to_id(NEXT), tokenizer.token_to_id(END)]
    volumes = len(example.steps[0].encodings[0].volumes)
    assert example.steps[1].read == read(feedback_text(f"encoding of {volumes} volumes"))
    assert tokenizer.decode(list(example.steps[1].code)).startswith('answer("left temporal lobe")')


@pytest.mark.parametrize("part", ["lesion", "component"])
def test_target_of_a_described_lesion_is_that_lesion_alone(part: str) -> None:
    study = joint_runs.lesioned_study()
    example = joint_runs.described(one_lesion if part == "lesion" else one_component, study)
    asked = example.passes[0]
    wanted = study.lesion_target(asked.volumes[0], (joint_runs.GLIOMA,), "" if part == "lesion" else "edema")
    assert float(wanted.sum()) > 1
    assert torch.equal(asked.targets[0][0], wanted)
    assert asked.regions == ("glioma",) if part == "lesion" else ("edema",)


def test_masks_asked_for_in_turns_teach_the_same_as_all_at_once() -> None:
    example = with_masks(2)
    model = joint_runs.awake(joint_runs.state()).model
    together = gradients(model, example)
    model.conditions_at_once = 1
    in_turns = gradients(model, example)
    assert together.keys() == in_turns.keys()
    for name, value in together.items():
        torch.testing.assert_close(in_turns[name], value, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("conditioning", ["all", "readout"])
def test_levels_that_are_computed_again_have_the_same_gradients(conditioning: str) -> None:
    recipe = replace(joint_runs.RECIPE, vision={**joint_runs.VISION, "conditioning": conditioning})
    model = joint_runs.awake(joint_runs.state(recipe)).model
    example = with_masks()
    kept = gradients(model, example)
    model.vision.recomputed_levels = 2
    again = gradients(model, example)
    assert kept.keys() == again.keys()
    for name, value in kept.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=1e-3, msg=name)


def test_losses_are_the_papers_sum() -> None:
    example = with_masks()
    model = joint_runs.awake(joint_runs.state(replace(joint_runs.RECIPE, voxelwise=0.0))).model
    losses = model(example)
    masks = sum(
        1 - float(2 * (p * t).sum() + 1e-3) / float((p * p).sum() + (t * t).sum() + 1e-3)
        for asked, volumes in zip(example.passes, model.answer(example).logits, strict=True)
        for logits, targets in zip(volumes, asked.targets, strict=True)
        for p, t in zip(torch.sigmoid(logits.detach()), targets, strict=True)
        if float(t.sum()) > 1
    )
    assert float(losses.segmentation) == pytest.approx(masks, rel=1e-4)
    assert float(losses.total.detach()) == pytest.approx(float(losses.cross_entropy) + 0.1 * masks, rel=1e-4)


@pytest.mark.requirement("Joint training learns program and mask of an example")
def test_loss_of_one_example_falls() -> None:
    example = with_masks()
    model = joint_runs.awake(joint_runs.state()).model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(40):
        losses = model(example)
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()
        history.append((float(losses.cross_entropy), float(losses.segmentation)))
    assert history[-1][0] < 0.3 * history[0][0]
    assert history[-1][1] < 0.8 * history[0][1]


def test_calls_read_from_a_program_are_those_that_running_it_makes() -> None:
    regions = (*joint_runs.REGIONS, "left lateral ventricle", "right lateral ventricle", "white matter lesion")
    stream = examples(make_context(regions), 7)
    compared = 0
    for example in (next(stream) for _ in range(60)):
        brain = Watching(example.scene.volumes, regions)
        environment = ProgramEnvironment(brain.volumes, brain.images, brain, region_targets(load_ontology(), regions))
        numbered: NDArray[np.float32] = np.zeros((example.program.count("<MOD>"), 32), np.float32)
        numbered[:, 0] = np.arange(len(numbered))
        result = environment.step(example.program, numbered)
        assert not result.error, result.error
        assert [(call.region, call.volumes, call.markers) for call in vision_calls(example.program)] == brain.made
        compared += len(brain.made)
    assert compared > 30


def test_calls_of_a_program_know_their_markers() -> None:
    code = 'a = segment("brain", v1<MOD>, v2<MOD>)\nb = encode(v2<MOD>)\nprint(b)\n'
    assert vision_calls(code) == [
        Call("segment", "brain", ("v1", "v2"), (0, 1)),
        Call("encode", "", ("v2",), (2,)),
    ]


def test_bfloat16_gives_nearly_the_same_gradients() -> None:
    model = joint_runs.awake(joint_runs.state()).model
    example = joint_runs.described(location_from_encoding, joint_runs.lesioned_study())
    whole = gradients(model, example)
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(model, example)
    assert half.keys() == whole.keys()
    first, second = (torch.cat([found[name].flatten() for name in whole]) for found in (whole, half))
    assert float(torch.nn.functional.cosine_similarity(first, second, dim=0)) > 0.99
