"""Clients that are killed while helper threads train or embed for them: the server looks for them every 10 ms, and ends their processes in good order."""

import os
import random
import time

import pytest
import surviving
import tiny
from cluster import Cluster, threads

CLIENTS = 100
AT_ONCE = 10
WIDE = "SELECT u AS user_id, (u * 7919 + i * i) % 2003 AS item_id FROM generate_series(1, 2000) u, generate_series(1, 20) i"
WORK = [
    f"SELECT reco.train('killed', '{WIDE}', 'ials', '{{\"factors\": 128, \"iterations\": 1000}}')",
    f"SELECT reco.train('killed', '{WIDE}', 'lightgcn', '{{\"epochs\": 1000}}')",
    f"SELECT reco.train('killed', '{WIDE}', 'mult_vae', '{{\"epochs\": 1000}}')",
    "SELECT count(*) FROM reco.embed((SELECT array_agg(repeat('red wine ', 20) || i) FROM generate_series(1, 400000) i), 'tiny')",
]


@pytest.fixture(scope="module")
def cluster():
    with Cluster("jit = off\nclient_connection_check_interval = 10ms\nreco.threads = 2\n") as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
        yield made


def kill(connection):
    """The client's end of the connection is closed by the system, as when its process is killed: nothing is said before."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, connection.pgconn.socket)
    os.close(nothing)


def test_a_hundred_killed_clients_leave_nothing_behind(cluster):
    chance = random.Random(7)
    expected = tiny_answers(cluster)
    with surviving.nobody_hurt(cluster) as bystander:
        for first in range(0, CLIENTS, AT_ONCE):
            # Some are told how far they are, which goes to the client that is not there any more.
            options = "-c reco.progress_interval=1" if first % 20 else ""
            clients = [cluster.connect(options=options) for _ in range(AT_ONCE)]
            pids = [client.info.backend_pid for client in clients]
            for number, client in enumerate(clients, first):
                client.pgconn.send_query(WORK[number % len(WORK)].encode())
            for client in clients:
                time.sleep(chance.uniform(0, 0.3))
                kill(client)
            running = lambda pids=pids: [pid for pid in pids if os.path.exists(f"/proc/{pid}")]  # noqa: E731
            surviving.wait_until(lambda: not running(), 60, "the end of the processes of killed clients")
        assert bystander.execute("SELECT count(*) FROM reco.model WHERE name = 'killed'").fetchone() == (0,)
        assert threads(bystander.info.backend_pid) >= 1
    assert tiny_answers(cluster) == expected


def tiny_answers(cluster):
    with cluster.connect() as connection:
        return tiny.answers(connection)


def test_an_interrupt_that_ends_nothing_costs_no_work(cluster):
    """What a DBA asks of a process that trains waits until no helper thread lives, and the training goes on."""
    with surviving.nobody_hurt(cluster) as bystander, cluster.connect() as connection:
        pid = connection.info.backend_pid
        train = f"SELECT reco.train('asked', '{WIDE}', 'lightgcn', '{{\"epochs\": 3}}')"
        connection.pgconn.send_query(train.encode())
        asked = 0
        while connection.pgconn.is_busy():
            connection.pgconn.consume_input()
            asked += bystander.execute("SELECT pg_log_backend_memory_contexts(%s)", [pid]).fetchone()[0]
            bystander.execute("SELECT pg_reload_conf()")
            time.sleep(0.1)
        result = connection.pgconn.get_result()
        assert asked > 0 and result.get_value(0, 0) == b"1", result.error_message
        connection.pgconn.get_result()
        assert "logging memory contexts of PID" in cluster.log()
