"""`manage.py lifecycles`: writes `docs/lifecycles.md` from the code; with `--check` only says whether it is stale."""

import inspect
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import translation

from accounts.roles import PROJECT_APPS
from tickets.lifecycle import StatefulModel, Verb, all_verbs

HEAD = """# Lifecycles

Written by `manage.py lifecycles` from the code; do not edit. A dash in the column *who* means that the
portal itself makes it. Every move is written by compare-and-set: who comes second is refused (HTTP 409).
"""


def stateful_models() -> list[type[StatefulModel]]:
    """Every model with a lifecycle, the lower apps first."""
    return [
        model
        for label in reversed(PROJECT_APPS)
        for model in apps.get_app_config(label).get_models()
        if issubclass(model, StatefulModel) and any(True for _verb in all_verbs(model))
    ]


def _grouped(model: type[StatefulModel]) -> dict[str, list[Verb]]:
    """The moves by verb, in the order of the code; those of a verb in the order of the states."""
    states = list(model.State.values)  # type: ignore[attr-defined]
    verbs: dict[str, list[Verb]] = {name: [] for name in vars(model)}
    for verb in all_verbs(model):
        verbs[verb.name].append(verb)
    return {name: sorted(moves, key=lambda v: states.index(v.source)) for name, moves in verbs.items() if moves}


def _who(model: type[StatefulModel], verb: Verb) -> str:
    if verb.is_system:
        return "– (the portal)"
    if verb.permission is not None:
        return f"`{verb.permission}`"
    transition = next(iter(getattr(model, verb.name)._django_fsm.transitions.values()))
    if callable(transition.permission):
        return (transition.permission.__doc__ or "").strip()
    return "everybody"


def _needs(model: type[StatefulModel], verb: Verb) -> str:
    transition = getattr(model, verb.name)._django_fsm.transitions[verb.source]
    return " ".join((condition.__doc__ or "").strip() for condition in transition.conditions)


def chapter(model: type[StatefulModel]) -> str:
    """One model: its meaning, a state diagram and a table of its moves."""
    initial = model._meta.get_field("state").default  # type: ignore[misc, union-attr]
    verbs = _grouped(model)
    lines = [f"## {str(model._meta.verbose_name).capitalize()}", "", inspect.getdoc(model) or "", ""]
    lines += ["```mermaid", "stateDiagram-v2", f"    [*] --> {initial}"]
    lines += [f"    {v.source} --> {v.target}: {name}" for name, moves in verbs.items() for v in moves]
    sources = {v.source for moves in verbs.values() for v in moves}
    lines += [f"    {s} --> [*]" for s in model.State.values if s not in sources]  # type: ignore[attr-defined]
    lines += [
        "```",
        "",
        "| Verb | Button | From | To | Who (right) | Needs | Meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, moves in verbs.items():
        first = moves[0]
        meaning = (getattr(model, name).__doc__ or "").strip()
        row = [
            f"`{name}`",
            first.label,
            ", ".join(v.source for v in moves),
            str(first.target),
            _who(model, first),
            _needs(model, first),
            meaning,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # reads only the lifecycles
    help = "Writes docs/lifecycles.md from the lifecycles in the code."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="Write nothing; fail when the file is stale.")

    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(settings.BASE_DIR) / "docs" / "lifecycles.md"
        with translation.override("en"):
            text = "\n".join([HEAD, *(chapter(model) for model in stateful_models())])
        if not options["check"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.stdout.write("docs/lifecycles.md written.")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise CommandError("docs/lifecycles.md is stale: run `manage.py lifecycles`.")
