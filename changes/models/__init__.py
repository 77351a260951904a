from changes.models.change import Change, ChangeApproval, ChangeEntry, ChangeQuerySet
from changes.models.freeze import Freeze
from changes.models.standard import StandardTemplate, StandardTemplateApproval

__all__ = [
    "Change",
    "ChangeApproval",
    "ChangeEntry",
    "ChangeQuerySet",
    "Freeze",
    "StandardTemplate",
    "StandardTemplateApproval",
]
