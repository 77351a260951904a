"""The drill: `make drill SEED=7 MINUTES=15 AGENTS=1000`.

Four rollouts to a simulated fleet over real HTTP, while processes are killed, servers restarted and connections
broken; then everything is healed, the portal has to come to rest, and the invariants, every agent's journal and what
every agent runs are compared with the database. Exit code 0: all of it agrees.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from itsm_portal.embedded import HOST
from tests.drill.nemesis import Nemesis
from tests.drill.proxy import Proxy
from tests.faults.stack import ROOT, Stack

ROLLOUTS = (("billing", "2.0", True), ("ledger", "2.0", False), ("billing", "3.0", False), ("ledger", "3.0", True))
POLL_SECONDS = 12
# From the healing to rest, at most.
CALM_SECONDS = 900.0
_BUSY = """
SELECT number FROM (
    SELECT count(*) AS number FROM releases_rollout
    WHERE settled_at IS NULL AND NOT (waits_for = 'CIs that may still catch up' AND cascade = '')
    UNION ALL SELECT count(*) FROM notifications_outbox WHERE state = 'pending'
    UNION ALL SELECT count(*) FROM cmdb_configurationitem WHERE agent_id IS NOT NULL AND attributes_wanted
) waiting WHERE number > 0
"""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Drill:
    """The portal, its fleet, and what happens to them."""

    def __init__(self, folder: Path, seed: int, agents: int) -> None:
        self.folder, self.seed, self.number = folder, seed, agents
        url, database = os.environ["DATABASE_URL"], f"drill_{os.getpid()}"
        self.stack = Stack(folder, url, database, names=[], director="tests.drill.director", workers=2)
        self.proxy = Proxy(HOST, urlsplit(self.stack.url).port or 0)
        self.agents: subprocess.Popen[str] | None = None
        self.due = [(0.02, ROLLOUTS[0]), (0.1, ROLLOUTS[1]), (0.4, ROLLOUTS[2]), (0.55, ROLLOUTS[3])]
        self.refused: list[str] = []

    # --- processes --------------------------------------------------------------------------------------
    def start(self) -> None:
        self.stack.start()
        fleet = self.stack.direct("populate", agents=self.number)
        self.proxy.start()
        orders = {
            **fleet,
            "url": f"http://{HOST}:{self.proxy.port}",
            "seed": self.seed,
            "poll_seconds": POLL_SECONDS,
            "folder": str(self.folder / "fleet"),
        }
        command = [sys.executable, "-m", "tests.drill.agents"]
        pipe = subprocess.PIPE
        self.agents = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self.tell(orders)

    def tell(self, order: dict[str, Any]) -> None:
        assert self.agents is not None
        assert self.agents.stdin is not None
        self.agents.stdin.write(json.dumps(order) + "\n")
        self.agents.stdin.flush()

    def stop(self) -> None:
        if self.agents is not None:
            self.agents.kill()
            self.agents.wait()
        self.stack.stop()

    def ask(self, order: str, **values: Any) -> Any:
        """An order to the director; None when it failed, as it may while servers are away."""
        try:
            return self.stack.direct(order, **values)
        except AssertionError as error:
            self.refused.append(f"{order}: {str(error).strip().splitlines()[-1]}")
            return None

    def restart_database(self) -> None:
        """PostgreSQL ends every connection and recovers, as it does when one of its processes was killed."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)

    # --- phases -----------------------------------------------------------------------------------------
    def harm(self, seconds: float) -> Nemesis:
        """Rollouts start, people operate, things go wrong."""
        nemesis = Nemesis(self, self.seed)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self.stack.supervisor.poll()
            if self.due and passed >= self.due[0][0] * seconds:
                product, label, phased = self.due[0][1]
                number = self.ask("start", product=product, label=label, phased=phased)
                if number is None:
                    say(f"not started yet: {product} {label}, {self.refused[-1]}")
                    self.due[0] = (self.due[0][0] + 5 / seconds, self.due[0][1])
                else:
                    say(f"{number}: {product} {label} to {self.number} agents")
                    self.due.pop(0)
            nemesis.tick()
            time.sleep(0.05)
        nemesis.heal()
        return nemesis

    def calm(self) -> None:
        """Nothing goes wrong any more; people decide what waits for them; everything comes to rest."""
        self.tell({"do": "heal"})
        deadline, next_look, left = time.monotonic() + CALM_SECONDS, 0.0, ["nobody looked yet"]
        while left or self.stack.rows(_BUSY):
            self.stack.supervisor.poll()
            if time.monotonic() > next_look:
                next_look = time.monotonic() + 5
                self._let_mails_go()
                left = self.ask("settle")
            if time.monotonic() > deadline:
                raise SystemExit(f"not at rest after {CALM_SECONDS:.0f} s: {left}\n{self.stack.story()}")
            time.sleep(0.2)
        say("at rest")

    def _let_mails_go(self) -> None:
        """Mails that wait for a longer pause, or for the lease of a dead worker, go now."""
        due = "UPDATE notifications_outbox SET next_attempt_at = now(), leased_until = NULL, lease = NULL "
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            connection.execute(
                due + "WHERE state = 'pending' AND (next_attempt_at > now() OR leased_until < now() + interval '4 min')"
            )

    def compare(self) -> list[str]:
        """Everything that does not agree."""
        self.tell({"do": "stop"})
        assert self.agents is not None
        assert self.agents.stdout is not None
        said = json.loads(self.agents.stdout.read())
        found: list[str] = self.stack.direct("check_invariants", journals=str(self.folder / "fleet"))
        query = """
            SELECT ci.name, p.slug, v.label FROM cmdb_installedversion v
            JOIN cmdb_configurationitem ci ON ci.id = v.ci_id JOIN software_product p ON p.id = v.product_id
            WHERE v.valid_to IS NULL
        """
        in_database: dict[str, dict[str, str]] = {}
        for name, product, label in self.stack.rows(query):
            in_database.setdefault(name, {})[product] = label
        for name, runs in said["runs"].items():
            if in_database.get(name) != runs:
                found.append(f"{name} runs {runs}; the configuration database says {in_database.get(name)}")
        found += [f"an agent broke: {why}" for why in said["broken"]]
        if said["unsaid"]:
            found.append(f"{said['unsaid']} reports were never answered")
        if len(self.stack.rows("SELECT 1 FROM releases_rollout")) != len(ROLLOUTS):
            found.append("not every rollout was started")
        dead = self.stack.rows(
            "SELECT count(*) FROM notifications_outbox WHERE state NOT IN ('sent', 'portal_only', 'withdrawn')"
        )
        if dead != [(0,)]:
            found.append(f"{dead[0][0]} mails were not sent")
        say(f"agents: {said['counts']}")
        for row in self.stack.rows("SELECT id, state, round, waits_for FROM releases_rollout ORDER BY id"):
            say(f"rollout {row}")
        events = self.stack.rows("SELECT kind, count(*) FROM distribution_deploymentevent GROUP BY 1 ORDER BY 1")
        say(f"events: {dict(events)}")
        return found


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    minutes, agents = float(os.environ.get("MINUTES") or 15), int(os.environ.get("AGENTS") or 1000)
    if not os.environ.get("DRILL_OWNS_DATABASE"):
        raise SystemExit("The drill restarts its database server: run it by `make drill`, which starts one of its own.")
    say(f"SEED={seed} MINUTES={minutes:g} AGENTS={agents}")
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        drill = Drill(Path(folder), seed, agents)
        try:
            drill.start()
            nemesis = drill.harm(minutes * 60)
            say(f"harm done: {dict(nemesis.done)}")
            drill.calm()
            found = drill.compare()
        finally:
            drill.stop()
    for line in found:
        say(f"WRONG: {line}")
    say(f"{len(found)} contradictions; SEED={seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
