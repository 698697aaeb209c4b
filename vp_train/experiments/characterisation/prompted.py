"""The prompted model: α and m learn together to answer from ε (3.1, Figure 2, A.2).

α reads the prompt and writes the step that encodes the images, with φ at each `<MOD>`; m encodes them under φ; α reads
ε behind that step and writes the answer. The cross-entropy of the answer reaches m through ε, and α's φ through m. It
is the joint training of `vp_train.joint` for programs without masks, with the short sequences of a batch in one pass of
α: on a CPU that is several times quicker than one by one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from vp_model.agent import Agent
from vp_model.checkpoint import Checkpoint, KnownStructure
from vp_model.language.config import LanguageConfig
from vp_model.language.model import LanguageModel
from vp_model.language.reading import marks
from vp_model.language.tokens import MOD, train_tokenizer
from vp_model.outcome import ModelIdentity
from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork
from vp_train.experiments.characterisation.cases import Case, draw_evenly
from vp_train.joint.examples import JointExample, Step, build_example, identifier
from vp_train.tasks.context import Context
from vp_train.tasks.scene import Example

WARM_UP = 50
"""Steps in which the rate of the warm-up rises."""
SPREAD = 64
"""Examples by which the projection to ε is initialised."""


@dataclass(frozen=True)
class PromptedFit:
    """How both are trained.

    Attributes:
        language: configuration of α; `vocabulary` tokens at most.
        warm_up: steps of α alone on the step that encodes, which needs no image.
        steps: of both, of `batch` cases each, at `rate` with a cosine fall.
        slower: the rate of m as a share of α's: ε must not run away while α learns to read it.
    """

    language: LanguageConfig
    vocabulary: int
    warm_up: int
    steps: int
    batch: int
    rate: float
    slower: float
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Prompted:
    """α with its tokenizer, and m.

    Attributes:
        known: names of the structures that a prompt may name.
    """

    language: LanguageModel
    tokenizer: Tokenizer
    vision: VisionNetwork
    known: tuple[str, ...]

    def agent(self) -> Agent:
        """The system as it is used: constrained decoding, persistent environment, feedback."""
        checkpoint = Checkpoint(
            Path(),
            ModelIdentity("characterisation", "0", "0" * 64),
            self.vision.config.as_dict(),
            self.language.config.as_dict(),
            tuple(KnownStructure(name, "", None, False) for name in self.known),
        )
        return Agent(checkpoint, self.language, self.tokenizer, self.vision)

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """What the agent answers in words; empty where it refuses or says nothing."""
        agent = self.agent()
        with torch.inference_mode():
            outcomes = [agent.run(case.example.prompt, case.study.volumes) for case in cases]
        return ["; ".join(text.text for text in outcome.texts) for outcome in outcomes]


def fit_prompted(config: VisionConfig, cases: Sequence[Case], context: Context, settings: PromptedFit) -> Prompted:
    """α and m from scratch, on all questions at once."""
    torch.manual_seed(settings.seed)
    known = tuple(structure.name for structure in context.structures)
    tokenizer = make_tokenizer([case.example for case in cases], known, settings.vocabulary)
    language = LanguageModel(settings.language, tokenizer.get_vocab_size())
    vision = VisionNetwork(config)
    marker = identifier(tokenizer, MOD)
    built = {
        id(case): build_example(tokenizer, case.example, lambda _, case=case: case.study, known)  # type: ignore[misc]
        for case in cases
    }
    draw = draw_evenly(cases, random.Random(settings.seed))
    parameters = [*language.parameters(), *vision.parameters()]
    optimizer = torch.optim.Adam([{"params": language.parameters()}, {"params": vision.parameters()}])
    shares = (1.0, settings.slower)
    for step in range(settings.warm_up):
        _set_rates(optimizer, shares, settings.rate * min(1.0, (step + 1) / WARM_UP))
        _, loss = _first_step(language, [built[id(draw())] for _ in range(settings.batch)], marker)
        _advance(optimizer, parameters, loss)
    spread_encodings(language, vision, [built[id(draw())] for _ in range(SPREAD)], marker)
    for step in range(settings.steps):
        _set_rates(optimizer, shares, settings.rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
        chosen = [built[id(draw())] for _ in range(settings.batch)]
        _advance(optimizer, parameters, joint_loss(language, vision, chosen, marker))
    return Prompted(language.eval(), tokenizer, vision.eval(), known)


@torch.no_grad()
def spread_encodings(
    language: LanguageModel, vision: VisionNetwork, examples: Sequence[JointExample], marker: int
) -> None:
    """Sets the projection to ε so that, at the start, each of its numbers has mean 0 and deviation 1 over examples.

    Maxima over a whole image hardly differ from one image to the next (about 1 %): without this, α is blind to ε for as
    long as the projection takes to find the difference. It is an initialisation from data (Mishkin and Matas 2016); the
    architecture stays the paper's.
    """
    conditions, _ = _first_step(language, examples, marker)
    epsilon = torch.cat([_encode(vision, *pair) for pair in zip(examples, conditions, strict=True)])
    deviation = epsilon.std(dim=0).clamp(min=1e-4)
    vision.encoding.weight /= deviation[:, None]
    vision.encoding.bias.copy_((vision.encoding.bias - epsilon.mean(dim=0)) / deviation)


def _encode(vision: VisionNetwork, example: JointExample, phi: torch.Tensor) -> torch.Tensor:
    """ε (n, b) of the volumes that an example encodes, under φ (m, d) of all its markers."""
    (call,) = example.steps[0].encodings
    shared = vision.shared([example.images[index] for index in call.volumes])
    return vision.encodings(shared, phi[list(call.markers)][None])[0]


def joint_loss(
    language: LanguageModel, vision: VisionNetwork, examples: Sequence[JointExample], marker: int
) -> torch.Tensor:
    """Mean cross-entropy of the step that encodes, and of the step that answers, of examples of two steps each.

    Args:
        marker: the token `<MOD>`.
    """
    conditions, first = _first_step(language, examples, marker)
    embed = language.decoder.get_input_embeddings()
    sequences: list[torch.Tensor] = []
    for example, phi in zip(examples, conditions, strict=True):
        encoding, answer = example.steps
        epsilon = _encode(vision, example, phi)
        ids = (torch.tensor([*encoding.read, *encoding.code]), torch.tensor([*answer.read, *answer.code]))
        sequences.append(torch.cat([embed(ids[0]), language.from_encoding(epsilon), embed(ids[1])]))
    hidden = language.decoder(inputs_embeds=pad_sequence(sequences, batch_first=True)).last_hidden_state
    losses = []
    for row, example in enumerate(examples):
        wanted = _wanted(example.steps[1])
        end = len(sequences[row])
        losses.append(functional.cross_entropy(language.vocabulary(hidden[row, end - len(wanted) : end]), wanted))
    return first + torch.stack(losses).mean()


def _first_step(
    language: LanguageModel, examples: Sequence[JointExample], marker: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """φ (n, d) at the markers of each example's first step, and the step's mean cross-entropy."""
    steps = [example.steps[0] for example in examples]
    ids = [torch.tensor([*step.read, *step.code]) for step in steps]
    written = language(pad_sequence(ids, batch_first=True))
    losses, conditions = [], []
    for row, step in enumerate(steps):
        wanted, end = _wanted(step), len(ids[row])
        losses.append(functional.cross_entropy(written.logits[row, end - len(wanted) : end], wanted))
        code = written.phi[row, len(step.read) : end]
        conditions.append(code[torch.tensor(step.code) == marker])
    return conditions, torch.stack(losses).mean()


def _wanted(step: Step) -> torch.Tensor:
    """The tokens of a step with its ending: each is to be told by what stands before it."""
    return torch.tensor([*step.code, step.ending])


def make_tokenizer(examples: Sequence[Example], known: Sequence[str], vocabulary: int) -> Tokenizer:
    """Of the prompts and programs; each line of an answer is one token, as frequent pieces of code are."""
    lines = {line for example in examples for line in "".join(example.later).splitlines(True)}
    texts = [text for example in examples for text in (example.prompt, example.program)]
    ordered = sorted(lines, key=lambda line: (-len(line), line))
    return train_tokenizer(texts, vocabulary, marks(frozenset(known)), ordered)


def _advance(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([item for item in parameters if item.grad is not None], 1.0)
    optimizer.step()


def _set_rates(optimizer: torch.optim.Optimizer, shares: Sequence[float], rate: float) -> None:
    for group, share in zip(optimizer.param_groups, shares, strict=True):
        group["lr"] = rate * share
