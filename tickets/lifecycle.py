"""States and the one door through which they change.

A model declares its lifecycle with `@transition` methods on a protected `StateField`. `custom=` holds what people see:
`label` (the button), `style` (a colour name of the portal), and `system=True` for moves that only the engine makes.
Services call `move`; nothing else writes a state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.utils.translation import gettext as _
from django_fsm import FSMField, FSMFieldDescriptor, Transition, TransitionNotAllowed

from tickets.exceptions import ConditionRefused, PermissionRefused, TransitionRefused


class StateDescriptor(FSMFieldDescriptor):
    """Refuses assignment unless this very instance is being reloaded (the library's own switch is one for all)."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        if self.field.name in instance.__dict__ and not instance.__dict__.get("_state_reload", False):
            raise AttributeError(f"{self.field.name} changes only through a transition")
        self.field.set_state(instance, value)


class StateField(FSMField):
    """A protected state; written by `move` with a compare-and-set."""

    descriptor_class = StateDescriptor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 32)
        kwargs.setdefault("db_index", True)
        kwargs["protected"] = True
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("protected", None)
        return name, path, list(args), kwargs


class StatefulModel(models.Model):
    """A model with one `state`."""

    class Meta:
        abstract = True

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__["_state_reload"] = True
        try:
            super().refresh_from_db(*args, **kwargs)
        finally:
            self.__dict__.pop("_state_reload", None)


@dataclass(frozen=True, slots=True)
class Verb:
    """A transition as people and API clients see it."""

    name: str
    label: str
    style: str
    source: str
    target: str | None
    permission: str | None
    is_system: bool


def _verb(transition: Transition) -> Verb:
    custom = transition.custom
    permission = transition.permission if isinstance(transition.permission, str) else None
    return Verb(
        name=transition.name,
        label=str(custom.get("label", transition.name.replace("_", " ").capitalize())),
        style=str(custom.get("style", "secondary")),
        source=str(transition.source),
        target=str(transition.target) if transition.target is not None else None,
        permission=permission,
        is_system=bool(custom.get("system", False)),
    )


def all_verbs(model: type[StatefulModel]) -> Iterator[Verb]:
    """Every transition of a model, once for each source state."""
    field = model._meta.get_field("state")  # type: ignore[misc]  # every concrete model declares it
    assert isinstance(field, StateField)
    for transition in field.get_all_transitions(model):
        yield _verb(transition)


def available_verbs(instance: StatefulModel, user: AbstractBaseUser) -> list[Verb]:
    """What this person may do with the object now, in the order in which the model declares it."""
    order = {name: position for position, name in enumerate(vars(type(instance)))}
    verbs = [_verb(t) for t in instance.get_available_user_state_transitions(user)]  # type: ignore[attr-defined]
    return sorted((v for v in verbs if not v.is_system), key=lambda verb: order.get(verb.name, 0))


def check_permission(actor: Any, permission: str, what: str) -> None:
    """Refuses a person without the right. `actor=None` is the system itself."""
    if actor is not None and not actor.has_perm(permission):
        raise PermissionRefused(
            _("You may not %(what)s: it needs the right “%(permission)s”. Ask an administrator for the role.")
            % {"what": what, "permission": permission}
        )


def check_move(instance: Any, name: str, *, actor: Any) -> None:
    """Refuses the transition `name` by state and person, as `move` does; its conditions are asked by `move` alone."""
    meta = getattr(instance, name)._django_fsm
    if not meta.has_transition(instance.state):
        sources = sorted({str(s) for s in meta.transitions})
        raise TransitionRefused(
            _("%(object)s is “%(state)s”; “%(verb)s” is possible only from: %(sources)s.")
            % {"object": instance, "state": instance.get_state_display(), "verb": name, "sources": ", ".join(sources)}
        )
    transition = meta.get_transition(instance.state)
    if actor is None:
        return
    if transition.custom.get("system"):
        raise PermissionRefused(_("“%(verb)s” is done by the portal itself.") % {"verb": name})
    if not transition.has_perm(instance, actor):
        label = str(transition.custom.get("label", name))
        if isinstance(transition.permission, str):
            check_permission(actor, transition.permission, f"“{label}”")
        raise PermissionRefused(_("You may not “%(label)s” here.") % {"label": label})


def check_right(instance: Any, name: str, *, actor: Any) -> None:
    """Refuses who may not make the transition `name`, in whatever state. What is no transition is not refused here."""
    meta = getattr(getattr(type(instance), name, None), "_django_fsm", None)
    if meta is None:
        return
    transition = meta.get_transition(instance.state) or next(iter(meta.transitions.values()))
    if not transition.has_perm(instance, actor):
        label = str(transition.custom.get("label", name))
        if isinstance(transition.permission, str):
            check_permission(actor, transition.permission, f"“{label}”")
        raise PermissionRefused(_("You may not “%(label)s” here.") % {"label": label})


def move(
    instance: Any,
    name: str,
    *,
    actor: Any,
    now: datetime,
    update: Mapping[str, Any] | None = None,
    touch: str | None = "updated_at",
    counted: str | None = None,
) -> tuple[str, str]:
    """Makes the transition `name` and writes it by compare-and-set, together with the fields in `update`.

    `actor` is the person who asked, None for the engine. `counted` names the field that counts what was changed, if
    there is one. Returns the old and the new state. Refuses with
    `PermissionRefused`, `ConditionRefused` (a condition of the transition) or `TransitionRefused` (wrong state, or
    somebody else moved the object first). The instance is unchanged after a refusal.
    """
    check_move(instance, name, actor=actor)
    method = getattr(instance, name)
    old = instance.state
    transition = method._django_fsm.get_transition(old)
    values = dict(update or {})
    before = {field: getattr(instance, field) for field in values}
    for field, value in values.items():
        setattr(instance, field, value)
    try:
        method()
        new = instance.state
        if touch:
            values[touch] = now
            setattr(instance, touch, now)
        counts = {counted: models.F(counted) + 1} if counted else {}
        rows = type(instance)._base_manager.filter(pk=instance.pk, state=old).update(state=new, **values, **counts)
    except TransitionNotAllowed as error:
        _restore(instance, old, before)
        raise ConditionRefused(_refusal(instance, transition)) from error
    except Exception:
        _restore(instance, old, before)
        raise
    if rows == 0:
        _restore(instance, old, before)
        raise TransitionRefused(
            _("%(object)s is no longer “%(state)s”: somebody else was first. Reload and look again.")
            % {"object": instance, "state": instance.get_state_display()}
        )
    if counted:
        setattr(instance, counted, getattr(instance, counted) + 1)
    return old, new


def _restore(instance: Any, state: str, before: Mapping[str, Any]) -> None:
    for field, value in before.items():
        setattr(instance, field, value)
    instance.__dict__["state"] = state


def _refusal(instance: Any, transition: Transition) -> str:
    """The text of the first condition that is not met: its `refusal` attribute, else its docstring."""
    for condition in transition.conditions:
        if not condition(instance):
            text = getattr(condition, "refusal", None) or (condition.__doc__ or condition.__name__).strip()
            return str(text)
    return _("The conditions are not met.")


__all__ = [
    "StateField",
    "StatefulModel",
    "Verb",
    "all_verbs",
    "available_verbs",
    "check_move",
    "check_permission",
    "check_right",
    "move",
]
