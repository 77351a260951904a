"""`make demo` and `make run`: starts everything that the portal consists of on this machine, and plays the story.

python -m itsm_portal.demo [--reset] [--exit] [--vm] [--only-portal] [--port 8000]
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itsm_portal import embedded
from itsm_portal.demo import machines
from itsm_portal.demo.key_holder import KeyHolder
from itsm_portal.supervisor import GaveUp, Supervisor

CLONE = Path(__file__).resolve().parent.parent.parent
# Folders of the data folder that belong to the demo; `--reset` removes them with the database.
KEPT = (
    "key-holder",
    "fleet",
    "copies",
    "disks",
    "media",
    "mail",
    "logs",
    "demo-password",
    "demo-summary.json",
    "demo-story.json",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m itsm_portal.demo", description="the portal on this machine")
    parser.add_argument("--reset", action="store_true", help="begin with new data")
    parser.add_argument("--exit", action="store_true", help="play the story, verify it, end with 0 or 1")
    parser.add_argument("--vm", action="store_true", help="try releases on virtual machines, where that is possible")
    parser.add_argument("--only-portal", action="store_true", help="no agents and no story")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    begun = time.monotonic()
    data = Path(os.environ.get("DATA_DIR") or CLONE / ".data").resolve()
    try:
        if options.reset or _needs_renewal(data, is_exit=options.exit, only_portal=options.only_portal):
            _reset(data)
        data.mkdir(parents=True, exist_ok=True)
        with embedded.servers(data) as urls:
            os.environ.update(urls)
            os.environ["DATA_DIR"] = str(data)
            if not options.only_portal:
                # The portal learns the public root key; the private keys stay with the key holder.
                os.environ["SIGNING_ROOT_KEYS"] = KeyHolder(data / "key-holder").prepare()
            os.environ["PORTAL_URL"] = f"http://127.0.0.1:{_free_port(options.port)}"
            os.environ["DJANGO_SETTINGS_MODULE"] = "itsm_portal.settings"
            return _play(data, options, begun)
    except (embedded.EmbeddedError, GaveUp) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130


def _play(data: Path, options: argparse.Namespace, begun: float) -> int:
    lacks = machines.prepare(data) if options.vm else ""
    try:
        code = Demo(data, options, begun, lacks_for_machines=lacks).run()
    finally:
        left = machines.end(data)
    if options.exit and left:
        print(f"  FAIL still there after the end: {', '.join(left)}", flush=True)
        return 1
    return code


def _interrupt(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _needs_renewal(data: Path, *, is_exit: bool, only_portal: bool) -> bool:
    """A story that was cut short cannot be gone on with; and to verify one, it must be played."""
    if only_portal or not (data / "fleet").exists():
        return False
    if (data / "demo-story.json").exists() and not is_exit:
        return False
    print("Beginning anew: " + ("the story is played again." if is_exit else "the last one was cut short."))
    return True


def _reset(data: Path) -> None:
    embedded.clean(data)
    machines.remove(data)
    for name in KEPT:
        path = data / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1, or any free one when somebody else has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise embedded.EmbeddedError("no free port on 127.0.0.1")


class Demo:
    """One run: set up, start, tell the story, stay up."""

    def __init__(self, data: Path, options: argparse.Namespace, begun: float, *, lacks_for_machines: str) -> None:
        self.data = data
        self.options = options
        self.begun = begun
        self.lacks_for_machines = lacks_for_machines
        self.url = os.environ["PORTAL_URL"]
        self.seconds: dict[str, float] = {}
        self.supervisor = Supervisor(data / "logs", self.say)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)

    def run(self) -> int:
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        from accounts.roles import setup_roles
        from itsm_portal.demo import seed
        from tickets.clock import database_now

        self.say("Database: migrating")
        call_command("migrate", verbosity=0, interactive=False)
        setup_roles()
        if not self.options.only_portal and not seed.is_seeded():
            with_machine = self.options.vm and self._has_machine(seed)
            self.say(f"Seeding {seed.FLEET} shops, people and billing 1.0")
            seed.seed(database_now(), with_machine=with_machine)
        elif self.options.vm and not seed.has_machine():
            self.say("These data are of a demo with file copies: RESET=1 begins anew with virtual machines")
        if self.options.only_portal:
            self._first_administrator()
        seed.point_agents_to(self.url)
        connection.close()
        self.seconds["set-up"] = round(time.monotonic() - self.begun, 1)
        self._add_parts(seed)
        with self.supervisor:
            self._wait_for_web()
            self.say(f"Portal: {self.url}")
            if self.options.only_portal or (self.data / "demo-story.json").exists():
                self._welcome()
                return self._stay()
            code = self._tell()
            return code if self.options.exit or code else self._stay()

    def _has_machine(self, seed: Any) -> bool:
        """Says on what releases are tried, and why, if not on virtual machines."""
        lacks = self.lacks_for_machines
        if not lacks:
            self.say("Building the disk of a till server out of Debian's packages")
            lacks = seed.write_disk()
        if lacks:
            self.say(f"Releases are tried on file copies: virtual machines need {lacks} (as root: {machines.INSTALL})")
        else:
            self.say("Releases are tried on virtual machines, emulated by QEMU: some minutes more")
        return not lacks

    def _add_parts(self, seed: Any) -> None:
        from distribution.channels.ansible.worker import is_installed

        python, port = sys.executable, self.url.rpartition(":")[2]
        here = CLONE
        add = self.supervisor.add
        add(
            "web",
            [python, "-m", "gunicorn", "itsm_portal.wsgi", "--config", "python:itsm_portal.web_server",
             "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8", "--graceful-timeout", "5",
             *(["--reload"] if self.options.only_portal else [])],
            cwd=here, stage=1,
        )  # fmt: skip
        celery = [python, "-m", "celery", "--app", "itsm_portal.celery"]
        add(
            "worker",
            [*celery, "worker", "--concurrency", "2", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"],
            cwd=here, stage=1,
        )  # fmt: skip
        if is_installed():
            add(
                "push worker",
                [*celery, "worker", "--queues", "push", "--concurrency", "1", "--loglevel", "WARNING",
                 "--without-gossip", "--without-mingle", "--hostname", "push@%h"],
                cwd=here, stage=1,
            )  # fmt: skip
        schedule = self.data / "logs" / "beat-schedule"
        add(
            "beat",
            [*celery, "beat", "--loglevel", "WARNING", "--schedule", str(schedule), "--pidfile="],
            cwd=here,
            stage=1,
        )
        add("hosts of copies", [python, "manage.py", "run_test_hosts"], cwd=here, stage=1)
        if not self.options.only_portal:
            for host in seed.fleet():
                add(host.name, [python, "-m", "agent", "run", "--config", str(host.config)], cwd=here, stage=2)

    def _wait_for_web(self) -> None:
        import httpx

        deadline = time.monotonic() + 60
        while True:
            self.supervisor.poll()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise GaveUp("web", self.supervisor.tail("web"), 1, 60, self.data / "logs" / "web.log")
            time.sleep(0.2)

    def _first_administrator(self) -> None:
        """`make run` on an empty database: somebody must be able to log in."""
        from django.contrib.auth.models import Group

        from accounts.models import User
        from itsm_portal.demo.seed import password

        if User.objects.exists():
            return
        user = User.objects.create_superuser("admin", "admin@example.org", password())
        user.groups.set(Group.objects.all())

    def _welcome(self) -> None:
        from itsm_portal.demo.seed import PEOPLE, password

        print(f"\n  Portal  {self.url}\n  Mails   {self.url}/mailbox/ and {self.data / 'mail'}")
        names = ["admin"] if self.options.only_portal else list(PEOPLE)
        print(f"  Logins  {', '.join(names)}\n  Password of everybody: {password()}")
        print("\n  Ctrl-C stops everything.\n", flush=True)

    def _stay(self) -> int:
        self.supervisor.run_forever()
        return 0

    def _tell(self) -> int:
        """Tells the story on a thread, while this one looks after the processes."""
        from itsm_portal.demo import seed
        from itsm_portal.demo.story import Story

        result: dict[str, Any] = {}

        with_machine = seed.has_machine()

        def play() -> None:
            try:
                holder = KeyHolder(self.data / "key-holder")
                story = Story(
                    self.url, seed.password(), say=self.say, kill=self.supervisor.kill, holder=holder,
                    with_machine=with_machine,
                )  # fmt: skip
                result["told"] = story.play()
            except Exception as error:
                result["error"] = error

        begun = time.monotonic()
        thread = threading.Thread(target=play, name="story", daemon=True)
        thread.start()
        while thread.is_alive():
            self.supervisor.poll()
            thread.join(0.1)
        self.seconds["story"] = round(time.monotonic() - begun, 1)
        if "error" in result:
            self.say(f"The story broke off: {result['error']}")
            return self._summary(
                {}, [{"fact": "story", "expected": "told", "found": str(result["error"]), "ok": False}]
            )
        told = result["told"]
        return self._summary(told.seconds, self._verify(told))

    def _verify(self, told: Any) -> list[dict[str, Any]]:
        from django.db import connection

        from itsm_portal.demo.verify import verify
        from notifications.models import Outbox
        from releases.models import Rollout

        self.say("Verifying every fact")
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            # The last messages and the last reports of the agents are on their way for some ticks.
            waiting = Outbox.objects.filter(state=Outbox.State.PENDING).exists()
            if not waiting and not Rollout.objects.filter(settled_at__isnull=True).exists():
                break
            self.supervisor.poll()
            time.sleep(0.3)
        rows = verify(told).rows
        connection.close()
        self.seconds["verify"] = round(time.monotonic() - begun, 1)
        if all(row["ok"] for row in rows):
            (self.data / "demo-story.json").write_text(json.dumps({"rollouts": told.rollouts}))
        return rows

    def _summary(self, phases: dict[str, float], rows: list[dict[str, Any]]) -> int:
        failures = [row for row in rows if not row["ok"]]
        self.seconds["all"] = round(time.monotonic() - self.begun, 1)
        summary = {"facts": rows, "failures": failures, "seconds": {**self.seconds, **phases}}
        path = self.data / "demo-summary.json"
        path.write_text(json.dumps(summary, indent=2, default=str, ensure_ascii=False))
        print()
        for row in rows:
            print(f"  {'ok  ' if row['ok'] else 'FAIL'} {row['fact']}")
            if not row["ok"]:
                print(f"       expected {str(row['expected'])[:600]}\n       found    {str(row['found'])[:600]}")
        print(f"\n  {len(rows) - len(failures)} of {len(rows)} facts hold · seconds: {summary['seconds']}")
        print(f"  Summary: {path}", flush=True)
        self._welcome()
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
