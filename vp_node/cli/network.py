"""Commands on peers: `peers`, `echo`, `send-test`, `send`."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import load
from vp_node.cli.errors import FAILURE, USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, listing, note, print_json, say, with_progress, working

if TYPE_CHECKING:
    from vp_node.config import Config, Peer
    from vp_node.dicom.sender import SendReport

PANEL = "Peers"
BATCH = 100
"""Files on one association of `send`: between two the progress moves."""

PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="Name of a peer in the configuration.")]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(peers)
    app.command(rich_help_panel=PANEL)(echo)
    app.command(name="send-test", rich_help_panel=PANEL)(send_test)
    app.command(rich_help_panel=PANEL)(send)


def peers(
    ctx: typer.Context,
    try_them: Annotated[bool, typer.Option("--echo", help="Also ask each whether it answers.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lists the DICOM applications that the node talks to."""
    config = load(ctx)
    rows: list[dict[str, Any]] = [peer.model_dump(mode="json") for peer in config.peers]
    columns = [
        Column("name", "Name"),
        Column("ae_title", "AE title"),
        Column("host", "Host"),
        Column("port", "Port", right=True),
        Column("may_send", "May send"),
        Column("receives_results", "Receives results"),
    ]
    if try_them:
        from vp_node.dicom.sender import echo as ask

        for row, peer in zip(rows, with_progress(config.peers, "Asking"), strict=True):
            report = ask(peer, _calling(config, peer))
            row |= {"answers": report.reachable, "message": report.message}
        columns += [Column("answers", "Answers"), Column("message", "Message")]
    listing(rows, columns, as_json, "No peer is configured. Add [[peers]] to the configuration.")
    if try_them and not all(row["answers"] for row in rows):
        raise typer.Exit(FAILURE)


def echo(ctx: typer.Context, peer: PeerArgument, as_json: JsonOption = False) -> None:
    """Asks a peer whether it answers (C-ECHO). Exit code 1 where it does not."""
    from vp_node.dicom.sender import echo as ask

    config = load(ctx)
    found = _peer(config, peer)
    with working(f"Calling {found.ae_title} …"):
        report = ask(found, _calling(config, found))
    if as_json:
        print_json({"peer": found.name, "answers": report.reachable, "message": report.message})
    elif report.reachable:
        say(report.message)
    else:
        note(report.message)
    if not report.reachable:
        raise typer.Exit(FAILURE)


def send_test(ctx: typer.Context, peer: PeerArgument, as_json: JsonOption = False) -> None:
    """Stores a small test picture at a peer, of a patient VPNODE-TEST who does not exist. Twice is the same object."""
    from vp_node.cli.sample import PATIENT_ID, write_sample
    from vp_node.dicom.sender import send as store

    config = load(ctx)
    found = _peer(config, peer)
    with tempfile.TemporaryDirectory() as folder, working(f"Sending to {found.ae_title} …"):
        path = Path(folder) / "test.dcm"
        uid = write_sample(path, config.node.name, found.name)
        (report,) = store(found, [path], _calling(config, found))
    if as_json:
        print_json(
            {
                "peer": found.name,
                "outcome": report.outcome,
                "status": report.status,
                "message": report.message,
                "sop_instance_uid": uid,
                "patient_id": PATIENT_ID,
            }
        )
    elif report.outcome == "sent":
        say(f"{report.message}. A study of the patient {PATIENT_ID} is there now; it may be deleted.")
    else:
        note(report.message)
    if report.outcome != "sent":
        raise typer.Exit(FAILURE)


def send(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(exists=True, help="A folder of DICOM files, or one file.")],
    peer: PeerArgument,
    as_json: JsonOption = False,
) -> None:
    """Stores the DICOM files of a folder at a peer (C-STORE). Exit code 1 where one did not arrive."""
    from vp_node.dicom.sender import send as store

    config = load(ctx)
    found = _peer(config, peer)
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise CommandError(f"{folder} holds no file.", USAGE)
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    reports: list[SendReport] = []
    for batch in with_progress(batches, f"Sending {len(paths)} files"):
        reports += store(found, batch, _calling(config, found))
    instances = [report for report in reports if report.sop_instance_uid]
    unsent = [report for report in instances if report.outcome != "sent"]
    if as_json:
        counts = {"sent": len(instances) - len(unsent), "not_sent": len(unsent)}
        failed = [{"file": str(item.path), "status": item.status, "message": item.message} for item in unsent]
        print_json({**counts, "no_instances": len(reports) - len(instances), "failures": failed})
    else:
        say(f"{len(instances) - len(unsent)} of {len(instances)} instances arrived at {found.name}.")
        if len(reports) > len(instances):
            say(f"{len(reports) - len(instances)} file(s) are no DICOM instances and were left out.")
        for message, count in Counter(report.message for report in unsent).most_common():
            note(f"{count} not sent: {message}")
    if unsent or not instances:
        raise typer.Exit(FAILURE)


def _peer(config: Config, name: str) -> Peer:
    try:
        return config.peer(name)
    except KeyError:
        known = ", ".join(peer.name for peer in config.peers) or "none; add [[peers]] to the configuration"
        raise CommandError(f"No peer is named {name!r}. Known: {known}.") from None


def _calling(config: Config, peer: Peer) -> str:
    return peer.calls_as or config.dicom.ae_titles[0]
