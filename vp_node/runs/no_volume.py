"""A run that found no volume: whoever asked for it in person gets a report that says so, from the PACS alone.

A standing prompt that meets a study without a brain volume leaves nothing in the PACS by default: a node that sees
every study of a hospital would put a refusal into each of them. The run itself, with its reason, is seen in the node.
"""

from __future__ import annotations

from vp_model.outcome import OUTCOME_FILE, Outcome, Transcript
from vp_node.config import Config
from vp_node.database.models import Run
from vp_node.runs.context import RunContext
from vp_node.runs.planning import STANDING


def leaves_a_report(run: Run, config: Config) -> bool:
    rule = config.results.report_without_volume
    return rule == "always" or (rule == "asked" and run.requested_by != STANDING)


def refuse_with_report(context: RunContext, run_id: str, attempt: int, reason: str) -> None:
    """Writes a refused outcome where the model would have written one; encoding makes a report of it."""
    folder = context.run_folder(run_id, attempt) / "outcome"
    if (folder / OUTCOME_FILE).exists():
        return
    with context.sessions() as session:
        prompt = session.get_one(Run, run_id).prompt_version.text
    with context.compute.process() as process:
        model = process.identity()
    folder.mkdir(parents=True, exist_ok=True)
    Outcome("refused", Transcript(prompt, ()), model, reason=reason).save(folder)
