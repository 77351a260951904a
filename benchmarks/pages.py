"""What the portal's pages cost, with few tickets and with very many.

make bench NAME=pages [ARGS="--tickets 1000000 --cis 100000 --rollouts 500"]

Fills a database with few tickets (--few), asks for every page again and again, fills it up to --tickets and asks again:
all in one run, by one client over one connection, against the web server as in production. Of each page it tells the
time until the answer is there (median and slowest twentieth, ms), the processor time of application and database (ms)
and how that grew; of the list the bytes of a first load. Progress goes to stderr; the last line is JSON.
"""

import argparse
import gzip
import json
import random
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from benchmarks.portal import Meter, Web, prepared_database, say
from itsm_portal.embedded import HOST

# Milliseconds that the slowest twentieth may take with very many tickets, and how much more processor time a list may.
TARGETS_MS = {"list": 150, "ticket": 120, "search": 250, "live rollout": 200, "home": 200}
MOST_GROWTH = {"list": 1.3}
MOST_FIRST_LOAD = 220_000
WARM_UP = 8
ASSET = re.compile(r'(?:href|src)="(/static/[^"#]+)')
WORDS = ("printer", "slow closing", "E4711", "ledger", "harb", "certificate plant", "till-0000", "1.4", "Greta")


@dataclass
class Page:
    """One kind of page: its addresses, one of which is taken by chance each time."""

    name: str
    addresses: list[str]
    times: list[float] = field(default_factory=list)
    web: float = 0.0
    database: float = 0.0
    size: int = 0

    def to_json(self) -> dict[str, float]:
        """Milliseconds; bytes as they went over the wire, compressed."""
        times = sorted(self.times)
        number = len(times)
        return {
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(times[max(0, round(number * 0.95) - 1)], 1),
            "web_cpu_ms": round(self.web / number, 2),
            "database_cpu_ms": round(self.database / number, 2),
            "cpu_ms": round((self.web + self.database) / number, 2),
            "bytes": self.size,
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--few", type=int, default=2_000, help="tickets of the first part")
    parser.add_argument("--tickets", type=int, default=20_000, help="tickets of the second part")
    parser.add_argument("--cis", type=int, default=2_000, help="configuration items of the second part")
    parser.add_argument("--rollouts", type=int, default=20, help="of the second part; one is under way, to its CIs")
    parser.add_argument("--requests", type=int, default=100, help="of each page in each part")
    options = parser.parse_args()
    begun = time.monotonic()
    with prepared_database() as (_database, logs):
        from django.core.management import call_command

        call_command("collectstatic", interactive=False, verbosity=0)
        few = max(100, options.few)
        seconds = [_seed(few, max(1, options.cis * few // options.tickets), 0)]
        with Web(logs) as web:
            stages = [_measure(web, few, options.requests)]
            seconds.append(_seed(options.tickets - few, options.cis, options.rollouts))
            stages.append(_measure(web, options.tickets, options.requests))
            wire = _first_load(web)
    _show(*stages)
    figures = {
        "benchmark": "pages",
        "seed_seconds": seconds,
        "stages": stages,
        "growth": {
            name: round(stages[1]["pages"][name]["cpu_ms"] / page["cpu_ms"], 2)
            for name, page in stages[0]["pages"].items()
        },
        "first_load": wire,
        "seconds": round(time.monotonic() - begun, 1),
    }
    figures["misses"] = _misses(figures)
    print(f"A first load of the incident list: {sum(wire.values()) / 1024:.0f} KiB over the wire.")
    print("Misses: " + ("; ".join(figures["misses"]) or "none"))
    print(json.dumps(figures))
    return 0


def _seed(tickets: int, cis: int, rollouts: int) -> float:
    """Adds them; the seconds that it took."""
    from django.core.management import call_command

    say(f"{tickets} tickets, {cis} CIs, {rollouts} rollouts more")
    begun = time.monotonic()
    numbers = {"tickets": tickets, "cis": cis, "rollouts": rollouts}
    call_command("seed_portal", **numbers, add=True, stdout=sys.stderr)
    return round(time.monotonic() - begun, 1)


def _measure(web: Web, tickets: int, requests: int) -> dict[str, Any]:
    """Every page `requests` times, one after the other, the pages in turns, so that each has the same weather."""
    from accounts.models import User

    desk = session_cookie(User.objects.get(username="desk"))
    choose, pages = random.Random(1), _pages()
    client, meter = HTTPConnection(HOST, web.port, timeout=60), Meter(web)
    say(f"{tickets} tickets: {len(pages)} kinds of pages")
    for number in range(WARM_UP + requests):
        for page in pages:
            before = meter.read()
            begun = time.perf_counter()
            page.size = len(_get(client, choose.choice(page.addresses), desk)[0])
            took = (time.perf_counter() - begun) * 1000
            used = meter.read() - before
            if number >= WARM_UP:
                page.times.append(took)
                page.web += used.web
                page.database += used.database
    client.close()
    return {"tickets": tickets, "pages": {page.name: page.to_json() for page in pages}}


def _pages() -> list[Page]:
    """What an agent of the service desk looks at."""
    from cmdb.models import ConfigurationItem
    from incidents.models import Incident
    from releases.models import Rollout
    from tickets.numbers import format_number

    newest = Incident.objects.open().order_by("-pk").values_list("pk", flat=True)[:200]
    filters = (
        "scope=mine",
        "state=on_hold",
        "scope=all&priority=1",
        "scope=all&state=closed",
        "scope=all&q=certificate",
    )
    incidents = [f"/incidents/{format_number('INC', key)}/" for key in newest]
    cis = ConfigurationItem.objects.order_by("-pk").values_list("pk", flat=True)[:50]
    live = Rollout.objects.active().order_by("-pk").first()
    pages = [
        Page("home", ["/"]),
        Page("list", ["/incidents/"]),
        Page("list, sorted", ["/incidents/?sort=priority", "/incidents/?sort=-updated_at", "/incidents/?sort=number"]),
        Page("list, filtered", [f"/incidents/?{query}" for query in filters]),
        Page("list of CIs", ["/cis/"]),
        Page("list of changes", ["/changes/"]),
        Page("ticket", incidents),
        Page("CI", [f"/cis/{format_number('CI', key)}/" for key in cis]),
        Page("search", [f"/search/?q={word.replace(' ', '+')}" for word in WORDS]),
    ]  # fmt: skip
    if live is not None:
        pages.append(Page("live rollout", [f"/rollouts/{live.number}/", f"/rollouts/{live.number}/live/"]))
    return pages


def session_cookie(user: Any) -> str:
    """The cookie of a person who has signed in."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    return f"{settings.SESSION_COOKIE_NAME}={store.session_key}"


def _get(client: HTTPConnection, address: str, cookie: str = "") -> tuple[bytes, str]:
    """The body as it came, and how it was encoded; anything but 200 ends the benchmark."""
    headers = {"Accept-Encoding": "gzip", "Host": HOST, "Cookie": cookie}
    client.request("GET", address, headers=headers)
    answer = client.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{address}: {answer.status} {body[:300]!r}")
    return body, answer.headers.get("Content-Encoding", "")


def _first_load(web: Web) -> dict[str, int]:
    """Bytes over the wire by file: the list and all it names, as a browser that has nothing yet asks for it."""
    from accounts.models import User

    client = HTTPConnection(HOST, web.port, timeout=60)
    body, encoding = _get(client, "/incidents/", session_cookie(User.objects.get(username="desk")))
    text = (gzip.decompress(body) if encoding == "gzip" else body).decode()
    sizes = {"page": len(body)}
    for address in dict.fromkeys(ASSET.findall(text)):
        sizes[address.rpartition("/")[2]] = len(_get(client, address)[0])
    client.close()
    return sizes


def _show(small: dict[str, Any], large: dict[str, Any]) -> None:
    print(f"{'':>16}  {small['tickets']:>9} tickets {large['tickets']:>31} tickets")
    heads = f"{'median':>8} {'p95':>8} {'CPU':>8}"
    print(f"{'page':>16}  {heads}  {heads} {'target':>8} {'growth':>7}")
    for name, page in large["pages"].items():
        before = small["pages"].get(name)
        first = "".join(f" {before[key]:8.1f}" for key in ("median_ms", "p95_ms", "cpu_ms")) if before else " " * 27
        growth = f"{page['cpu_ms'] / before['cpu_ms']:7.2f}" if before else ""
        then = "".join(f" {page[key]:8.1f}" for key in ("median_ms", "p95_ms", "cpu_ms"))
        print(f"{name:>16} {first} {then} {TARGETS_MS.get(name, ''):>8} {growth}")


def _misses(figures: dict[str, Any]) -> list[str]:
    """What did not keep its target, in words."""
    pages = figures["stages"][1]["pages"]
    slow = [
        f"{name} takes {pages[name]['p95_ms']} ms, at most {most}"
        for name, most in TARGETS_MS.items()
        if name in pages and pages[name]["p95_ms"] > most
    ]
    grown = [
        f"{name} costs {figures['growth'][name]} times as much, at most {most}"
        for name, most in MOST_GROWTH.items()
        if figures["growth"][name] > most
    ]
    total = sum(figures["first_load"].values())
    return slow + grown + ([f"a first load has {total} bytes"] if total > MOST_FIRST_LOAD else [])


if __name__ == "__main__":
    sys.exit(main())
