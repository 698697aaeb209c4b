"""A page about one run for a browser: one file with its pictures in it, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from vp_model.outcome import Measurement, Outcome
from vp_model.program.narration import readable
from vp_node.results.alignments import alignment_words
from vp_node.results.codes import structure_codes
from vp_node.results.groups import DISCLAIMER
from vp_node.results.model import Picture

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.notice { background: #fff4d6; border-left: .3rem solid #d99a00; padding: .5rem .8rem; }
.warning { background: #fde8e6; border-left: .3rem solid #c0392b; padding: .5rem .8rem; margin: .5rem 0; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .9rem .25rem 0; vertical-align: top; }
th { border-bottom: 1px solid #aaa; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 0; overflow-wrap: anywhere; }
pre { background: #f3f4f6; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure img { max-width: 100%; background: black; } figcaption { color: #555; }
.swatch { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border: 1px solid #777; }
"""


def webpage(run: Mapping[str, Any], outcome: Outcome, pictures: Sequence[Picture]) -> str:
    """HTML of a run: what was asked, answered and found, the pictures, how it was done, and what was made of it.

    Args:
        run: as `vp-node run show --json` gives it.
    """
    parts = [
        f"<h1>{escape(outcome.transcript.prompt or str(run.get('text', '')))}</h1>",
        f'<p class="notice">{escape(DISCLAIMER)}</p>',
        *(f'<p class="warning">{escape(warning)}</p>' for warning in outcome.warnings),
        _answer(run, outcome),
        _findings(outcome),
        *(_figure(picture) for picture in pictures),
        _transcript(outcome),
        _provenance(run, outcome),
        _objects(run),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(str(run.get('prompt', 'Result')))}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _answer(run: Mapping[str, Any], outcome: Outcome) -> str:
    words = "".join(f"<p>{escape(text.text)}</p>" for text in outcome.texts)
    if outcome.status != "answered":
        words = f'<p class="warning">No result: {escape(outcome.reason or str(run.get("reason", "")))}</p>' + words
    if not outcome.measurements:
        return f"<h2>Answer</h2>{words}" if words else ""
    rows = [
        (
            escape(item.label or item.structure),
            escape(item.name) + (" <em>(experimental)</em>" if item.experimental else ""),
            f"{item.value:.5g}",
            escape("" if item.unit == "1" else item.unit),
            escape(_when(item)),
        )
        for item in outcome.measurements
    ]
    return f"<h2>Answer</h2>{words}" + _table(("Region", "Measurement", "Value", "Unit", "Date"), rows, number=2)


def _when(item: Measurement) -> str:
    return " to ".join(item.visits) or item.visit


def _findings(outcome: Outcome) -> str:
    """The legend: each region with the colour that viewers are told to show it in."""
    if not outcome.masks:
        return ""
    rows = []
    for mask in outcome.masks:
        red, green, blue = structure_codes(mask.structure, mask.side).color
        swatch = f'<span class="swatch" style="background: rgb({red} {green} {blue})"></span>'
        remark = " <em>(experimental)</em>" if mask.experimental else ""
        rows.append((swatch + escape(mask.label) + remark, escape(mask.volume), escape(mask.visit)))
    note = "<p>Axial and coronal pictures show the patient's left on the right.</p>"
    return "<h2>Regions</h2>" + _table(("Region", "On", "Date"), rows) + note


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _transcript(outcome: Outcome) -> str:
    parts = []
    for step in outcome.transcript.steps:
        parts.append(f"<pre>{escape(step.code)}</pre>")
        if step.output:
            parts.append(f"<p>It printed:</p><pre>{escape(step.output)}</pre>")
        if step.error:
            parts.append(f'<p class="warning">{escape(step.error)}</p>')
    inputs = [
        (escape(item.name), escape(item.kind), escape(item.visit), str(item.session + 1))
        for item in outcome.transcript.volumes
    ]
    images = "<h2>Images</h2>" + _table(("Name", "Kind", "Date", "Session"), inputs) if inputs else ""
    laid = "".join(f"<p>{escape(words)}</p>" for words in alignment_words(outcome))
    alignment = f"<h2>Alignment</h2>{laid}" if laid else ""
    if not parts:
        return images + alignment
    words = f"<h2>How it was done</h2><pre>{escape(readable(outcome.transcript))}</pre>"
    return images + alignment + words + "<h2>Program</h2>" + "".join(parts)


def _provenance(run: Mapping[str, Any], outcome: Outcome) -> str:
    model = outcome.model
    entries = (
        ("Prompt", f"{run.get('prompt', '')}, version {run.get('version', '')}"),
        ("Requested by", run.get("requested_by", "")),
        ("Model", f"{model.name} {model.version}, SHA-256 {model.content_hash}"),
        ("Run", run.get("run", "")),
        ("Study", run.get("study", "")),
        ("State", f"{run.get('state', '')} {run.get('reason', '')}"),
    )
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in entries if value)
    return f"<h2>Where it comes from</h2><dl>{items}</dl>"


def _objects(run: Mapping[str, Any]) -> str:
    rows = [
        (
            escape(str(item.get("role", ""))),
            escape(str(item.get("sop_instance_uid", ""))),
            "<br>".join(escape(str(finding.get("message", ""))) for finding in item.get("findings") or []) or "good",
        )
        for item in run.get("results", ())
    ]
    return "<h2>Objects</h2>" + _table(("Object", "SOP Instance UID", "Check"), rows) if rows else ""


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], number: int | None = None) -> str:
    """Cells are HTML already. `number`: the column that is aligned to the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="number">{cell}</td>' if k == number else f"<td>{cell}</td>" for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
