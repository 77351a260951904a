"""nginx in front of the portal as docs/operations/nginx.conf sets it up, the places that it says to adapt filled in."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

PEOPLE, DEVICES = "server 127.0.0.1:8000", "server 127.0.0.1:8001"
SITE = Path(__file__).resolve().parent.parent / "docs/operations/nginx.conf"
_MAIN = """
daemon off; {user} worker_processes 1; worker_rlimit_nofile 131072;
pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 65000; }}
http {{
    access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {site}
}}
"""


def program() -> str | None:
    """Where nginx is; None: it is not installed (`apt-get install nginx-light`)."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def configuration(folder: Path, places: Mapping[str, str]) -> str:
    """The whole file. `places`: by how a line that is to be adapted begins, what stands there instead; what is not
    named stays away.
    """
    lines = []
    for line in SITE.read_text().splitlines():
        is_kept = "# adapt" not in line or line.strip().startswith(_KEPT)
        lines.append(line if is_kept else _instead(line.strip(), places))
    return whole(folder, "\n".join(lines))


def _instead(line: str, places: Mapping[str, str]) -> str:
    return next((new for old, new in places.items() if line.startswith(old)), "")


def whole(folder: Path, site: str) -> str:
    """The main file of an nginx that stays in the foreground and keeps everything in `folder`, around this site."""
    # Workers of an nginx that root starts would not reach files of ours otherwise.
    user = "user root;" if os.geteuid() == 0 else ""
    return _MAIN.format(folder=folder, user=user, site=site)


_KEPT = ("limit_req_zone", "limit_req zone")
