"""When devices were last seen: each process keeps it in memory and writes it every few seconds, in one statement.

No decision needs it to the second: what a process that is killed has not written is written by the next poll.
"""

import atexit
import logging
import os
import threading
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connection

from cmdb.models import ConfigurationItem
from distribution.overdue import SEEN_STEP_SECONDS
from distribution.steps import CHUNK

log = logging.getLogger(__name__)

# Rows in the order of their ids, as everybody locks them; a row that somebody holds is left to the next poll.
_WRITE = """
WITH seen AS (
    SELECT ci.id, given.at FROM unnest(%(ids)s::bigint[], %(times)s::timestamptz[]) AS given (id, at)
    JOIN cmdb_configurationitem ci ON ci.id = given.id
    WHERE ci.last_seen_at IS NULL OR ci.last_seen_at < given.at
    ORDER BY ci.id FOR NO KEY UPDATE OF ci SKIP LOCKED
)
UPDATE cmdb_configurationitem ci SET last_seen_at = seen.at FROM seen WHERE ci.id = seen.id
"""

_lock = threading.Lock()
_stopped = threading.Event()
_seen: dict[int, datetime] = {}
_writer: threading.Thread | None = None


def note(ci: ConfigurationItem, *, now: datetime) -> None:
    """Keeps in mind that the device asked, unless the row says so already. No query."""
    if ci.last_seen_at is not None and ci.last_seen_at > now - timedelta(seconds=SEEN_STEP_SECONDS):
        return
    with _lock:
        _seen[ci.pk] = now
        if _writer is None and settings.LAST_SEEN_SECONDS:
            _start()


def flush() -> int:
    """Writes what is in mind; how many rows. What cannot be written is lost, and logged."""
    with _lock:
        seen = sorted(_seen.items())
        _seen.clear()
    written = 0
    try:
        for begin in range(0, len(seen), CHUNK):
            ids, times = zip(*seen[begin : begin + CHUNK], strict=True)
            with connection.cursor() as cursor:
                cursor.execute(_WRITE, {"ids": list(ids), "times": list(times)})
                written += cursor.rowcount
    except DatabaseError as error:
        log.warning("%d devices' polls were not noted: %s", len(seen) - written, error)
    return written


def stop() -> None:
    """Ends the thread, which writes a last time; a later poll begins it again."""
    global _writer
    with _lock:
        writer, _writer = _writer, None
    if writer is not None:
        _stopped.set()
        writer.join(timeout=10)


def _start() -> None:
    """Begins the thread that writes; at the first poll, so that a server that forks has one in each process."""
    global _writer
    _stopped.clear()
    _writer = threading.Thread(target=_write_for_ever, name="last seen", daemon=True)
    _writer.start()


def _write_for_ever() -> None:
    is_last = False
    while not is_last:
        is_last = _stopped.wait(settings.LAST_SEEN_SECONDS)
        try:
            flush()
        except Exception:
            log.exception("devices' polls were not noted")
        finally:
            connection.close_if_unusable_or_obsolete()
    connection.close()


def _begin_anew() -> None:
    """In the child of a fork: the thread stayed with the parent, and so did what it has to write."""
    global _lock, _stopped, _writer
    _lock, _stopped, _writer = threading.Lock(), threading.Event(), None
    _seen.clear()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(stop)
