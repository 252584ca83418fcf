"""What a fault must leave behind: the server up, everybody else unhurt, data whole, the next answer right."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import tiny
from cluster import as_owner

# The short form is part of `make test`; the long one takes a quarter of an hour or more.
LONG = os.environ.get("PG_RECO_FAULTS") == "long"


def times(short, long):
    """How often something is tried; PG_RECO_FAULT_TIMES=… overrides both."""
    return int(os.environ.get("PG_RECO_FAULT_TIMES", long if LONG else short))


def started(connection):
    return connection.execute("SELECT pg_postmaster_start_time()").fetchone()


def crashes(cluster):
    """The lines in which the server says that a process of it died, and why."""
    signs = ("was terminated by signal", "PANIC:", "memory allocation of", "terminate called", "stack overflow")
    return [line for line in cluster.log().splitlines() if any(sign in line for sign in signs)]


def last_words(cluster, since, seconds=10):
    """Why a process died that has just gone: what the server has said of it beyond `since` signs; it says so a moment later."""
    deadline = time.monotonic() + seconds
    while not any("terminated by signal" in line for line in crashes(cluster)[since:]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [line.partition("] ")[2] or line for line in crashes(cluster)[since:]] or cluster.log().splitlines()[-8:]


@contextlib.contextmanager
def nobody_hurt(cluster):
    """No process of the server dies meanwhile: a bystander's connection lives on and asks afterwards."""
    with cluster.wait_ready() as bystander:
        before, deaths = started(bystander), len(crashes(cluster))
        yield bystander
        assert crashes(cluster)[deaths:] == []
        assert started(bystander) == before


def assert_whole(connection):
    """Each stored file has its length and its SHA-256, each version its files, and the catalog's indexes are sound."""
    wrong = connection.execute(
        """SELECT f.name, f.version, f.file FROM reco.model_file f
            WHERE (SELECT (encode(sha256(string_agg(p.data, ''::bytea ORDER BY p.part)), 'hex'), sum(length(p.data)))
                     FROM reco.model_part p WHERE (p.name, p.version, p.file) = (f.name, f.version, f.file))
                  IS DISTINCT FROM (f.sha256, f.size)
            UNION ALL SELECT v.name, v.version, 'no file' FROM reco.model_version v
                       WHERE NOT EXISTS (SELECT FROM reco.model_file f WHERE (f.name, f.version) = (v.name, v.version))
            UNION ALL SELECT m.name, m.version_in_use, 'no version' FROM reco.model m
                       WHERE NOT EXISTS (SELECT FROM reco.model_version v WHERE (v.name, v.version) = (m.name, m.version_in_use))"""
    ).fetchall()
    assert wrong == []
    if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchone():
        connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        connection.execute(
            """SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
                WHERE c.relnamespace = 'reco'::regnamespace"""
        )
        if connection.info.server_version >= 140000:
            found = connection.execute(
                """SELECT c.relname, h.* FROM pg_class c, LATERAL verify_heapam(c.oid) h
                    WHERE c.relnamespace = 'reco'::regnamespace AND c.relkind = 'r'"""
            ).fetchall()
            assert found == []


def assert_right(cluster, expected, **settings):
    """A new connection gives the answers from before the fault."""
    with cluster.wait_ready(**settings) as connection:
        assert tiny.answers(connection) == expected
        assert_whole(connection)


def half_made(cluster):
    """Folders of the cache that somebody began to make."""
    root = cluster.data / "pg_reco"
    return [folder.name for folder in root.iterdir() if "." in folder.name] if root.exists() else []


def helpers(cluster):
    """Processes that run in the cluster's folder and are none of the server's: what tries graphs out."""
    server, found = set(cluster.processes()), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            here = (folder / "exe").readlink()
            if here.name.startswith("pg_reco") and str(cluster.data).encode() in (folder / "cwd").readlink().as_posix().encode():
                found += [int(folder.name)] if int(folder.name) not in server else []
        except OSError:
            continue
    return found


def limit(pid, what, bytes_):
    """As `ulimit` does, for a process that runs: `what` is an option of prlimit(1). None takes the limit away."""
    value = "unlimited" if bytes_ is None else bytes_
    # As the owner: root may be without the capability for it.
    subprocess.run(as_owner(["prlimit", "--pid", str(pid), f"--{what}={value}:"]), check=True, capture_output=True)


def limit_memory(pid, mebibytes):
    limit(pid, "as", mebibytes and mebibytes << 20)


def address_space(pid):
    """Mebibytes that a process has mapped."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmSize:"))


def wait_until(condition, seconds=30, what="it"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)
