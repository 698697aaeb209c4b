"""Where results go: which destinations a run has, what each takes, and how something is sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from vp_node.config import Config, FolderDestination, Peer, WebDestination
from vp_node.database.models import Result, Run, Study
from vp_node.dicom.sender import SendReport, probe, send
from vp_node.dicom.stow import store_by_web
from vp_node.prompts.definition import PromptDefinition
from vp_node.results.model import Form, Wanted

Destination = Peer | WebDestination | FolderDestination

SENDER = "sender"
"""The destination that means: back to whom the study came from."""

_SOP_CLASS_OF_FORM: dict[Form, str] = {
    "binary": "1.2.840.10008.5.1.4.1.1.66.4",
    "fractional": "1.2.840.10008.5.1.4.1.1.66.4",
    "labelmap": "1.2.840.10008.5.1.4.1.1.66.7",
}


class NoDestination(ValueError):
    """A destination of a prompt is nobody that results can be sent to; the message says what to configure."""


def resolve(config: Config, study: Study, destination: str) -> Destination:
    """What a destination's name means for a study.

    Raises:
        NoDestination
    """
    if destination == SENDER:
        return _sender(config, study)
    others: tuple[Destination, ...] = (*config.web_destinations, *config.folder_destinations)
    for item in others:
        if item.name == destination:
            return item
    try:
        peer = config.peer(destination)
    except KeyError:
        raise NoDestination(
            f"No peer in the configuration is named {destination!r}; add it under [[peers]], [[web_destinations]] or "
            "[[folder_destinations]]."
        ) from None
    if not peer.receives_results:
        raise NoDestination(f"The peer {destination!r} is configured with receives_results = false.")
    return peer


def _sender(config: Config, study: Study) -> Peer:
    title = study.calling_ae_title
    peers = [peer for peer in config.peers if peer.ae_title == title]
    if not peers:
        raise NoDestination(
            f"The study came from the AE title {title!r}, which is no peer in the configuration: results cannot go "
            "back to it. Add it under [[peers]], then retry the delivery."
        )
    receiving = [peer for peer in peers if peer.receives_results]
    if not receiving:
        raise NoDestination(f"The study came from {title!r}, which is configured with receives_results = false.")
    return next((peer for peer in receiving if peer.host == study.sender_address), receiving[0])


def destinations_of(config: Config, run: Run, status: str) -> tuple[str, ...]:
    """Names of a run's destinations: those of its prompt or else the default ones, and what the rules add.

    Args:
        status: of its outcome, `answered` or `refused`.
    """
    definition = PromptDefinition.from_json(run.prompt_version.definition)
    names = list(definition.destinations or config.delivery.default_destinations)
    holding = [
        rule
        for rule in config.delivery.rules
        if status in rule.statuses
        and _matches(run.prompt_version.prompt.name, rule.prompts)
        and _matches(run.study.calling_ae_title, rule.senders)
    ]
    if any(rule.instead for rule in holding):
        names = []
        holding = [rule for rule in holding if rule.instead]
    for rule in holding:
        names += rule.destinations
    return tuple(dict.fromkeys(names))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def wanted_of(config: Config, run: Run, names: Sequence[str]) -> Wanted:
    """What the destinations of a run take together; one that cannot be resolved takes what is always made."""
    found: list[Destination] = []
    for name in names:
        try:
            found.append(resolve(config, run.study, name))
        except NoDestination:
            continue  # `fill_outbox` makes it a dead letter, which an admin sees
    forms = dict.fromkeys(form for item in found for form in item.segmentations)
    return Wanted(
        forms=tuple(forms) or ("binary",),
        capture=any("capture" in item.takes for item in found),
        pdf=any("pdf" in item.takes for item in found),
    )


def takes(destination: Destination, result: Result) -> bool:
    """Whether an object may go to a destination, as far as the configuration says."""
    return result.role in destination.takes and (not result.form or result.form in destination.segmentations)


def form_for(destination: Destination, forms: Sequence[str], calling_ae_title: str, config: Config) -> str | None:
    """The first form of its preference that a destination accepts and that was made.

    A DICOM peer is asked by proposing the SOP class; with one form to choose from nothing is asked. None: the peer
    cannot be asked now.
    """
    possible = [form for form in destination.segmentations if form in forms]
    if len(possible) < 2 or not isinstance(destination, Peer):
        return possible[0] if possible else ""
    classes = [_SOP_CLASS_OF_FORM[form] for form in possible]
    accepted = probe(destination, classes, calling_ae_title, config.tls)
    if accepted is None:
        return None
    return next((form for form in possible if _SOP_CLASS_OF_FORM[form] in accepted), "")


def deliver_to(
    destination: Destination, paths: Sequence[Path], calling_ae_title: str, config: Config
) -> Sequence[SendReport]:
    """Sends files, and reports on each."""
    if isinstance(destination, Peer):
        return send(destination, paths, calling_ae_title, tls=config.tls)
    if isinstance(destination, WebDestination):
        return store_by_web(destination, paths)
    return _copy(destination, paths)


def _copy(destination: FolderDestination, paths: Sequence[Path]) -> list[SendReport]:
    """Files under names made from their SOP Instance UIDs, whole or not at all."""
    reports = []
    for path in paths:
        data = path.read_bytes()
        name = f"{path.parent.parent.parent.name[:8]}-{path.stem}.dcm"
        unfinished = destination.path / f".{name}.part"
        try:
            destination.path.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data)
            unfinished.replace(destination.path / name)
        except OSError as error:
            reports.append(SendReport(path, "", None, "retry", f"{destination.name}: {error.strerror}."))
        else:
            reports.append(SendReport(path, "", 0, "sent", f"Written to {destination.name}."))
    return reports
