"""What the service desk's daily requests cost, beside django-helpdesk's, with the same number of tickets.

make bench NAME=helpdesk [ARGS="--tickets 100000 --requests 60"]

Both run on the same PostgreSQL, each in a database of its own, behind gunicorn with the same workers and threads, asked
by one client over a connection per turn of a few requests, so that each has the same weather. What is told is the
processor time of the application and of its database connections, per request. The portal writes its full timeline and
its notices; of django-helpdesk mails go nowhere. django-helpdesk's list comes in two requests, as its page makes them:
the page, then the rows. Progress goes to stderr; the last line is JSON.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.pages import session_cookie
from benchmarks.portal import (
    CLONE,
    SERVERS,
    START_SECONDS,
    Meter,
    Web,
    own_database,
    prepared_database,
    say,
)
from itsm_portal.embedded import HOST, free_port

VERSION = "2.6.1"
DJANGO = "django>=5.2,<5.3"
# Processor time per request against django-helpdesk's, and of the REST list in milliseconds.
MOST_RATIO = {"list of 50": 0.1, "ticket": 1.5, "create": 2.0}
MOST_REST_MS = 50.0
TURN = 5
WARM_UP = 2


@dataclass
class Action:
    """One thing that people do: how each side is asked for it, and what that cost."""

    name: str
    ask: dict[str, Callable[[], None]]
    used: dict[str, float] = field(default_factory=lambda: {"portal": 0.0, "helpdesk": 0.0})
    requests: int = 0

    def cpu_ms(self, side: str) -> float:
        return round(self.used[side] / self.requests, 2)


class Client:
    """One person's connection, opened when it is needed; raises SystemExit for an answer that is not expected."""

    def __init__(self, port: int, cookie: str) -> None:
        self._connection = HTTPConnection(HOST, port, timeout=120)
        self._cookie = cookie

    def close(self) -> None:
        """Ends a turn: a web server does not wait for the next one with an open connection."""
        self._connection.close()

    def get(self, path: str, must_hold: str = "") -> str:
        return self._ask("GET", path, None, 200, must_hold)

    def post(self, path: str, fields: dict[str, str]) -> None:
        token = secrets.token_hex(16)
        cookie = f"{self._cookie}; csrftoken={token}; __Host-csrftoken={token}"
        self._ask("POST", path, urlencode({"csrfmiddlewaretoken": token, **fields}), 302, "", cookie)

    def _ask(self, method: str, path: str, body: str | None, expected: int, must_hold: str, cookie: str = "") -> str:
        headers = {"Host": HOST, "Cookie": cookie or self._cookie}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request(method, path, body=body, headers=headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != expected or must_hold not in text:
            raise SystemExit(f"{method} {path}: {answer.status}, {must_hold!r} is expected: {text[:2000]}")
        return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.helpdesk", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tickets", type=int, default=100_000, help="of each side")
    parser.add_argument("--requests", type=int, default=60, help="of each kind and side")
    options = parser.parse_args()
    begun = time.monotonic()
    server_url = os.environ.get("DATABASE_URL", "")
    with prepared_database() as (_database, logs), own_database(server_url, "helpdesk") as theirs:
        from django.core.management import call_command
        from django.db import connection

        call_command("collectstatic", interactive=False, verbosity=0)
        say(f"the portal: {options.tickets} tickets")
        call_command("seed_portal", tickets=options.tickets, cis=2_000, rollouts=0, stdout=sys.stderr)
        with Web(logs) as web, _helpdesk(theirs, logs, options.tickets) as (site, port, known):
            meters = {
                "portal": Meter(web, database=connection.settings_dict["NAME"]),
                "helpdesk": Meter(None, site, database=urlsplit(theirs).path.strip("/")),
            }
            clients, actions = _actions(web.port, port, known)
            _measure(actions, clients, meters, options.requests)
    figures = _figures(actions, options.tickets)
    figures["seconds"] = round(time.monotonic() - begun, 1)
    _show(actions, figures)
    print(json.dumps(figures))
    return 0


