"""Signs of life of ticks and workers, kept in Valkey: for people who watch, never for a decision.

They may be lost, and a Valkey that is out of reach holds nothing up.
"""

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

log = logging.getLogger(__name__)
KEY = "itsm-portal:heartbeats"
TIMEOUT = 1.0
PAUSE_AFTER_ERROR = 10.0
FORGET_AFTER = 24 * 3600.0
TICK, WORKER = "tick", "worker"

_state: dict[str, Any] = {"client": None, "not_before": 0.0}


@dataclass(frozen=True, slots=True)
class Beat:
    """One sign of life: of a tick (with what it took) or of a worker. `age` and `seconds` in seconds."""

    kind: str
    name: str
    age: float
    seconds: float | None = None


def _client() -> redis.Redis:
    if _state["client"] is None:
        _state["client"] = redis.Redis.from_url(
            settings.REDIS_URL, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    client: redis.Redis = _state["client"]
    return client


def beat(kind: str, name: str, seconds: float | None = None) -> None:
    """Notes a sign of life. After an error it keeps quiet for a while."""
    if time.monotonic() < _state["not_before"]:
        return
    try:
        _client().hset(KEY, f"{kind}:{name}", json.dumps([time.time(), seconds]))
    except redis.RedisError as error:
        _state["not_before"] = time.monotonic() + PAUSE_AFTER_ERROR
        log.warning("no sign of life was noted: %s", error)


def beats() -> list[Beat] | None:
    """Every sign of life of the last day, by kind and name; None: Valkey is out of reach."""
    found: list[Beat] = []
    try:
        for field, value in _client().hgetall(KEY).items():
            kind, _sep, name = str(field).partition(":")
            at, seconds = json.loads(value)
            age = max(0.0, time.time() - at)
            if age > FORGET_AFTER:
                _client().hdel(KEY, field)
            else:
                found.append(Beat(kind, name, age, seconds))
    except redis.RedisError as error:
        log.warning("signs of life cannot be read: %s", error)
        return None
    return sorted(found, key=lambda one: (one.kind, one.name))
