"""From templates to prompts: slots within slots, synonyms, frames around phrases (paper 3.2, Figure 6).

A task's file in `templates/` holds what can be asked, in four forms: `nouns` ("volume of the {roi}"), `clauses` ("how
large the {roi} is"), `commands` ("segment the {roi}") and whole `questions`. The first three stand in `frames.json`
("could you tell me what the {n} is"). Each file has a part to train on and one that is held out, which measures
generalisation to phrasings never seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from vp_train.prompts.data import frames, phrases, slots, task_names
from vp_train.prompts.noise import with_noise
from vp_train.prompts.paraphrase import TELEGRAPHIC, attribute_of, keywords, paraphrased
from vp_train.prompts.surroundings import surrounded
from vp_train.prompts.tidy import tidy

SLOT = re.compile(r"\{([a-z][a-z\- ]*)\}")
OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
MAXIMUM_DEPTH = 8
FORMS: Mapping[str, str] = MappingProxyType({"nouns": "{n}", "clauses": "{c}", "commands": "{v}"})
"""Forms that stand in frames, with the place that a frame has for them."""
UNFRAMED = 0.3
"""Share of framed phrases that are used as they are: terse, as in a work list."""
TOPICS, ATTRIBUTE, TOPIC = 0.2, "{a}", "{t}"
"""Share of noun phrases of one region whose frame tells the region apart ("as for the {t}: what is its {a}"), and the
places that such a frame has for the property and the region."""
HELD_OUT_SYNONYMS = 0.5
"""Share of held-out synonyms where a slot has some, in held-out prompts."""


@cache
def templates(held_out: bool = False) -> Mapping[str, Sequence[str]]:
    """All templates of each task: its questions, and its phrases in all of their frames."""
    found: dict[str, list[str]] = {}
    for task in task_names():
        known = phrases(task, held_out)
        found[task] = list(known.get("questions", ()))
        for form, place in FORMS.items():
            found[task] += [
                frame.replace(place, text) for text in known.get(form, ()) for frame in frames(held_out)[form]
            ]
    return MappingProxyType(found)


@cache
def _kept(task: str) -> frozenset[str]:
    """Templates of a task that are never trained on."""
    return frozenset(templates(True)[task])


def draw_template(task: str, chance: random.Random, held_out: bool = False, avoid: Sequence[str] = ()) -> str:
    """A template of a task. Every phrase and question is as likely as any other, whatever the number of frames.

    Args:
        avoid: words (slots, such as `{adjective}`) that must not stand in it.
    """
    known = phrases(task, held_out)
    choices = [(form, text) for form, texts in known.items() for text in texts if not any(w in text for w in avoid)]
    form, text = chance.choice(choices)
    framed = _framed(form, text, chance, held_out)
    if held_out:
        return framed
    other = paraphrased(framed, chance)
    return framed if other in _kept(task) else other


def _framed(form: str, text: str, chance: random.Random, held_out: bool) -> str:
    """A phrase in one of its frames, or as it is."""
    asked = attribute_of(text) if form == "nouns" and not held_out else None
    if asked is not None and chance.random() < TELEGRAPHIC:
        return keywords(*asked, chance)
    if asked is not None and chance.random() < TOPICS:
        frame = chance.choice(frames()["topics"])
        return frame.replace(ATTRIBUTE, asked[0]).replace(TOPIC, asked[1])
    if form not in FORMS or chance.random() < UNFRAMED:
        return text
    return chance.choice(frames(held_out)[form]).replace(FORMS[form], text)


def synonym(slot: str, chance: random.Random, held_out: bool = False) -> str:
    """A synonym of a slot; a held-out prompt takes a held-out one half of the time, where there are some.

    Raises:
        KeyError: the slot has no synonyms.
    """
    kept = slots(True).get(slot, ())
    if held_out and kept and chance.random() < HELD_OUT_SYNONYMS:
        return chance.choice(kept)
    return chance.choice(slots()[slot])


def expand(template: str, values: Mapping[str, str], chance: random.Random, held_out: bool = False) -> str:
    """Fills a template: `{slot}` by a value or a synonym, which may hold slots again, `[…]` kept half of the time.

    Raises:
        KeyError: a slot has neither value nor synonyms.
    """
    return fill(template, values, chance, held_out)[0]


def fill(
    template: str, values: Mapping[str, str], chance: random.Random, held_out: bool = False
) -> tuple[str, frozenset[str]]:
    """As `expand`; and the names of all slots that were filled."""
    text = template
    used: set[str] = set()

    def one(match: re.Match[str]) -> str:
        used.add(match.group(1))
        return values[match.group(1)] if match.group(1) in values else synonym(match.group(1), chance, held_out)

    for _ in range(MAXIMUM_DEPTH):
        text = OPTIONAL.sub(lambda match: match.group(1) if chance.random() < 0.5 else "", text)
        if not SLOT.search(text):
            break
        text = SLOT.sub(one, text)
    return tidy(text), frozenset(used)


def as_people_write(prompt: str, chance: random.Random) -> str:
    """The prompt with another case, punctuation, courtesy, or a typing error, as happens."""
    return with_noise(surrounded(prompt, chance).text, chance)