@contextmanager
def _helpdesk(url: str, logs: Path, tickets: int) -> Iterator[tuple[Callable[[], list[int]], int, dict[str, Any]]]:
    """django-helpdesk with so many tickets, served; yields its processes, its port and what `seed` tells."""
    python = _install(CLONE / ".data/bench-helpdesk", CLONE / ".tools/bin/uv")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLONE),
        "DJANGO_SETTINGS_MODULE": "benchmarks.helpdesk_site.settings",
        "HELPDESK_DATABASE_URL": url,
        "HELPDESK_SECRET_KEY": secrets.token_urlsafe(60),
    }
    say(f"django-helpdesk {VERSION}: {tickets} tickets")
    migrate = [python, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=environment, check=True, stdout=sys.stderr)
    seeded = subprocess.run(
        [python, "-m", "benchmarks.helpdesk_site.seed", str(tickets)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    port = free_port()
    words = SERVERS["production"].replace("--config python:itsm_portal.web_server ", "").split()
    words = [word.format(application="django.core.wsgi:get_wsgi_application()", host=HOST, port=port) for word in words]
    with (logs / "helpdesk.log").open("wb") as log:
        process = subprocess.Popen([python, "-m", *words], env=environment, stdout=log, stderr=log)
    try:
        _wait(process, port, logs / "helpdesk.log")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield lambda: [process.pid, *map(int, children.read_text().split())], port, json.loads(seeded.stdout)
    finally:
        process.terminate()
        process.wait()


def _install(folder: Path, uv: Path) -> Path:
    """Installs django-helpdesk below the folder unless it is there; returns its Python."""
    python, stamp = folder / "bin/python", folder / f"helpdesk-{VERSION}"
    if not stamp.exists():
        packages = [f"django-helpdesk=={VERSION}", DJANGO, "psycopg[binary]", "gunicorn"]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
        stamp.touch()
    return python


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/login/")
            if connection.getresponse().status in {200, 302}:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise SystemExit(f"django-helpdesk did not start:\n{log.read_text()[-2000:]}")


def _actions(ours: int, theirs: int, known: dict[str, Any]) -> tuple[dict[str, Client], list[Action]]:
    from accounts.models import User
    from incidents.models import Incident
    from tickets.numbers import format_number

    portal = Client(ours, session_cookie(User.objects.get(username="desk")))
    helpdesk = Client(theirs, known["cookie"])
    numbers = [
        format_number("INC", key)
        for key in Incident.objects.open().order_by("-pk").values_list("pk", flat=True)[: len(known["tickets"])]
    ]
    turns = {"portal": 0, "helpdesk": 0}

    def next_of(side: str, values: list[Any]) -> Any:
        turns[side] += 1
        return values[turns[side] % len(values)]

    def their_list() -> None:
        page = helpdesk.get("/tickets/")
        found = re.search(r'"url": "(/datatables_ticket_list/[^"]+)"', page)
        if found is None:
            raise SystemExit("django-helpdesk's list does not say where its rows are")
        rows = json.loads(helpdesk.get(f"{found[1]}?draw=1&start=0&length=50"))["data"]
        if len(rows) != 50:
            raise SystemExit(f"django-helpdesk lists {len(rows)} rows")

    def our_list() -> None:
        rows = len(set(re.findall(r'href="/incidents/(INC-\d+)/"', portal.get("/incidents/"))))
        if rows != 50:
            raise SystemExit(f"the portal lists {rows} rows")

    def our_rest() -> None:
        rows = len(json.loads(portal.get("/api/v1/incidents/"))["results"])
        if rows != 50:
            raise SystemExit(f"the portal's API lists {rows} rows")

    title, text = "The printer of floor 3 does not answer", "Since this morning nothing is printed. It shows E4711."
    report = {"title": title, "description": text, "impact": "medium", "urgency": "medium", "activity": "repair"}
    ticket = {"queue": str(known["queue"]), "title": title, "body": text, "priority": "3"}
    ticket |= {"submitter_email": "person-1@helpdesk.invalid"}
    actions = [
        Action("list of 50", {"portal": our_list, "helpdesk": their_list}),
        Action(
            "ticket",
            {
                "portal": lambda: void(portal.get(f"/incidents/{next_of('portal', numbers)}/")),
                "helpdesk": lambda: void(helpdesk.get(f"/tickets/{next_of('helpdesk', known['tickets'])}/")),
            },
        ),
        Action(
            "create",
            {
                "portal": lambda: portal.post("/incidents/new/", report),
                "helpdesk": lambda: helpdesk.post("/tickets/submit/", ticket),
            },
        ),
        Action("REST list of 50", {"portal": our_rest}),  # django-helpdesk takes seconds for its own
    ]
    return {"portal": portal, "helpdesk": helpdesk}, actions


def void(_: object) -> None:
    """Throws an answer away."""


def _measure(actions: list[Action], clients: dict[str, Client], meters: dict[str, Meter], requests: int) -> None:
    turns = -(-requests // TURN)
    say(f"{turns} turns of {TURN} requests of {len(actions)} kinds of each side")
    for turn in range(WARM_UP + turns):
        for action in actions:
            for side in ("portal", "helpdesk") if turn % 2 else ("helpdesk", "portal"):
                if side not in action.ask:
                    continue
                before = meters[side].read()
                for _ in range(TURN):
                    action.ask[side]()
                used = meters[side].read() - before
                clients[side].close()
                if turn >= WARM_UP:
                    action.used[side] += used.web + used.database
            action.requests += TURN if turn >= WARM_UP else 0


def _figures(actions: list[Action], tickets: int) -> dict[str, Any]:
    kinds = {action.name: {f"{side}_cpu_ms": action.cpu_ms(side) for side in action.ask} for action in actions}
    for name in MOST_RATIO:
        kinds[name]["ratio"] = round(kinds[name]["portal_cpu_ms"] / kinds[name]["helpdesk_cpu_ms"], 3)
    misses = [
        f"{name}: {kinds[name]['ratio']} times as much as django-helpdesk, at most {most}"
        for name, most in MOST_RATIO.items()
        if kinds[name]["ratio"] > most
    ]
    if kinds["REST list of 50"]["portal_cpu_ms"] > MOST_REST_MS:
        misses.append(
            f"REST list of 50: {kinds['REST list of 50']['portal_cpu_ms']} CPU-ms, at most {MOST_REST_MS:.0f}"
        )
    return {
        "benchmark": "helpdesk",
        "tickets": tickets,
        "requests": actions[0].requests,
        "kinds": kinds,
        "misses": misses,
    }


def _show(actions: list[Action], figures: dict[str, Any]) -> None:
    print(f"Processor time per request (application and database, ms), {figures['tickets']} tickets on each side")
    print(f"{'':>16} {'portal':>8} {'helpdesk':>9} {'ratio':>7} {'at most':>8}")
    for action in actions:
        kind = figures["kinds"][action.name]
        cells = [kind["portal_cpu_ms"], kind.get("helpdesk_cpu_ms", ""), kind.get("ratio", "")]
        print(f"{action.name:>16} {cells[0]:8} {cells[1]:>9} {cells[2]:>7} {MOST_RATIO.get(action.name, ''):>8}")
    print("Misses: " + ("; ".join(figures["misses"]) or "none"))


if __name__ == "__main__":
    sys.exit(main())
