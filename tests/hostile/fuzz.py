"""Random calls, DDL, cursors, savepoints, cancels and swapped types, over several connections at once: the server must not die.

    make fuzz ARGS='--statements 100000 --seed 7'

It runs in a cluster of its own. The same seed gives each connection the same statements; how they interleave is the machine's doing.
"""

import argparse
import collections
import heapq
import itertools
import random
import re
import sys
import threading
import time
from pathlib import Path

import psycopg

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parent))

import tiny  # noqa: E402
from cluster import Cluster  # noqa: E402
from session import Bystander  # noqa: E402
from statements import FUNCTIONS, GROUND, MODELS, Statements  # noqa: E402

SETTINGS = """
shared_preload_libraries = 'pg_reco'
max_connections = 20
reco.threads = 1
log_min_messages = log
log_statement = none
max_parallel_workers = 2
shared_buffers = 32MB
temp_file_limit = '200MB'
max_stack_depth = '1MB'
"""
# A superuser, the owner of most of what there is, and a member of it; each may act as a role that owns nothing.
ROLES = ["one", "two", "three"]
# A statement is cut off then; what waits for a lock gives up sooner.
TIMEOUT = "400ms"
LOCK_TIMEOUT = "60ms"
LAST = 30
# How many of the statements that took longest are told: each should have ended soon after the timeout.
SLOWEST = 5
# Classes of SQLSTATE (PostgreSQL's appendix A) that say what the statement did wrong, or that it was stopped.
KNOWN = {"01", "02", "08", "0A", "0L", "0P", "20", "21", "22", "23", "24", "25", "26", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F",
         "40", "42", "44", "53", "54", "55", "57", "P0"}  # fmt: skip
# PostgreSQL's own internal errors, with why they are nobody's mistake here.
INTERNAL = [
    # Two sessions change one catalog row at once, or one uses what another drops at that moment.
    r"tuple concurrently (updated|deleted)",
    # 0x7f7f7f7f is what an assertion-enabled server leaves in memory that was freed: never an OID.
    r"could not open relation with OID (?!2139062143)\d+",
    r"cache lookup failed for (relation|function|type|attribute|collation) (?!2139062143)\d+",
    r"type \d+ does not exist|relation \d+ deleted while still in use",
    # A prepared statement over a row type that is gone.
    r"^function in FROM has unsupported return type$",
    # A plan that was made before another session dropped or retyped a column.
    r"attribute \d+ of type .* has (wrong type|been dropped)",
    r"could not find (relation|attribute) ",
]
ENDED = ("57P01", "57P02", "57P03")


class Findings:
    """What the connections met."""

    def __init__(self):
        self.states = collections.Counter()
        self.examples, self.internal, self.lost, self.ran, self.slowest = {}, [], [], 0, []
        self.lock = threading.Lock()

    def count(self, state, statement, seconds, message=""):
        with self.lock:
            self.ran += 1
            heapq.heappush(self.slowest, (seconds, statement))
            if len(self.slowest) > SLOWEST:
                heapq.heappop(self.slowest)
            self.states[state] += 1
            self.examples.setdefault(state, f"{message.splitlines()[0] if message else ''} ← {statement[:300]}")
            known = state == "00000" or state[:2] in KNOWN or any(re.search(pattern, message) for pattern in INTERNAL)
            if not known:
                self.internal.append((state, message, statement))


