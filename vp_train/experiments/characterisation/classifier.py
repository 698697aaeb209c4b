"""The baseline of appendix D: a classifier for one question, built from the encoder of m.

Global maximum over space of the deepest level, maximum over the volumes, a linear layer with a softmax over the
question's answers. "φ mixing layers replaced": φ is nothing but zeros, which leaves of a mixing layer its features
alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from vp_model.geometry import Placed
from vp_model.vision.config import VisionConfig
from vp_model.vision.network import VisionNetwork
from vp_train.experiments.characterisation.cases import Case, draw_evenly


class Classifier(nn.Module):
    """m's encoder with a linear layer over `answers`."""

    def __init__(self, config: VisionConfig, answers: Sequence[str]) -> None:
        super().__init__()
        self.answers = tuple(answers)
        self.network = VisionNetwork(config)
        self.network.encoding = nn.Identity()  # type: ignore[assignment]  # pooled features, not their projection
        self.head = nn.Linear(config.channels[-1], len(self.answers))

    def forward(self, images: Sequence[Placed]) -> torch.Tensor:
        """Logits (answers,) of n images (1, 1, w, h, d) of one study."""
        nothing = torch.zeros(1, len(images), self.network.config.condition_size)
        pooled = self.network.encodings(self.network.shared(images), nothing)[0]
        found: torch.Tensor = self.head(pooled.amax(dim=0))
        return found

    @torch.inference_mode()
    def classify(self, images: Sequence[Placed]) -> str:
        """The most probable answer."""
        return self.answers[int(self(images).argmax())]


@dataclass(frozen=True)
class ClassifierFit:
    """`steps` of `batch` cases each, at `rate` with a cosine fall."""

    steps: int
    batch: int
    rate: float
    seed: int = 1


def fit_classifier(config: VisionConfig, cases: Sequence[Case], settings: ClassifierFit) -> Classifier:
    """A classifier for the question that all cases ask, by categorical cross-entropy.

    Raises:
        ValueError: the cases ask several questions, or none.
    """
    if len({case.question for case in cases}) != 1:
        raise ValueError("A classifier answers one question.")
    torch.manual_seed(settings.seed)
    classifier = Classifier(config, sorted({case.answer for case in cases}))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=settings.steps, pct_start=0.1)
    draw = draw_evenly(cases, random.Random(settings.seed))
    for _ in range(settings.steps):
        optimizer.zero_grad(set_to_none=True)
        for _ in range(settings.batch):
            case = draw()
            target = torch.tensor(classifier.answers.index(case.answer))
            loss = functional.cross_entropy(classifier(case.images), target) / settings.batch
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return classifier.eval()
