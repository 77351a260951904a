"""Decisions about a rollout that are not for the one who started it, nor for a program."""

from django.utils.translation import gettext as _

from accounts.models import User
from releases.models import Rollout
from tickets.exceptions import SeparationOfDuties


def check_not_starter(rollout: Rollout, actor: User, refusal: str) -> None:
    """Refuses the starter, with a text that has a place for the rollout's `number`, and service accounts: somebody's
    program is not somebody else.
    """
    if actor.pk == rollout.started_by_id:
        raise SeparationOfDuties(refusal % {"number": rollout.number})
    if actor.is_service_account:
        raise SeparationOfDuties(
            _("A service account decides nothing in the place of a second person. Ask a release manager.")
        )
