"""The state μ as tokens: what α is told before its first step, and what running a step adds (paper 3.1, A.2)."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from tokenizers import Tokenizer

from vp_model.language.dates import with_dates
from vp_model.language.reading import ASKED, asked_for, kind_mark, reading_of
from vp_model.language.tokens import CODE, FEEDBACK, PROMPT, READING, SESSION, VOLUME
from vp_model.outcome import InputVolume

MAXIMUM_PROMPT_CHARACTERS = 1000


def initial_text(
    prompt: str, volumes: Sequence[InputVolume], known: Collection[str], chance: random.Random | None = None
) -> str:
    """μ₁: acquisition date of each session, names and sequence types of its volumes, and the reading of the prompt.

    Volumes of a sequence type that the prompt names are marked, and the date of a session is put as in the list of
    sessions. After the reading stands its outline.

    Args:
        known: names of the structures that the weights have learned, without sides.
        chance: in training, forget a part of what was read.
    """
    kinds = frozenset(volume.kind for volume in volumes)
    asked = with_dates(prompt, {volume.visit for volume in volumes})
    reading = reading_of(clean(asked), known, kinds, chance)
    listed = ""
    session: int | None = None
    for volume in volumes:
        if volume.session != session:
            listed += f"{SESSION}{volume.visit or 'undated'}"
            session = volume.session
        mark = ASKED if asked_for(volume.kind, reading.kinds, kinds) else ""
        listed += f"{VOLUME}{volume.name}{kind_mark(volume.kind)}{mark}"
    sessions = len({volume.session for volume in volumes})
    return f"{listed}{PROMPT}{reading.text}{READING}{sessions}{reading.outline}{CODE}"


def feedback_text(output: str) -> str:
    """z: what a step printed. Its encodings ε follow it as embeddings, one `<ENC>` each."""
    return f"{FEEDBACK}{clean(output)}{CODE}"


def clean(text: str) -> str:
    """Text that cannot be mistaken for a special token, on one line, in lower case: α need not learn capitals."""
    return " ".join(text.lower().replace("<", " ").replace(">", " ").split())[:MAXIMUM_PROMPT_CHARACTERS]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids; special tokens in `text` are recognised, none is added."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
