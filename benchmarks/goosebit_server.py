"""gooseBit as `benchmarks.cycle` compares the portal with it: seeded, served and counted.

It has a virtual environment of its own: `python goosebit_server.py seed|count` is called in there, with the settings in
the environment; the rest is called by the benchmark.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "0.2.12"
START_SECONDS = 60


def install(folder: Path, uv: Path) -> Path:
    """Installs gooseBit below the folder unless it is there; returns its Python."""
    python = folder / "bin/python"
    if not (folder / f"goosebit-{VERSION}").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"goosebit=={VERSION}"], check=True)
        (folder / f"goosebit-{VERSION}").touch()
    return python


class GooseBit:
    """gooseBit with its default database (SQLite) and one device for each name and token, and a rollout for all."""

    def __init__(self, python: Path, folder: Path, host: str, port: int) -> None:
        self._python, self._folder, self._host, self.port = python, folder, host, port
        self._environment = {
            "PATH": os.environ["PATH"],
            "GOOSEBIT_DB_URI": f"sqlite://{folder}/goosebit.sqlite3",
            "GOOSEBIT_ARTIFACTS_DIR": str(folder / "artifacts"),
            "GOOSEBIT_DEVICE_AUTH": json.dumps({"enable": True, "mode": "strict"}),
            "GOOSEBIT_MAX_CONCURRENT_UPDATES": "1000000",
            "GOOSEBIT_LOGGING": json.dumps({"version": 1, "root": {"level": "ERROR"}}),
        }

    def seed(self, devices: list[tuple[str, str]]) -> None:
        self._call("seed", devices)

    def counts(self) -> dict[str, int]:
        """`succeeded`: what the rollout counted; `finished`: devices in their last state."""
        counts: dict[str, int] = self._call("count", None)
        return counts

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """One uvicorn process, as gooseBit starts it; yields its process id."""
        command = f"-m uvicorn goosebit:app --host {self._host} --port {self.port} --log-level error --no-access-log"
        with (self._folder / "goosebit.log").open("wb") as log:
            process = subprocess.Popen(
                [self._python, *command.split()], env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )
        try:
            self._wait(process)
            yield process.pid
        finally:
            process.terminate()
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        from http.client import HTTPConnection

        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), contextlib.closing(HTTPConnection(self._host, self.port)) as connection:
                connection.request("GET", "/DEFAULT/controller/v1/nobody")
                if connection.getresponse().status == 401:
                    return
            time.sleep(0.1)
        raise SystemExit(f"gooseBit did not start:\n{(self._folder / 'goosebit.log').read_text()[-2000:]}")

    def _call(self, verb: str, given: Any) -> Any:
        done = subprocess.run(
            [self._python, __file__, verb],
            input=json.dumps(given),
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return json.loads(done.stdout.splitlines()[-1])


async def _seed() -> None:
    from goosebit.db.config import TORTOISE_CONF
    from goosebit.db.models import Device, Hardware, Rollout, Software, UpdateStateEnum
    from tortoise import Tortoise

    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    hardware = await Hardware.create(model="default", revision="default")
    uri = Path(os.environ["GOOSEBIT_ARTIFACTS_DIR"], "billing.swu").as_uri()
    software = await Software.create(uri=uri, size=1024, hash="0" * 40, version="2.0.0")
    await software.compatibility.add(hardware)
    await Rollout.create(name="all", software=software)
    devices = json.load(sys.stdin)
    await Device.bulk_create(
        [
            Device(
                id=name, auth_token=token[:32], hardware=hardware, last_state=UpdateStateEnum.REGISTERED, sw_version="1"
            )
            for name, token in devices
        ],
        batch_size=500,
    )
    await Tortoise.close_connections()
    print(json.dumps(len(devices)))


async def _count() -> None:
    from goosebit.db.config import TORTOISE_CONF
    from goosebit.db.models import Device, Rollout, UpdateStateEnum
    from tortoise import Tortoise

    await Tortoise.init(config=TORTOISE_CONF)
    rollout = await Rollout.first()
    finished = await Device.filter(last_state=UpdateStateEnum.FINISHED).count()
    await Tortoise.close_connections()
    print(json.dumps({"succeeded": rollout.success_count, "finished": finished}))


if __name__ == "__main__":
    asyncio.run({"seed": _seed, "count": _count}[sys.argv[1]]())
