"""One database is migrated for all workers of a parallel run, while they import the tests; theirs are copies of it.

Migrating keeps a core busy for ten seconds. The process that does it has a lock on a file until it ends, and writes the
name of the database there when it is ready.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

FILE = "TEST_TEMPLATE_FILE"  # names the file; inherited by the workers


class Template:
    """The database of one run; to be used by the process that starts the workers, before it starts them."""

    def __init__(self) -> None:
        descriptor, os.environ[FILE] = tempfile.mkstemp(prefix="template-")
        with os.fdopen(descriptor, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._process = subprocess.Popen([sys.executable, "-m", "tests.template_database"], stdout=file)

    def remove(self) -> None:
        self._process.wait()
        if name := name_of_template():
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
                server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        Path(os.environ.pop(FILE)).unlink()


def name_of_template() -> str | None:
    """Waits until it is ready; None where there is none, or it could not be made: then everybody migrates."""
    if FILE not in os.environ:
        return None
    with open(os.environ[FILE]) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return file.read() or None


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "itsm_portal.settings")
    django.setup()
    from django.db import connection

    connection.settings_dict["TEST"]["NAME"] += "_template"
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    connection.close()  # a database is copied only while nobody is connected
    print(name, end="")


if __name__ == "__main__":
    main()
