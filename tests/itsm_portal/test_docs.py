"""The documents: what they point at exists, and every picture is one that the script takes."""

import ast
import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
POINTER = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def pointed_at(document: Path) -> list[Path]:
    """The files that a document names by relative links."""
    found = POINTER.findall(document.read_text())
    return [(document.parent / address).resolve() for address in found if "://" not in address]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_at_is_there(document: Path) -> None:
    assert [str(path) for path in pointed_at(document) if not path.exists()] == []


def test_every_picture_is_taken_by_the_script_and_shown_somewhere() -> None:
    """Mend with `make screenshots`."""
    tree = ast.parse((ROOT / "docs/screenshots.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Shot"]
    taken = {f"{node.args[0].value}.png" for node in calls if isinstance(node.args[0], ast.Constant)}
    shown = {path.name for document in DOCUMENTS for path in pointed_at(document) if path.suffix == ".png"}
    kept = {path.name for path in (ROOT / "docs/images").iterdir()}
    assert taken == kept == shown