class Client(threading.Thread):
    """One connection that runs its statements, and begins anew when it is lost."""

    def __init__(self, number, cluster, functions, options, findings):
        super().__init__(daemon=True)
        self.number, self.cluster, self.findings = number, cluster, findings
        chance = random.Random(f"{options.seed}/{number}")
        self.statements = Statements(chance, functions, [tiny.linear_model(), tiny.text_model(), tiny.tokenizer(), tiny.pair_model(), tiny.pair_tokenizer()])
        # What is done about errors must not shift the statements.
        self.recovery = random.Random(f"{options.seed}/{number}/recovery")
        self.count, self.last, self.pid = -(-options.statements // options.connections), collections.deque(maxlen=LAST), None
        self.connection, self.until = None, options.until
        self.failure = None

    def connect(self):
        role = ROLES[self.number % len(ROLES)]
        self.connection = self.cluster.wait_ready(dbname="fuzz", user=role, options=f"-c statement_timeout={TIMEOUT} -c lock_timeout={LOCK_TIMEOUT}")
        self.pid = self.connection.info.backend_pid

    def run(self):
        try:
            self.connect()
            for _ in range(self.count):
                if time.monotonic() > self.until:
                    break
                self.execute(self.statements.next())
            self.connection.close()
        except Exception as error:  # A client must not vanish without a word.
            self.failure = error

    def execute(self, statement):
        self.last.append(statement)
        began = time.monotonic()
        try:
            self.connection.execute(statement)
            self.findings.count("00000", statement, time.monotonic() - began)
        except psycopg.Error as error:
            state = error.sqlstate
            if self.connection.closed or state in ENDED or state is None:
                self.findings.lost.append((self.number, str(error), list(self.last)))
                self.connection.close()
                self.connect()
                return
            self.findings.count(state, statement, time.monotonic() - began, str(error))
            self.recover()

    def recover(self):
        """Out of a transaction that has failed: to a savepoint, if there is one, or to its end."""
        if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
            return
        for way in (self.recovery.choice(["ROLLBACK TO s1", "ROLLBACK TO s2", "ROLLBACK", "COMMIT"]), "ROLLBACK"):
            try:
                self.connection.execute(way)
            except psycopg.Error:
                continue
            if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
                return


class Canceller(threading.Thread):
    """Asks now one connection, now another, to stop."""

    def __init__(self, cluster, clients, seed):
        super().__init__(daemon=True)
        self.cluster, self.clients, self.chance, self.done, self.sent = cluster, clients, random.Random(f"{seed}/cancel"), threading.Event(), 0

    def run(self):
        connection = self.cluster.wait_ready()
        while not self.done.wait(self.chance.uniform(0.01, 0.25)):
            try:
                connection.execute("SELECT pg_cancel_backend(%s)", [self.chance.choice(self.clients).pid])
                self.sent += 1
            except psycopg.Error:
                connection = self.cluster.wait_ready()


def prepare(cluster):
    """The database, the roles, the ground and the models; gives the functions that there are."""
    cluster.create_database("fuzz")
    with cluster.connect(dbname="fuzz") as admin:
        admin.execute("CREATE EXTENSION pg_reco")
        admin.execute("CREATE ROLE one LOGIN SUPERUSER; CREATE ROLE two LOGIN; CREATE ROLE three LOGIN; CREATE ROLE plain; GRANT two TO three; GRANT plain TO two, three")
        admin.execute("CREATE SCHEMA fz AUTHORIZATION two; GRANT ALL ON SCHEMA fz, public TO PUBLIC")
        admin.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reco TO two, plain")
        for (role,) in admin.execute("SELECT rolname FROM pg_roles WHERE rolname IN ('reco_trainer', 'reco_importer')").fetchall():
            admin.execute(f"GRANT {role} TO two, plain")
        tiny.import_text(admin)
        tiny.import_image(admin)
        tiny.import_pair(admin)
        admin.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model()])
        admin.execute("SELECT reco.grant_model(name, 'public') FROM (VALUES ('tiny'), ('picture'), ('pair'), ('linear')) m(name)")
        functions = admin.execute(FUNCTIONS).fetchall()
    with cluster.connect(dbname="fuzz", user="two") as owner:
        owner.execute(
            """CREATE TYPE fz.kind AS ENUM ('a', 'b', 'c'); CREATE DOMAIN fz.id AS bigint CHECK (VALUE > -100); CREATE DOMAIN fz.amount AS double precision;
               CREATE FUNCTION fz.kind_json(fz.kind) RETURNS json LANGUAGE sql AS $$ SELECT '1'::json $$; CREATE CAST (fz.kind AS json) WITH FUNCTION fz.kind_json(fz.kind);
               CREATE FUNCTION fz.trick() RETURNS real LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'"""
        )
        for statement in itertools.chain(GROUND, MODELS.values()):
            owner.execute(statement)
        for name in MODELS:
            owner.execute("SELECT reco.grant_model(%s, 'public')", [name])
    return functions


def fuzz(options):
    """Runs it and gives what was found and what the log says of crashes."""
    began = time.monotonic()
    options.until = began + (options.seconds or 1e9)
    findings = Findings()
    with Cluster(SETTINGS) as cluster:
        cluster.start()
        functions = prepare(cluster)
        bystander = Bystander(cluster)
        bystander.crashes()
        clients = [Client(number, cluster, functions, options, findings) for number in range(options.connections)]
        for client in clients:
            client.start()
        while any(client.pid is None and client.is_alive() for client in clients):
            time.sleep(0.01)
        canceller = Canceller(cluster, clients, options.seed)
        canceller.start()
        crashes, reported = [], time.monotonic()
        while any(client.is_alive() for client in clients):
            time.sleep(0.2)
            fresh = bystander.crashes()
            if fresh:
                crashes += fresh
                report_crash(cluster, clients, fresh)
                if not options.go_on:
                    break
            if time.monotonic() - reported > 60:
                reported = time.monotonic()
                print(f"{findings.ran} statements, {int(reported - began)} s", flush=True)
        canceller.done.set()
        if not crashes or options.go_on:
            for client in clients:
                client.join(60)
        crashes += bystander.crashes()
        failures = [client.failure for client in clients if client.failure]
    summary = {"seed": options.seed, "seconds": round(time.monotonic() - began), "cancels": canceller.sent}
    return findings, crashes, failures, summary


def report_crash(cluster, clients, lines):
    print("CRASH", *lines, sep="\n  ")
    print("the log:", *cluster.log().splitlines()[-25:], sep="\n  ")
    for client in clients:
        print(f"the last statements of connection {client.number} (backend {client.pid}):")
        for statement in client.last:
            print(f"  {statement};")
    sys.stdout.flush()


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0, help="end then, however many statements are left; 0: never")
    parser.add_argument("--go-on", action="store_true", help="after a crash, too")
    return parser.parse_args(given)


def main():
    findings, crashes, failures, summary = fuzz(arguments())
    print(f"\n{findings.ran} statements, {len(crashes)} lines of crashes, {len(findings.lost)} connections lost;", summary)
    for state, count in findings.states.most_common():
        print(f"  {state} {count:>7}  {findings.examples[state] if state != '00000' else ''}"[:300].replace("\n", " "))
    for seconds, statement in sorted(findings.slowest, reverse=True):
        print(f"  {seconds:.2f} s  {statement[:300]}")
    seen = set()
    for state, message, statement in findings.internal:
        kind = (state, re.sub(r"\d+", "N", message)[:90])
        if kind not in seen:
            seen.add(kind)
            print(f"UNKNOWN {state} {message}\n  {statement[:1500]};")
    for number, message, last in findings.lost[:3]:
        print(f"LOST connection {number}: {message}", *last[-3:], sep="\n  ")
    print(*failures, sep="\n")
    sys.exit(bool(crashes or findings.internal or findings.lost or failures))


if __name__ == "__main__":
    main()
