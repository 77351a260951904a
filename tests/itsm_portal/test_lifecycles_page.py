"""`docs/lifecycles.md` is what the code says."""

import pytest
from django.core.management import CommandError, call_command

from itsm_portal.management.commands import lifecycles


def test_the_page_is_up_to_date():
    call_command("lifecycles", "--check")


def test_a_stale_page_fails_the_check(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    with pytest.raises(CommandError, match="stale"):
        call_command("lifecycles", "--check")
    call_command("lifecycles", verbosity=0)
    call_command("lifecycles", "--check")
    (tmp_path / "docs/lifecycles.md").write_text("old")
    with pytest.raises(CommandError, match="stale"):
        call_command("lifecycles", "--check")


def test_every_verb_of_every_model_stands_in_it():
    models = lifecycles.stateful_models()
    assert {m.__name__ for m in models} >= {"Incident", "Problem", "Change", "Release", "Rollout", "TestEnvironment"}
    for model in models:
        text = lifecycles.chapter(model)
        for verb in lifecycles.all_verbs(model):
            assert f"    {verb.source} --> {verb.target}: {verb.name}\n" in text
            assert f"| `{verb.name}` | {verb.label} |" in text


def test_every_move_says_who_may():
    for model in lifecycles.stateful_models():
        for verb in lifecycles.all_verbs(model):
            assert lifecycles._who(model, verb) not in ("", "everybody"), f"{model.__name__}.{verb.name}"
