"""The session of somebody who calls the extension's functions, and what a call must leave as it was in it."""

import contextlib

import psycopg

# By qualified names: the session may look for others elsewhere first.
STATE = {
    "user": "SELECT current_user, session_user, pg_catalog.current_setting('role'), pg_catalog.current_setting('evil.mark', true)",
    "settings": "SELECT name, setting, reset_val FROM pg_catalog.pg_settings",
    "advisory locks": "SELECT pid, classid, objid, mode, locktype FROM pg_catalog.pg_locks",
    "cursors": "SELECT name, statement, is_holdable FROM pg_catalog.pg_cursors",
    "prepared statements": "SELECT name, statement FROM pg_catalog.pg_prepared_statements",
    "channels": "SELECT pg_catalog.pg_listening_channels()",
    "schemas": "SELECT oid, nspname, nspowner FROM pg_catalog.pg_namespace",
    # What was there before any database was is left out, for speed.
    "relations": "SELECT relnamespace, relname, relkind, relowner FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.>=) 16384",
    "functions": "SELECT pronamespace, proname, oid, proowner FROM pg_catalog.pg_proc WHERE oid OPERATOR(pg_catalog.>=) 16384",
    "roles": "SELECT rolname, rolsuper FROM pg_catalog.pg_roles",
}
# What comes and goes by itself: PostgreSQL's memory of a transaction's isolation, and portals of the statement that asks.
PASSING = {"settings": {"application_name"}, "cursors": {""}}
CURSOR_ROWS = 5


class Session:
    """A connection that holds one of each thing that a hostile query may spoil: a cursor, an advisory lock, a prepared statement, a channel."""

    def __init__(self, connection):
        self.connection, self.warnings = connection, []
        connection.add_notice_handler(lambda notice: self.warnings.append(notice.message_primary))
        self.pid, self.fetched = connection.info.backend_pid, 0
        # Libraries bring their settings along when they are loaded.
        self.run("DO 'BEGIN END'")
        self.run("SELECT reco.dot_product('{1}', '{1}')")
        self.run("SELECT pg_catalog.pg_advisory_lock(pg_catalog.pg_backend_pid())")
        self.run("PREPARE victims_own AS SELECT 1")
        self.run("LISTEN victims_channel")

    def run(self, statement):
        cursor = self.connection.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def open_cursor(self, hold=""):
        """A cursor of the session's own, two of its rows read."""
        self.run(f"DECLARE victims CURSOR {hold} FOR SELECT pg_catalog.generate_series(1, 100000)")
        self.fetched = 0
        self.read_on()

    def read_on(self):
        """The cursor stands where it stood: its next rows are the next."""
        rows = self.run(f"FETCH {CURSOR_ROWS} FROM victims")
        assert rows == [(self.fetched + i,) for i in range(1, CURSOR_ROWS + 1)], "the caller's cursor gives other rows"
        self.fetched += CURSOR_ROWS

    def state(self):
        found = {}
        for name, query in STATE.items():
            rows = [row for row in self.run(query) if not row or row[0] not in PASSING.get(name, ())]
            if name == "advisory locks":
                rows = [row for row in rows if row[0] == self.pid and row[-1] == "advisory"]
            found[name] = set(rows)
        # A setting that nobody had heard of before is empty when it has been taken back.
        found["user"] = {tuple(value or None for value in row) for row in found["user"]}
        return found

    def give_back(self):
        """Ends what the test has begun; whether the session can be used again."""
        if self.connection.closed:
            return False
        self.run("ROLLBACK")
        self.run("CLOSE ALL")
        self.warnings.clear()
        return True

    @contextlib.contextmanager
    def unchanged(self, what, but=()):
        """Nothing of the session is another after the block, `but` for these."""
        before, warned = self.state(), len(self.warnings)
        yield
        ran = pwned(self.warnings[warned:])
        assert ran == [], f"{what}: the attacker's code ran with the caller's rights: {ran[:3]}"
        after = self.state()
        for name in before.keys() - set(but):
            gone, come = sorted(before[name] - after[name], key=repr), sorted(after[name] - before[name], key=repr)
            assert (gone, come) == ([], []), f"{what}: the session's {name}: {gone[:3]} became {come[:3]}"


def pwned(warnings):
    return [warning for warning in warnings if warning.startswith("pwned")]


class Bystander:
    """A superuser's connection that looks at what has become of the server."""

    SIGNS = ("was terminated by signal", "PANIC:", "terminate called", "server process (PID", "panicked at", "TRAP: ")

    def __init__(self, cluster):
        self.cluster, self.seen, self.connection = cluster, 0, None

    def crashes(self):
        """What the server's log has said of dead processes since the last time."""
        with self.cluster.log_file.open(errors="replace") as log:
            log.seek(self.seen)
            fresh = log.read()
            self.seen = log.tell()
        return [line for line in fresh.splitlines() if any(sign in line for sign in self.SIGNS)]

    def assert_unhurt(self, what):
        """No process died, the attacker gained nothing. What was gained or left is taken away, for the next test's sake."""
        crashes = self.crashes()
        try:
            ran, raised = self.take_back()
        except psycopg.OperationalError:
            self.connection = None
            ran, raised = self.take_back()
        crashes += self.crashes()
        assert (crashes, ran, raised) == ([], [], []), f"{what}: {crashes[:2]} {ran[:3]} {raised}"

    def admin(self):
        if self.connection is None or self.connection.closed:
            self.connection = self.cluster.wait_ready(dbname="hostile")
        return self.connection

    def choose(self, trick):
        """What the attacker's models do."""
        self.admin().execute("DELETE FROM evil.trick")
        if trick is not None:
            self.admin().execute("INSERT INTO evil.trick VALUES (%s)", [trick])

    def take_back(self):
        admin = self.admin()
        ran = admin.execute("SELECT DISTINCT what, who FROM evil.pwned").fetchall()
        raised = admin.execute("SELECT rolname FROM pg_roles WHERE rolname = 'attacker' AND (rolsuper OR rolcreaterole)").fetchall()
        if ran or raised:
            admin.execute("TRUNCATE evil.pwned; ALTER ROLE attacker NOSUPERUSER NOCREATEROLE")
        if admin.execute("SELECT 1 FROM pg_class WHERE relnamespace = 'made'::regnamespace AND relname IN ('list', 'rows')").fetchone():
            admin.execute("DROP VIEW IF EXISTS made.list; DROP TABLE IF EXISTS made.rows")
        admin.execute("DROP FUNCTION IF EXISTS made.list, made.close_all; SELECT reco.drop_model(name) FROM reco.model WHERE name LIKE 'made%'")
        return ran, raised


def refused(connection, statement, *states):
    """Runs a statement that must fail with one of these SQLSTATEs."""
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        assert error.sqlstate in states, f"{statement}: {error.sqlstate} {error}"
    else:
        raise AssertionError(f"not refused: {statement}")
