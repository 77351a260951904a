"""Ways back that a device goes itself: by the package's script, or by what it kept. Who can says so in its attributes.

What a device can do is what it says now: an agent that was replaced by an older one is noticed, and a profile would be
a promise about all versions of an agent.
"""

from django.db.models import CharField, Q, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Concat

from cmdb.models import ConfigurationItem
from distribution.models import Batch, WayBack

# The attribute: the ways that the agent knows, separated by commas.
ATTRIBUTE = "agent.ways_back"
BY_DEVICE = (WayBack.SCRIPT, WayBack.SNAPSHOT)


def can_go(ci: str, way: str) -> str:
    """Whether the CI `ci` can go the way back `way` by itself; an SQL expression, never null."""
    return f"""
    ({ci}.channel = 'ddi' AND coalesce({way} = ANY (string_to_array({ci}.attributes ->> '{ATTRIBUTE}', ',')), false))
"""


def cannot_go(way: str) -> Q:
    """The same turned round, for a query over CIs that has the `alias` of `said`."""
    return ~Q(channel=ConfigurationItem.Channel.DDI, said_ways__contains=f",{way},")


def said() -> dict[str, Concat]:
    """What a query over CIs needs for `cannot_go`."""
    told = Coalesce(KeyTextTransform(ATTRIBUTE, "attributes"), Value(""), output_field=CharField())
    return {"said_ways": Concat(Value(","), told, Value(","), output_field=CharField())}


def metadata(way_back: str, purpose: str) -> list[dict[str, str]]:
    """What the device is told: how the version that comes will be left, or how the one that runs is left now."""
    if way_back not in BY_DEVICE:
        return []
    key = "itsm.go_back" if purpose == Batch.Purpose.ROLLBACK else "itsm.way_back"
    return [{"key": key, "value": way_back}]
