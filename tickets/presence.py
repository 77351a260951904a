"""Who has a ticket's page open just now, and who is writing: kept in Valkey for some seconds, for people, for nothing
else. It may be lost, and a Valkey that is out of reach holds nobody up.
"""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.db import connection

log = logging.getLogger(__name__)
# Two rounds of asking may be missed; pages ask every 10 seconds.
STAYS = 35.0
TIMEOUT = 0.5
_state: dict[str, Any] = {"client": None}


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody else with the same page open."""

    name: str
    is_writing: bool


def meet(number: str, user: Any, *, is_writing: bool, now: datetime) -> list[Other]:
    """Notes that this person has the ticket open, and returns the others, by name."""
    key, moment = _key(number), now.timestamp()
    try:
        pipe = _client().pipeline(transaction=False)
        pipe.hset(key, str(user.pk), json.dumps([moment, user.label, is_writing]))
        pipe.hgetall(key)
        pipe.expire(key, int(STAYS) * 2)
        found = pipe.execute()[1]
        others, gone = [], []
        for person, value in found.items():
            at, name, writes = json.loads(value)
            if moment - at > STAYS:
                gone.append(person)
            elif person != str(user.pk):
                others.append(Other(name, bool(writes)))
        if gone:
            _client().hdel(key, *gone)
    except redis.RedisError as error:
        log.warning("nobody knows who else reads %s: %s", number, error)
        return []
    return sorted(others, key=lambda other: other.name)


def _key(number: str) -> str:
    """Portals, and test databases, that share a Valkey do not meet."""
    return f"itsm-portal:presence:{connection.settings_dict['NAME']}:{number}"


def _client() -> redis.Redis:
    if _state["client"] is None:
        _state["client"] = redis.Redis.from_url(
            settings.REDIS_URL, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    client: redis.Redis = _state["client"]
    return client
