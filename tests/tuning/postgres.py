"""A PostgreSQL server of the test's own, where its programs are installed."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "s3cret:of/the@test"


class Server:
    """A server with one user and one database, on a port of its own."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="normfix-pg-"))
        # The server does not run as root, and pytest's folders are closed to others.
        self.user = dict(user="postgres", group="postgres", extra_groups=[])
        self.user = self.user if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._call("initdb", "-D", self.data, "-U", "tuner", "-A", "scram-sha-256",
                   f"--pwfile={secret}", "--no-sync")  # fmt: skip
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        secret = quote(PASSWORD, safe="")
        return f"postgresql+psycopg://tuner:{secret}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c fsync=off -c listen_addresses=127.0.0.1"
        self._call(
            "pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start"
        )

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        with open(self.folder.with_suffix(".out"), "ab") as log:  # a pipe would stay open
            done = subprocess.run(command, stdout=log, stderr=log, cwd="/", **self.user)
        assert done.returncode == 0, self.folder.with_suffix(".out").read_text()


def server_or_skip() -> Server:
    """A running server; skips the test where PostgreSQL or its Python driver is not installed."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    return Server(places[-1])
