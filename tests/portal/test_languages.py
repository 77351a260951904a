"""English and German: each person reads the portal in his language."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from tests.portal.story import tell_story

CATALOGUE = Path(settings.BASE_DIR) / "locale/de/LC_MESSAGES/django.po"


def test_every_text_of_the_catalogue_is_translated() -> None:
    catalogue = polib.pofile(str(CATALOGUE))
    assert len(catalogue) > 2_900
    assert [entry.msgid for entry in catalogue if not entry.translated()] == []


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="needs GNU gettext")
def test_the_catalogue_has_every_text_of_the_source(tmp_path: Path) -> None:
    """Mend with `make texts`, and translate what is new."""
    without = {"node_modules", "static", "staticfiles", "tests", "benchmarks", "docs"}
    for folder in Path(settings.BASE_DIR).iterdir():
        if folder.is_dir() and folder.name[0] != "." and folder.name not in without:
            shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    order = [sys.executable, "-m", "django", "makemessages", "--locale", "de", "--no-location", "--no-obsolete"]
    plain = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(order, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = polib.pofile(str(tmp_path / CATALOGUE.relative_to(settings.BASE_DIR)))
    assert [entry.msgid for entry in found if entry.fuzzy or not entry.translated()] == []


@pytest.mark.django_db
def test_a_person_chooses_the_language_and_keeps_it() -> None:
    story = tell_story(2)
    client = Client()
    client.force_login(story.manager)
    assert "New since yesterday" in client.get("/").content.decode()
    answer = client.post(reverse("language"), {"language": "de", "next": "/"})
    assert answer.headers["Location"] == "/"
    story.manager.refresh_from_db()
    assert story.manager.language == "de"
    page = client.get("/").content.decode()
    assert '<html lang="de"' in page
    assert "Neu seit gestern" in page
    assert "New since yesterday" not in page


@pytest.mark.django_db
def test_a_language_that_the_portal_does_not_speak_changes_nothing() -> None:
    story = tell_story(2)
    client = Client()
    client.force_login(story.manager)
    client.post(reverse("language"), {"language": "tlh", "next": "//elsewhere.example.org"})
    story.manager.refresh_from_db()
    assert story.manager.language == "en"
