"""Throw-away clusters: for tests that stop, kill, fill, copy or reconfigure a server, which nobody else may be using.

They are made with the programs of the `pg_config` that is first on PATH, which is the private copy's under `make test`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

PORT = "54321"
SETTINGS = """
listen_addresses = ''
port = 54321
max_connections = 120
shared_buffers = 64MB
max_wal_size = 2GB
log_line_prefix = '%m [%p] '
"""
FAST = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"
DURABLE = "fsync = on\n"


def bindir():
    return Path(subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True, text=True).stdout.strip())


def major_version():
    said = subprocess.run(["pg_config", "--version"], check=True, capture_output=True, text=True).stdout
    return int("".join(c if c.isdigit() else " " for c in said).split()[0])


def as_owner(command):
    """PostgreSQL does not run as root: what only a cluster's owner may run is run as the user postgres then."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


def own(path):
    if os.geteuid() == 0:
        shutil.chown(path, "postgres", "postgres")


class Cluster:
    """A cluster in a folder of its own, gone at the end of the `with` block whatever happens in it."""

    def __init__(self, settings="", durable=False, create=True):
        # Ended from outside (timeout, CI), the test run still takes its servers away: as if by Ctrl-C.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Not the test run's temporary folder: a socket's path must stay below 108 bytes, and postgres must get there.
        self.folder = Path(tempfile.mkdtemp(prefix="pg_reco-", dir="/tmp" if os.access("/tmp", os.W_OK) else "/var/tmp"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.socket = self.folder / "socket"
        self.log_file = self.folder / "log"
        self.bin = bindir()
        self.settings = SETTINGS + (DURABLE if durable else FAST) + settings
        for made in (self.socket, self.log_file):
            made.mkdir() if made is self.socket else made.touch()
            own(made)
        own(self.folder)
        if create:
            self.owned(
                *("initdb", "--pgdata", self.data, "--username", "postgres", "--auth", "trust", "--no-sync"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8"),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    # ------------------------------------------------------------------------------------------------------ programs

    def environment(self, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "RUST_BACKTRACE"}
        return {**kept, "PGHOST": str(self.socket), "PGPORT": PORT, "PGUSER": "postgres", "PGDATABASE": "postgres", **more}

    def program(self, name, *arguments, check=True, env=None, **options):
        """Runs a client program against this cluster; what it writes is in the result, as bytes."""
        done = subprocess.run(
            [self.bin / name, *map(str, arguments)],
            **{"capture_output": True, "env": self.environment(**(env or {})), "cwd": "/", **options},
        )
        assert not check or done.returncode == 0, f"{name} failed: {done.stdout!r} {done.stderr.decode()}"
        return done

    def owned(self, name, *arguments, check=True):
        """Runs a program that only the owner of the data folder may."""
        # Files, not pipes: a server that pg_ctl starts keeps what it inherits.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                as_owner([str(self.bin / name), *map(str, arguments)]),
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=self.environment(), cwd=self.folder,
            )  # fmt: skip
            said.seek(0)
            assert not check or done.returncode == 0, f"{name} failed: {said.read().decode()}\n{self.log()[-3000:]}"
        return done.returncode

    # -------------------------------------------------------------------------------------------------------- server

    def start(self, settings="", wait=120):
        """Starts it, `settings` being lines for this start alone."""
        own_settings = self.data / "reco_test.conf"
        own_settings.write_text(f"{self.settings}\nunix_socket_directories = '{self.socket}'\n{settings}\n")
        own(own_settings)
        main = self.data / "postgresql.conf"
        if "reco_test.conf" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'reco_test.conf'\n")
        self.owned("pg_ctl", "start", "--wait", "--silent", "--timeout", wait, "--pgdata", self.data, "--log", self.log_file)
        return self

    def stop(self, mode="fast", wait=60):
        self.owned("pg_ctl", "stop", "--wait", "--silent", "--mode", mode, "--timeout", wait, "--pgdata", self.data)

    def restart(self, settings="", mode="fast"):
        self.stop(mode)
        self.start(settings)

    def postmaster(self):
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def processes(self):
        """The server's processes, the postmaster first."""
        postmaster = self.postmaster()
        return [postmaster, *children(postmaster)] if postmaster and Path(f"/proc/{postmaster}").exists() else []

    def cut_power(self):
        """Every process of the server dies at once."""
        processes = self.processes()
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in processes) and time.monotonic() < deadline:
            time.sleep(0.02)
        # A container's first process may be slow to wait for the dead, whose number then looks as if it were in use.
        for lock in (self.data / "postmaster.pid", *self.socket.iterdir()):
            lock.unlink(missing_ok=True)

    def remove(self):
        if (self.data / "postmaster.pid").exists():
            self.owned("pg_ctl", "stop", "--silent", "--mode", "immediate", "--timeout", 20, "--pgdata", self.data, check=False)
            self.cut_power()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return self.log_file.read_text(errors="replace")

    # -------------------------------------------------------------------------------------------------------- clients

    def dsn(self, **settings):
        return psycopg.conninfo.make_conninfo(
            **{"host": str(self.socket), "port": PORT, "user": "postgres", "dbname": "postgres", **settings}
        )

    def connect(self, autocommit=True, **settings):
        return psycopg.connect(self.dsn(**settings), autocommit=autocommit)

    def wait_ready(self, seconds=60, **settings):
        """A connection as soon as the server takes one: after a crash, that is when recovery has finished."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.connect(**settings)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def create_database(self, name):
        """An empty database, made anew."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')


def children(pid):
    """The direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid):
    """Whether the process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def threads(pid):
    """The number of a process's threads."""
    return len(os.listdir(f"/proc/{pid}/task"))
