"""One table makes everything: the documentation is current, and every row is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pydicom.sr import codedict

from tests.vp_model.program_cases import PROGRAMS
from vp_model.program.documentation import documentation
from vp_model.program.operations import OPERATIONS
from vp_model.program.types import Type
from vp_model.program.vocabulary import TASKS, measurement_names


def test_the_reference_is_current(repository: Path) -> None:
    written = (repository / "docs" / "PROGRAM_LANGUAGE.md").read_text(encoding="utf-8")
    assert written == documentation(), "Run: python -m vp_model.program.documentation docs/PROGRAM_LANGUAGE.md"


def test_every_operation_is_documented_typed_and_used_by_name() -> None:
    for name, operation in OPERATIONS.items():
        assert operation.name == name
        assert operation.documentation.endswith(".")
        assert callable(operation.implementation)
        assert all(parameter.types for parameter in operation.parameters)
        assert not any(parameter.repeated for parameter in operation.parameters[:-1])


def test_every_measurement_name_has_a_meaning_and_its_parts_exist() -> None:
    names = measurement_names()
    for entry in names.values():
        assert entry.meaning
        assert entry.kind in ("quantity", "point", "box", "part")
        assert all(names[part].kind == "part" for part in entry.parts)
        assert (len(entry.parts) == 3) == (entry.kind in ("point", "box"))


def test_codes_are_those_of_the_standard() -> None:
    codes = {entry.code for entry in measurement_names().values() if entry.code}
    for value, scheme, meaning in codes:
        keyword = meaning.title().replace(" ", "")
        assert getattr(getattr(codedict.codes, scheme), keyword).value == value


def test_tasks_are_the_seventeen_categories_of_the_paper() -> None:
    assert len(set(TASKS)) == 17


def test_the_programs_of_these_tests_call_most_operations() -> None:
    assert sum(f"{name}(" in "".join(PROGRAMS) for name in OPERATIONS) > 20
    assert {operation.result for operation in OPERATIONS.values()} >= set(Type) - {
        Type.VOLUME,
        Type.NUMBER,
        Type.TEXT,
        Type.BOOLEAN,
    }


def test_the_language_loads_without_torch() -> None:
    code = (
        "import sys, vp_model.program.environment, vp_model.program.results, vp_model.program.writer;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
