"""Commands on prompts: `prompts add|edit|list|show|enable|disable|dry-run|examples`."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_node.cli.context import ByOption, OpenNode, find_study, opened
from vp_node.cli.errors import FAILURE, USAGE, CommandError
from vp_node.cli.output import Column, JsonOption, facts, listing, print_json, say, with_progress
from vp_node.cli.runs import print_choices

if TYPE_CHECKING:
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.dry_run import DryRun, Planner

PANEL = "Prompts"

prompt_commands = typer.Typer(help="Standing prompts: what is asked of which studies.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a prompt.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A prompt in TOML (or JSON: *.json).")]


def register(app: typer.Typer) -> None:
    app.add_typer(prompt_commands, name="prompts", rich_help_panel=PANEL)


@prompt_commands.command()
def add(
    ctx: typer.Context,
    file: FileArgument,
    by: ByOption,
    disabled: Annotated[bool, typer.Option("--disabled", help="Add it switched off.")] = False,
) -> None:
    """Adds a standing prompt from a file. It applies to studies that are complete from now on."""
    from vp_node.prompts.files import read_prompt_file
    from vp_node.prompts.repository import add_prompt, check_destinations

    definition = read_prompt_file(file)
    with opened(ctx) as node:
        check_destinations(definition, node.config)
        with node.sessions.begin() as session:
            add_prompt(session, definition, by, enabled=not disabled)
    say(f"Added {definition.name!r}, version 1, {'disabled' if disabled else 'enabled'}.")
    say(f"What it would do with the studies that are here: vp-node prompts dry-run {definition.name}")


@prompt_commands.command()
def edit(
    ctx: typer.Context,
    name: NameArgument,
    by: ByOption,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What it says from now on; without: an editor opens.")
    ] = None,
) -> None:
    """Writes the next version of a prompt, from a file or in an editor. Runs keep the version that they had."""
    from vp_node.prompts.files import read_prompt_file
    from vp_node.prompts.repository import check_destinations, edit_prompt

    with opened(ctx) as node:
        definition = read_prompt_file(file) if file is not None else _edited(node, name)
        check_destinations(definition, node.config)
        with node.sessions.begin() as session:
            edited = edit_prompt(session, name, definition, by)
            number = edited.version.number
    say(f"{name!r} is version {number} now." if edited.changed else f"{name!r} says this already: version {number}.")


@prompt_commands.command("list")
def list_all(
    ctx: typer.Context,
    ad_hoc: Annotated[bool, typer.Option("--ad-hoc", help="Also prompts that were asked once.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lists the prompts."""
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.repository import current_version, list_prompts

    with opened(ctx) as node, node.sessions() as session:
        rows: list[dict[str, Any]] = []
        for prompt in list_prompts(session, ad_hoc=ad_hoc):
            version = current_version(prompt)
            definition = PromptDefinition.from_json(version.definition)
            rows.append(
                {
                    "name": prompt.name,
                    "enabled": prompt.enabled,
                    "standing": prompt.standing,
                    "version": version.number,
                    "owner": prompt.owner,
                    "priority": definition.priority,
                    "schedule": str(definition.schedule),
                    "destinations": list(definition.destinations),
                    "text": version.text,
                    "changed_at": version.created_at,
                    "changed_by": version.created_by,
                }
            )
    columns = (
        Column("name", "Name"),
        Column("enabled", "Enabled"),
        Column("version", "Ver.", right=True),
        Column("owner", "Owner"),
        Column("priority", "Priority", right=True),
        Column("schedule", "When"),
        Column("destinations", "Goes to", lambda names: ", ".join(names) or "default"),
        Column("text", "Asks"),
    )
    listing(rows, columns, as_json, "There is no standing prompt. See `vp-node prompts examples`.")


