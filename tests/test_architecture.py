"""The rules of the architecture, held by machine."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    "itsm_portal",
    "releases",
    "changes",
    "problems",
    "incidents",
    "test_environments",
    "distribution",
    "cmdb",
    "software",
    "tickets",
    "notifications",
    "accounts",
]
ENGINE = {
    "executor.py", "freezing.py", "running.py", "judging.py", "soaking.py", "gates.py", "holding.py", "windows.py",
    "going_back.py", "ending.py",
}  # fmt: skip
UPWARD_WORDS = {"core", "common", "utils", "helpers"}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (p for p in sorted((ROOT / folder).rglob("*.py")) if "migrations" not in p.parts)


def test_no_foreign_key_points_to_a_higher_app() -> None:
    rank = {app: position for position, app in enumerate(LAYERS)}
    upward = []
    for app in LAYERS:
        for model in apps.get_app_config(app).get_models(include_auto_created=True):
            for field in model._meta.get_fields():
                if field.auto_created or not field.is_relation or field.related_model is None:
                    continue
                target = field.related_model._meta.app_label
                if target in rank and rank[target] < rank[app]:
                    upward.append(f"{model._meta.label}.{field.name} → {target}")
    assert upward == []


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("folder", ["releases", "distribution", "test_environments"])
def test_the_engine_reads_no_clock_of_its_own(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(folder)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"timezone\.now\(|datetime\.now\(|datetime\.utcnow\(", line)
    ]
    assert found == []


def test_services_know_neither_http_nor_celery() -> None:
    forbidden = re.compile(r"^(celery|rest_framework|django\.http|django\.shortcuts|django\.views|django_htmx)(\.|$)")
    found = []
    for app in LAYERS:
        for path in sources(app):
            is_service = path.name in {"services.py", "conditions.py", "models.py", *ENGINE} or (
                path.parent.name in {"services", "models"}
            )
            if is_service:
                found += [f"{path.relative_to(ROOT)}: {name}" for name in imported(path) if forbidden.match(name)]
    assert found == []


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_tasks_are_thin() -> None:
    for app in LAYERS:
        path = ROOT / app / "tasks.py"
        if not path.exists():
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 10, f"{path}: {node.name}"


def test_no_module_is_a_dumping_ground() -> None:
    names = {part for app in LAYERS for path in sources(app) for part in (*path.parent.parts, path.stem)}
    assert not names & UPWARD_WORDS


def test_modules_and_templates_stay_short() -> None:
    long = [str(p.relative_to(ROOT)) for app in [*LAYERS, "agent"] for p in sources(app) if lines(p) > 400]
    long += [str(p.relative_to(ROOT)) for p in (ROOT / "templates").rglob("*.html") if lines(p) > 150]
    assert long == []


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_agent_needs_only_the_standard_library() -> None:
    allowed = set(sys.stdlib_module_names) | {"agent"}
    found = {(path.stem, name.split(".")[0]) for path in sources("agent") for name in imported(path)}
    # One of the two ways to check a signature; a device without it uses the openssl command.
    assert {entry for entry in found if entry[1] not in allowed} == {("ed25519", "cryptography")}


def test_the_agent_has_no_syntax_that_python_3_9_does_not_know() -> None:
    for path in sources("agent"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_templates_have_no_inline_script_style_or_handler() -> None:
    pattern = re.compile(
        r"<script(?![^>]*\b(src|nonce)=)|<style(?![^>]*nonce=)|\sstyle=\"|\son[a-z]+=\"", re.IGNORECASE
    )
    found = [
        f"{path.relative_to(ROOT)}: {hit.group(0)}"
        for path in (ROOT / "templates").rglob("*.html")
        for hit in pattern.finditer(path.read_text())
        if "notifications" not in path.parts
    ]
    assert found == []
