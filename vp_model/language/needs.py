"""Images that a prompt needs and a study may lack."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from vp_model.language.reading import CONTRAST, Mention, asked_for, read_all, words_of
from vp_model.outcome import InputVolume

NEED_IMAGES = {"enhancement": ("T1", f"T1{CONTRAST}"), "diffusion": ("DWI", "ADC")}
"""Concepts of a prompt, and the sequence types that the last session must have for them."""

OF_SESSIONS = frozenset({"change", "grow", "first", "last", "visit", "peryear"})
"""Concepts that speak of sessions."""
COMPARATIVE, WHICH = frozenset({"grow"}), "which"
"""Concepts that also compare the sides of one structure, and the word with which they do."""
LASTING = frozenset(
    {
        "still",
        "anymore",
        "constant",
        "steady",
        "remain",
        "remains",
        "remained",
        "stay",
        "stays",
        "stayed",
        "going",
        "keep",
        "keeps",
        "rise",
    }
)
"""Words that speak of sessions, too."""
THAN_IT_WAS = ("than", "was")
"""Words that do so together."""
SINCE, STATES, STATED_WITHIN = "since", frozenset({"has", "is", "had", "suffers", "presents", "complains"}), 5
"""A word that gives a reason where one of others stands soon behind it: `since the patient has ataxia`."""
DATED = re.compile(r"(?:19|20)\d\d(?:-\d\d?-\d\d?)?")
HISTORY = re.compile(r"(?:^|(?<=[.;!?(]))(?P<told>[^.;!?()]*\bsince\s+(?:19|20)\d\d)\s*(?=[.;!?)])", re.IGNORECASE)
"""A sentence, or what stands in brackets, that ends with the year since when something is so."""
COURSE = re.compile(r"\bprogressive\s+(?:ms|multiple|supranuclear|aphasia|dementia|disease|course)\b", re.IGNORECASE)
"""Names of diseases that speak of a course."""
OVER_SESSIONS = frozenset({"change", "grow", "peryear", "compare", "first", "each", "both", "visit"})
"""Concepts of prompts that need images of several sessions."""
BRIGHTNESS = frozenset({"intensity", "brighter", "hyper", "hypo", "mean", "max", "min", "enhancement"})
"""Concepts of prompts that need images of one sequence type."""
HOUNSFIELD = frozenset({"hu", "hus", "hounsfield"})
"""Words that ask for CT."""
HINTS = ("restrict", "diffus", "enhanc", "contrast", "fad")
"""Beginnings of words that may ask for a sequence type without naming it."""


def without_history(prompt: str) -> str:
    """A prompt without what only tells since when a patient has an illness, and without the course that an illness has
    its name from.
    """

    def kept(match: re.Match[str]) -> str:
        named = any(mention.sort == "structure" for mention in read_all(match["told"]))
        return match[0] if named else " "

    return COURSE.sub(" ", HISTORY.sub(kept, prompt))


def of_session(volumes: Sequence[InputVolume], place: int) -> list[InputVolume]:
    """The volumes of the first session (0) or the last (-1)."""
    sessions = sorted({volume.session for volume in volumes})
    return [volume for volume in volumes if sessions and volume.session == sessions[place]]


def of_same_kind(
    earlier: Sequence[InputVolume], later: Sequence[InputVolume]
) -> tuple[InputVolume, InputVolume] | None:
    """The first two of one sequence type."""
    pairs = ((before, after) for before in earlier for after in later)
    return next((pair for pair in pairs if pair[0].kind == pair[1].kind), None)


def of_one_session(kinds: Collection[str], volumes: Sequence[InputVolume]) -> bool:
    """Whether one session alone of several has volumes of the sequence types that a prompt names: no change can be
    seen in them.
    """
    there = frozenset(volume.kind for volume in volumes)
    found = {volume.session for volume in volumes if asked_for(volume.kind, kinds, there)}
    return len(found) == 1 and len({volume.session for volume in volumes}) > 1


def may_miss_session(mentions: Sequence[Mention], structures: int) -> bool:
    """Whether a prompt speaks of another session, which a study may lack.

    Args:
        structures: how many the prompt names.
    """
    words = [word for mention in mentions for word in mention.words]
    if {*THAN_IT_WAS} <= {*words} or any(word in LASTING or DATED.fullmatch(word) for word in words):
        return True
    spoken = {
        mention.name
        for index, mention in enumerate(mentions)
        if mention.sort == "concept" and mention.name in OF_SESSIONS and not _reason(mentions, index)
    }
    return bool(spoken) and not (spoken <= COMPARATIVE and WHICH in words and structures == 1)


def _reason(mentions: Sequence[Mention], index: int) -> bool:
    """Whether `since` means `because`."""
    following = {mention.words[0] for mention in mentions[index + 1 : index + 1 + STATED_WITHIN]}
    return mentions[index].words == (SINCE,) and not STATES.isdisjoint(following)


def may_miss_image(prompt: str, volumes: Sequence[InputVolume]) -> bool:
    """Whether a study may lack an image that a prompt needs: one that it names, or that its question needs."""
    mentions = read_all(prompt)
    last = {volume.kind for volume in of_session(volumes, -1)}
    kinds = frozenset(volume.kind for volume in volumes)
    named = tuple(mention.name for mention in mentions if mention.sort == "kind")
    concepts = {mention.name for mention in mentions if mention.sort == "concept"}
    for place in (0, -1) if concepts & OVER_SESSIONS else (-1,):
        there = {volume.kind for volume in of_session(volumes, place)}
        if any(not any(asked_for(kind, (name,), kinds) for kind in there) for name in named):
            return True
    for concept, needed in NEED_IMAGES.items():
        if concept in concepts:
            return not {*needed} <= last
    words = words_of(prompt)
    if not HOUNSFIELD.isdisjoint(words):
        return "CT" not in last
    if any(word.startswith(HINTS) for word in words):
        return True
    return bool(concepts & BRIGHTNESS) and of_same_kind(of_session(volumes, 0), of_session(volumes, -1)) is None
