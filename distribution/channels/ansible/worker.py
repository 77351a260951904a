"""Carries out one push run: starts the play, reads what it tells, keeps the lease, ends it."""

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from distribution.channels.ansible import claims
from distribution.channels.ansible.claims import LEASE, LeaseLost, held
from distribution.channels.ansible.events import Results
from distribution.channels.ansible.models import PushRun
from distribution.channels.ansible.run_folder import PLAYBOOKS, RunFolder, run_folder
from tickets.clock import database_now

logger = logging.getLogger(__name__)
_BEAT_SECONDS = LEASE.total_seconds() / 6
_PLAYS = {PushRun.Kind.INSTALL: "install.yml", PushRun.Kind.PROBE: "probe.yml", PushRun.Kind.CHECK: "probe.yml"}


def is_installed() -> bool:
    """Whether this machine has Ansible: `requirements/push.txt`."""
    return find_spec("ansible_runner") is not None and find_spec("ansible") is not None


def push_once(stop: threading.Event | None = None) -> bool:
    """Claims a run and carries it out; False: nothing to do. `stop` ends it early, its hosts are probed then."""
    if not is_installed():
        return False
    run = claims.claim(now=database_now())
    if run is None:
        return False
    try:
        carry_out(run, stop or threading.Event())
    except LeaseLost:
        logger.warning("push run %s lost its lease; its results no longer count", run.pk)
    except DatabaseError:
        # The lease runs out; the tick ends the run, and a probe finds out.
        logger.exception("push run %s could not write its results", run.pk)
    return True


def carry_out(run: PushRun, stop: threading.Event) -> None:
    """One play over the run's hosts. Raises `LeaseLost`."""
    with run_folder(run) as folder:
        results = Results(run, folder)
        results.refuse()
        is_whole = not folder.hosts or _play(run, folder, results, stop)
        results.keep_logs()
    outcome = PushRun.Outcome.FINISHED if is_whole else PushRun.Outcome.BROKEN
    with held(run) as now:
        claims.end_run(run, outcome=outcome, note=results.note, now=now)


def _play(run: PushRun, folder: RunFolder, results: Results, stop: threading.Event) -> bool:
    """Runs the play to its end; False: it was stopped, took too long, or died."""
    script = Path(__file__).with_name("runner_process.py")
    process = subprocess.Popen(
        [sys.executable, "-I", str(script), str(folder.path), str(PLAYBOOKS / _PLAYS[PushRun.Kind(run.kind)])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=folder.environment(),
        cwd=folder.path,
        start_new_session=True,
    )
    try:
        return _follow(process, run, results, stop)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _follow(process: "subprocess.Popen[bytes]", run: PushRun, results: Results, stop: threading.Event) -> bool:
    assert process.stdout is not None
    deadline = time.monotonic() + settings.PUSH_TIMEOUT_SECONDS
    beat, rest, has_ended = time.monotonic(), b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not stop.is_set() and time.monotonic() < deadline:
            if selector.select(1.0):
                block = os.read(process.stdout.fileno(), 65536)
                if not block:
                    return has_ended
                *lines, rest = (rest + block).split(b"\n")
                for event in map(_parsed, lines):
                    has_ended = has_ended or event["event"] == "ended"
                    results.take(event)
            if time.monotonic() - beat > _BEAT_SECONDS:
                with held(run):
                    pass
                results.keep_logs()
                beat = time.monotonic()
    return False


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        event = {"event": "output", "text": line.decode("utf-8", "replace")}
    return event
