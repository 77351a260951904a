"""Every transition of every model: each source state works, every other refuses; the right is needed and is enough."""

import pytest
from django.db import transaction

from accounts.roles import ROLES
from tests.factories import NOW, make_user
from tests.tickets import verbs
from tickets.exceptions import PermissionRefused, TransitionRefused
from tickets.lifecycle import all_verbs, available_verbs, move

pytestmark = pytest.mark.django_db

EVERY_RIGHT = set().union(*ROLES.values())
BY_PEOPLE = [(m, v) for m, v in verbs.VERBS if not next(x for x in all_verbs(m) if x.name == v).is_system]
BY_THE_PORTAL = [pair for pair in verbs.VERBS if pair not in BY_PEOPLE]
# In these states an incident is handed over without a change of state.
HANDED_OVER = {"assigned", "in_progress", "on_hold"}


def names(pairs):
    return [f"{model.__name__}.{verb}" for model, verb in pairs]


def needed(model, verb):
    found = next(v for v in all_verbs(model) if v.name == verb)
    return verbs.ALTERNATIVES.get((model, verb)) or [found.permission]


def act(ticket, verb, actor, other):
    """Through the service of the verb where tickets of this process have one, else through the one door."""
    call = verbs.SERVICES.get((type(ticket), verb))
    if call is not None:
        return call(ticket, actor, other)
    touch = "updated_at" if hasattr(ticket, "updated_at") else None
    return move(ticket, verb, actor=actor, now=NOW, touch=touch)


def state_in_database(ticket):
    return type(ticket)._base_manager.values_list("state", flat=True).get(pk=ticket.pk)


def test_every_verb_of_the_processes_has_a_service():
    mine = {(m, v) for m, v in verbs.VERBS if m in (verbs.Incident, verbs.Problem, verbs.Change)}
    assert mine == set(verbs.SERVICES)


@pytest.mark.parametrize(("model", "verb"), BY_PEOPLE, ids=names(BY_PEOPLE))
def test_each_source_works_with_only_the_right_and_every_other_state_refuses(model, verb):
    author, other = make_user("author"), verbs.person_with("other", EVERY_RIGHT)
    ticket = verbs.make(model, author)
    target = {v.source: v.target for v in all_verbs(model) if v.name == verb}
    for number, right in enumerate(needed(model, verb)):
        actor = verbs.person_with(f"actor{number}", {right})
        for state in model.State.values:
            with transaction.atomic():
                verbs.put(ticket, state, verb, other)
                if state in target:
                    assert verb in {v.name for v in available_verbs(ticket, actor)} or verb == "schedule"
                    act(ticket, verb, actor, other)
                    assert state_in_database(ticket) == ticket.state == target[state]
                elif (model, verb) == (verbs.Incident, "assign") and state in HANDED_OVER:
                    act(ticket, verb, actor, other)
                    assert (state_in_database(ticket), ticket.assignee) == (state, other)
                else:
                    with pytest.raises(TransitionRefused):
                        act(ticket, verb, actor, other)
                    assert state_in_database(ticket) == ticket.state == state
                transaction.set_rollback(True)


@pytest.mark.parametrize(("model", "verb"), BY_PEOPLE, ids=names(BY_PEOPLE))
def test_every_other_right_together_does_not_suffice(model, verb):
    author, other = make_user("author"), verbs.person_with("other", EVERY_RIGHT)
    without = EVERY_RIGHT - set(needed(model, verb))
    actor = verbs.person_with("actor", without)
    ticket = verbs.make(model, author)
    for state in sorted(verbs.sources(model, verb)):
        verbs.put(ticket, state, verb, other)
        assert verb not in {v.name for v in available_verbs(ticket, actor)}
        with pytest.raises(PermissionRefused), transaction.atomic():
            act(ticket, verb, actor, other)
        assert state_in_database(ticket) == ticket.state == state


@pytest.mark.parametrize(("model", "verb"), BY_THE_PORTAL, ids=names(BY_THE_PORTAL))
def test_the_portal_moves_from_each_source_and_leaves_every_other_state_alone(model, verb):
    author, other = make_user("author"), verbs.person_with("other", EVERY_RIGHT)
    ticket = verbs.make(model, author)
    target = {v.source: v.target for v in all_verbs(model) if v.name == verb}
    has_service = (model, verb) in verbs.SERVICES
    for state in model.State.values:
        with transaction.atomic():
            verbs.put(ticket, state, verb, other)
            if state in target:
                assert act(ticket, verb, None, other)
                assert state_in_database(ticket) == target[state]
                if has_service:
                    assert act(ticket, verb, None, other) is False
            elif has_service:
                assert act(ticket, verb, None, other) is False
                assert state_in_database(ticket) == state
            else:
                with pytest.raises(TransitionRefused):
                    act(ticket, verb, None, other)
            transaction.set_rollback(True)


@pytest.mark.parametrize(("model", "verb"), BY_THE_PORTAL, ids=names(BY_THE_PORTAL))
def test_nobody_does_what_the_portal_does_not_even_a_superuser(model, verb):
    author = make_user("author")
    root = make_user("root", is_superuser=True)
    ticket = verbs.make(model, author)
    for state in sorted(verbs.sources(model, verb)):
        verbs.put(ticket, state, verb, author)
        assert verb not in {v.name for v in available_verbs(ticket, root)}
        with pytest.raises(PermissionRefused):
            move(ticket, verb, actor=root, now=NOW)
        assert state_in_database(ticket) == state