@prompt_commands.command()
def show(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[int | None, typer.Option(help="An earlier version; by default the current one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Shows a prompt as a file that `prompts edit` takes, and its history."""
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.files import prompt_to_toml
    from vp_node.prompts.repository import find_prompt, version_of

    with opened(ctx) as node, node.sessions() as session:
        prompt = find_prompt(session, name)
        shown = version_of(prompt, version)
        definition = PromptDefinition.from_json(shown.definition)
        history = [
            {"version": item.number, "id": item.id, "at": item.created_at, "by": item.created_by}
            for item in prompt.versions
        ]
        enabled, number = prompt.enabled, shown.number
    if as_json:
        print_json({"enabled": enabled, "version": number, "definition": definition.to_json(), "history": history})
        return
    say(f"# Version {number} of {len(history)}, {'enabled' if enabled else 'disabled'}.")
    for item in history:
        say(f"#   {item['version']}: {item['at']:%Y-%m-%d %H:%M} UTC, {item['by']}")
    say(prompt_to_toml(definition).rstrip())


@prompt_commands.command()
def enable(ctx: typer.Context, name: NameArgument, by: ByOption) -> None:
    """Switches a prompt on, for studies that are complete from now on."""
    _switch(ctx, name, True, by)


@prompt_commands.command()
def disable(ctx: typer.Context, name: NameArgument, by: ByOption) -> None:
    """Switches a prompt off. Runs that were asked for go on."""
    _switch(ctx, name, False, by)


@prompt_commands.command("dry-run")
def dry_run_command(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a prompt, or a file with one.")],
    study: Annotated[list[str] | None, typer.Option(help="Only this study (may be repeated).")] = None,
    matching: Annotated[bool, typer.Option("--matching", help="Show only studies that match.")] = False,
    program: Annotated[
        bool, typer.Option("--program/--no-program", help="Also ask the model which program it would run.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Says what a prompt would do with the stored studies: which match and why, which volumes it would take and why,
    which program it would run. Stores nothing, runs nothing."""
    from vp_node.prompts.dry_run import complete_studies, dry_run

    with opened(ctx) as node:
        definition = _named_or_in_file(node, prompt)
        with node.sessions() as session:
            uids = [find_study(session, item).study_instance_uid for item in study or ()]
            ids = complete_studies(session, uids)
        found: list[DryRun] = []
        with _planner(node, program and bool(ids)) as planner:
            for identifier in with_progress(ids, "Looking at studies"):
                found += dry_run(node.sessions, definition, [identifier], node.data_folder, planner, node.config.priors)
    shown = [item for item in found if item.matched or not matching]
    if as_json:
        print_json([{**vars(item), "taken": item.taken} for item in shown])
    else:
        for item in shown:
            _print_dry_run(item)
        say(f"{sum(item.matched for item in found)} of {len(found)} complete studies match. Nothing was stored or run.")
    if any(item.plan is not None and item.plan["status"] == "failed" for item in found):
        raise typer.Exit(FAILURE)


@prompt_commands.command()
def examples(name: Annotated[str, typer.Argument(help="Print this one, to be saved as a file.")] = "") -> None:
    """Lists example prompts, or prints one."""
    from vp_node.prompts.files import example_prompts

    known = example_prompts()
    if not name:
        for item, text in known.items():
            say(f"{item:24} {text.splitlines()[0].removeprefix('# ')}")
        say("\nPrint one with `vp-node prompts examples NAME > NAME.toml`, edit it, and add it.")
    elif name in known:
        say(known[name].rstrip())
    else:
        raise CommandError(f"There is no example {name!r}. There are: {', '.join(known)}.")


def _switch(ctx: typer.Context, name: str, enabled: bool, by: str) -> None:
    from vp_node.prompts.repository import set_enabled

    with opened(ctx) as node, node.sessions.begin() as session:
        changed = set_enabled(session, name, enabled, by)
    word = "enabled" if enabled else "disabled"
    say(f"{name!r} is {word}." if changed else f"{name!r} was {word} already.")


def _edited(node: OpenNode, name: str) -> PromptDefinition:
    """The prompt as a person leaves it in an editor."""
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.files import parse_prompt, prompt_to_toml
    from vp_node.prompts.repository import current_version, find_prompt

    with node.sessions() as session:
        definition = PromptDefinition.from_json(current_version(find_prompt(session, name)).definition)
    return parse_prompt(_in_editor(prompt_to_toml(definition)))


def _in_editor(text: str) -> str:
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompt.toml"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*command, str(path)])
        except OSError as error:
            reason = f"The editor {command[0]!r} cannot be started ({error.strerror}). Set EDITOR, or name a file."
            raise CommandError(reason, USAGE) from error
        if done.returncode != 0:
            raise CommandError(f"The editor ended with {done.returncode}: the prompt is as it was.", FAILURE)
        return path.read_text(encoding="utf-8")


def _named_or_in_file(node: OpenNode, prompt: str) -> PromptDefinition:
    from vp_node.prompts.definition import PromptDefinition
    from vp_node.prompts.files import read_prompt_file
    from vp_node.prompts.repository import current_version, find_prompt

    path = Path(prompt)
    if path.suffix.casefold() in (".toml", ".json") or path.is_file():
        return read_prompt_file(path)
    with node.sessions() as session:
        return PromptDefinition.from_json(current_version(find_prompt(session, prompt)).definition)


class _planner:
    """The model as a planner, in the compute process; None where no program is wanted.

    What the process cannot do becomes a failed plan, so that matches and volumes are shown all the same.
    """

    def __init__(self, node: OpenNode, wanted: bool) -> None:
        from vp_node.compute import child
        from vp_node.compute.process import ComputeProcess

        self._process = ComputeProcess(node.config.compute, child.DEFAULT_AGENT) if wanted else None

    def __enter__(self) -> Planner | None:
        return self._plan if self._process is not None else None

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.close()

    def _plan(self, text: str, volumes: tuple[Any, ...]) -> dict[str, Any]:
        from vp_node.compute.codec import PlanJob
        from vp_node.compute.failure import ComputeFailure

        assert self._process is not None  # noqa: S101 (only given away where it is there)
        try:
            return self._process.plan(PlanJob(text, volumes))
        except ComputeFailure as failure:
            return {"status": "failed", "reason": str(failure), "task": "", "structures": [], "program": ""}


def _print_dry_run(item: DryRun) -> None:
    say(f"Study {item.study_instance_uid}")
    facts((("date", item.study_date), ("matches", item.matched)))
    for line in item.explanation:
        say(f"    {line}")
    if item.choices:
        print_choices(list(item.choices))
    elif item.matched:
        say("The study holds no volume.")
    if item.plan is not None:
        if item.plan["status"] != "answered":
            say(f"The model would not answer ({item.plan['status']}): {item.plan['reason']}")
        if item.plan["program"]:
            say("Program")
            say("\n".join(f"    {line}" for line in item.plan["program"].splitlines()))
    say()
