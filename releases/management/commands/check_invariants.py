"""`manage.py check_invariants`: whether the database keeps what the rollout engine promises. Changes nothing."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from releases.invariants import TOLERANCE_SECONDS, UNDECIDED, check_invariants


class Command(BaseCommand):
    help = "Looks for rows that break an invariant of the rollout engine. Exit code 0: none, 1: some, 2: wrong call."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="answer as JSON")
        parser.add_argument("--journals", type=Path, metavar="DIR", help="folder with the agents' journals (adds I3)")
        parser.add_argument("--no-files", action="store_true", help="do not read the stored files (part of I12)")
        parser.add_argument(
            "--tolerance", type=int, default=TOLERANCE_SECONDS, help="seconds that clocks of processes may differ"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        journals = options["journals"]
        if journals is not None and not journals.is_dir():
            raise CommandError(f"{journals} is not a folder.", returncode=2)
        found = check_invariants(journals=journals, files=not options["no_files"], tolerance=options["tolerance"])
        undecided = dict(UNDECIDED)
        if journals is None:
            undecided["I3"] = "in part only: what devices were answered stands in their journals (--journals)"
        if options["json"]:
            violations = [{"invariant": v.invariant, "text": v.text} for v in found]
            self.stdout.write(json.dumps({"violations": violations, "undecided": undecided}, indent=2))
        else:
            for violation in found:
                self.stdout.write(str(violation))
            for name, why in sorted(undecided.items(), key=lambda item: int(item[0][1:])):
                self.stdout.write(f"{name}: not decided here, {why}")
            self.stdout.write(f"{len(found)} violations")
        if found:
            raise SystemExit(1)
