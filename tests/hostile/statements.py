"""Random statements over every function of the extension: plausible ones, odd ones, and what changes the ground beneath them.

The same seed and the same functions give the same statements: nothing here depends on what the server answered.
"""

import json

FUNCTIONS = """
    SELECT p.pronamespace::regnamespace || '.' || p.proname, p.prokind, p.proretset, p.pronargs - p.pronargdefaults AS required,
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, n) ORDER BY n) AS types,
           coalesce(p.proargnames, '{}')::text[] AS names
      FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'pg_reco'
     WHERE p.prokind <> 'p' ORDER BY p.proname, p.proargtypes::text"""

# The ground: made at the start, and anew now and then after it was changed.
OWNED = "ALTER TABLE fz.{0} OWNER TO two; GRANT ALL ON fz.{0} TO PUBLIC"
INTERACTIONS = """DROP TABLE IF EXISTS fz.{0} CASCADE;
    CREATE TABLE fz.{0} (user_id bigint, item_id integer, weight real, ts timestamptz, event text);
    INSERT INTO fz.{0} SELECT u, (u * 7 + i * i * 3) % 15, 1 + (u + i) % 3, timestamptz '2026-01-01' + i * interval '1 day', (ARRAY['buy', 'view'])[1 + i % 2]
      FROM generate_series(1, 12) u, generate_series(1, 5) i;
    """ + OWNED
GROUND = [
    INTERACTIONS.format("t"),
    INTERACTIONS.format("w"),
    """DROP TABLE IF EXISTS fz.r CASCADE;
       CREATE TABLE fz.r (id integer, x double precision, y numeric, vec real[], kind fz.kind, tags text[], note jsonb, label text, ok boolean);
       INSERT INTO fz.r SELECT i, i % 7 / 2.0, i * 13 % 17, ARRAY[i % 2, i % 3], (enum_range(NULL::fz.kind))[1 + i % 3], ARRAY['a', 'b'], '{"a": 1}',
                               (ARRAY['yes', 'no'])[1 + i % 2], i % 2 = 0 FROM generate_series(1, 30) i;"""
    + OWNED.format("r"),
    """DROP TABLE IF EXISTS fz.d CASCADE;
       CREATE TABLE fz.d (id bigint, text text);
       INSERT INTO fz.d SELECT i, 'red wine ' || i FROM generate_series(1, 1500) i;"""
    + OWNED.format("d"),
    """DROP TABLE IF EXISTS fz.i CASCADE;
       CREATE TABLE fz.i (item_id integer, kind fz.kind, price numeric, group_name text);
       INSERT INTO fz.i SELECT i, (enum_range(NULL::fz.kind))[1 + i % 3], i, 'g' || i % 4 FROM generate_series(0, 14) i;"""
    + OWNED.format("i"),
    # Not on fz.t: a column that a view uses cannot be retyped.
    "DROP VIEW IF EXISTS fz.v; CREATE VIEW fz.v AS SELECT * FROM fz.w; ALTER VIEW fz.v OWNER TO two; GRANT ALL ON fz.v TO PUBLIC",
    "CREATE OR REPLACE FUNCTION fz.f(bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'; ALTER FUNCTION fz.f OWNER TO two",
]
MODELS = {
    "m1": "SELECT reco.train('m1', 'TABLE fz.t', 'popularity')",
    "m2": "SELECT reco.train('m2', 'SELECT user_id, item_id, weight, ts FROM fz.v WHERE fz.f(user_id) = user_id', 'item_knn', half_life => '9 days')",
    "m3": """SELECT reco.train('m3', 'TABLE fz.t', 'ials', '{"factors": 2, "iterations": 1}', items => 'TABLE fz.i')""",
    "m4": "SELECT reco.train_synthesizer('m4', 'SELECT id, x, y, kind, label, ok FROM fz.r')",
    "m5": "SELECT reco.train('m5', 'SELECT ''u'' || user_id AS user_id, ''i'' || item_id AS item_id, fz.trick() AS weight FROM fz.t', 'item_knn')",
}
NAMES = [*MODELS, "tiny", "picture", "pair", "linear", "m6", "nobody", "", "ü 名字 '\"", "x" * 300, "fz.t"]
QUERIES = [
    "TABLE fz.t",
    "TABLE fz.v",
    "TABLE fz.r",
    "TABLE fz.d",
    "TABLE fz.i",
    "SELECT user_id, item_id FROM fz.t",
    "SELECT fz.f(user_id) AS user_id, item_id, fz.trick() AS weight FROM fz.t",
    "SELECT id, x, y, kind, label FROM fz.r",
    "SELECT id, x, y, label, tags, note FROM fz.r",
    "SELECT id, vec, label FROM fz.r",
    "SELECT id, x AS weight FROM fz.r",
    "SELECT id AS user_id, id AS item_id, text AS event FROM fz.d",
    "SELECT item_id, group_name FROM fz.i",
    "SELECT item_id FROM fz.i WHERE price < 9",
    "SELECT label AS word, label AS synonym FROM fz.r",
    "SELECT * FROM reco.recommend('m2', 3)",
    "SELECT user_id, item_id FROM reco.recommend_all('m1', 3)",
    "SELECT * FROM reco.split('TABLE fz.t')",
    "SELECT i AS id, repeat('wine ', i) AS text FROM generate_series(1, 300) i",
    "SELECT NULL::bigint AS user_id, NULL::text AS item_id",
    "SELECT 'NaN'::float8 AS weight, 1 AS user_id, 2 AS item_id",
    "SELECT 'infinity'::timestamptz AS ts, 1 AS user_id, 2 AS item_id",
    "SELECT 1 AS user_id, 2 AS item_id WHERE false",
    "SELECT",
    "SELECT 1",
    "VALUES (1, 2)",
    "TABLE fz.t; TABLE fz.t",
    "DELETE FROM fz.t RETURNING user_id, item_id",
    "WITH d AS (DELETE FROM fz.t RETURNING *) TABLE d",
    "SELECT ROW(1, 2) AS user_id, fz.r AS item_id FROM fz.r",
    "SELECT 1 / 0 AS user_id, 1 AS item_id",
    "SELECT 1::smallint AS user_id, repeat('é', 5000) AS item_id",
    "SELECT pg_sleep(0.05)::text AS user_id, 1 AS item_id",
    "nonsense",
    "",
    "; -- x",
    "price < 5",
    "kind",
    "kind = 'a' OR fz.f(1) = 1",
    r"SELECT id, CASE WHEN id % 9 > 0 THEN '\x89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8dfc0000004010180c52a185d0000000049454e44ae426082'::bytea END AS image FROM fz.r",
    "SELECT id, text::bytea AS image FROM fz.d",
]
METHODS = """by_time leave_one_out random loss el2n grad_norm tracin influence knn_shapley forgetting auto aum self_confidence data_oob
    leave_self_out cart gaussian_copula tvae ctgan aim bootstrap independent smote smote_nc adasyn mixup jitter mixed swap delete insert synonym
    concatenate add rank clip drop neighbors model mult_vae always if_better live trained passage query popularity item_knn ease ials bpr gf_cf
    lightgcn neumf two_tower hybrid boosting forest linear""".split()
ALGORITHMS = "popularity item_knn ease ials bpr gf_cf lightgcn neumf mult_vae two_tower hybrid".split()
# What fits a function, by the beginning of its name: methods, queries (places in QUERIES), models.
PAIRS, SAMPLES = [0, 0, 1, 5, 6, 15, 16, 17], [2, 7, 7, 8, 9]
FITTING = {
    "split": ("by_time leave_one_out random", PAIRS, []),
    "importance_weights": ("rank clip drop", [], []),
    "importance": ("auto loss el2n grad_norm tracin knn_shapley forgetting aum self_confidence data_oob", SAMPLES, []),
    "prune": ("auto loss el2n aum", SAMPLES, []),
    "find_label_errors": ("", SAMPLES, []),
    "compare_training": ("", SAMPLES, []),
    "interaction_importance": ("auto leave_self_out knn_shapley", PAIRS, ["m1", "m2", "m3", "m5"]),
    "train_synthesizer": ("cart gaussian_copula bootstrap independent tvae", SAMPLES, ["m4", "m6"]),
    "synthesize": ("", [], ["m4"]),
    "synthetic": ("", SAMPLES, []),
    "alignment": ("", SAMPLES, []),
    "resample": ("", SAMPLES, []),
    "augment_text": ("mixed swap delete insert synonym", [], []),
    "augment_interactions": ("neighbors model", PAIRS, ["m1", "m2", "m3"]),
    "augment": ("smote smote_nc adasyn mixup jitter bootstrap", SAMPLES, []),
    "fuse": ("concatenate add", [], []),
    "embed_images": ("", [3, 39, 39, 39, 40], ["picture", "picture", "tiny"]),
    "embed_image": ("", [], ["tiny"]),
    "embed": ("", [3, 3, 10, 18], ["tiny"]),
    "rerank": ("", [], ["pair", "pair", "pair", "tiny"]),
    "predict": ("", [], ["linear", "linear", "m1", "m3"]),
    "cross_validate": ("", PAIRS, []),
    "tune": ("", PAIRS, []),
    "": ("", PAIRS, ["m1", "m2", "m3", "m5"]),
}
OPTIONS = """factors iterations epochs batch_size learning_rate regularization neighbors alpha components hidden layers depth trees epsilon delta
    domain keys children constraints lexicon corpus keep bins solver precision shrink dropout temperature folds items users columns sizes
    min_similarity max_length pooling normalize prefix event_weights a b""".split()
QUERY_ARGUMENTS = "source test validation items users filter group_by negatives real_source synthetic_source holdout weights".split()
GIVEN = {
    "algorithm": ALGORITHMS,
    "history": ["live", "trained"],
    "input": ["passage", "query"],
    "promote": ["always", "if_better", "never"],
    "items": ["TABLE fz.i", "SELECT item_id, kind, price FROM fz.i"],
    "users": ["SELECT DISTINCT ON (id) id AS user_id, label, x FROM fz.r"],
    "filter": ["TABLE fz.i", "SELECT item_id FROM fz.i WHERE price < 9", "price < 5"],
    "group_by": ["SELECT item_id, group_name FROM fz.i", "SELECT item_id, kind AS group_name FROM fz.i", "kind"],
    "weights": ["SELECT id, x AS weight FROM fz.r"],
    "metric": ["ndcg", "recall"],
    "label": ["label", "kind"],
    "id": ["id"],
    "role": ["two", "three", "public"],
    "view": ["fz.made"],
    "function": ["fz.made"],
    "task": ["predict", "text_embedding", "text_pair"],
}
METRICS = ["ndcg", "recall", "precision", "map", "hit_rate", "auc", "coverage", "diversity", "novelty", "f1", "mrr"]
SETTINGS = {
    "reco.max_batch": [1, 2, 32, 4096, 0, -1],
    "reco.threads": [0, 1, 2, 5],
    "reco.embedding_model": ["'tiny'", "'m1'", "''", "'none'"],
    "reco.execution_provider": ["cpu", "auto"],
    "reco.cache_size": ["0", "'1MB'", "'1GB'"],
    "reco.progress_interval": [0, 1],
    "reco.max_model_size": ["'1kB'", "'1GB'"],
    "search_path": ["fz, pg_catalog", "public", "''", "pg_temp, fz"],
    "work_mem": ["'64kB'", "'4MB'"],
    "DateStyle": ["'SQL, DMY'", "'ISO'"],
    "extra_float_digits": [-15, 1, 3],
    "bytea_output": ["escape", "hex"],
    "enable_material": ["on", "off"],
    "plan_cache_mode": ["auto", "force_generic_plan", "force_custom_plan"],
    "row_security": ["on", "off"],
    "max_parallel_workers_per_gather": [0, 2],
    "parallel_setup_cost": [0, 1000],
    "min_parallel_table_scan_size": [0, "'8MB'"],
    "default_transaction_isolation": ["'read committed'", "'repeatable read'", "'serializable'"],
    "client_min_messages": ["warning", "debug1", "error"],
}
RETYPED = [
    ("t", "item_id", ["bigint", "smallint", "integer", "text", "numeric", "fz.id", "uuid USING lpad(item_id::text, 32, '0')::uuid"]),
    ("t", "user_id", ["bigint", "integer", "text", "fz.id", "char(9)", "timestamptz USING now()"]),
    ("t", "weight", ["real", "double precision", "numeric", "bigint", "text", "boolean USING true", "money USING 1::money"]),
    ("t", "ts", ["date", "timestamp", "timestamptz", "text"]),
    ("t", "event", ["varchar", "char(9)", "fz.kind USING 'a'", "text", "bytea USING '\\x00'"]),
    ("r", "x", ["real", "double precision", "numeric", "text", "fz.amount", "integer"]),
    ("r", "kind", ["text", "fz.kind USING kind::text::fz.kind", "fz.kind[] USING ARRAY[kind::text::fz.kind]"]),
    ("r", "vec", ["double precision[]", "real[]", "text[]", "numeric[]", "fz.amount[]"]),
    ("r", "label", ["text", "fz.kind USING 'a'", "boolean USING true", "bigint USING 1", "varchar(3) USING 'yes'"]),
    ("r", "id", ["bigint", "integer", "text", "fz.id"]),
    ("d", "id", ["bigint", "integer", "text", "smallint", "uuid USING lpad(id::text, 32, '0')::uuid"]),
    ("d", "text", ["varchar", "text", "bytea USING text::bytea", "bigint USING 7", "char(30)"]),
    ("i", "item_id", ["bigint", "integer", "text"]),
]
# What the functions in sources do while they are read.
TRICKS = [
    "RETURN 1", "RETURN NULL", "RETURN 'NaN'", "RETURN 'infinity'", "RETURN -1", "RETURN 1e308", "RETURN 1 / 0",
    "CLOSE ALL; RETURN 1",
    "PERFORM set_config('search_path', 'fz', false); RETURN 1",
    "PERFORM set_config('reco.max_batch', '1', false); RETURN 1",
    "BEGIN EXECUTE 'CLOSE \"<unnamed portal 1>\"'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN EXECUTE 'CLOSE ALL'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN EXECUTE 'DEALLOCATE ALL'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN EXECUTE 'ALTER TABLE fz.t ALTER weight TYPE numeric'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN EXECUTE 'DROP TABLE fz.d'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN EXECUTE 'CREATE TEMP TABLE t (user_id text)'; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM reco.unload('m5'), reco.unload('tiny'); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM reco.recommend('m5', 'u3'::text); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM reco.recommend('m3', 3, filter => 'TABLE fz.i'); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM reco.drop_model('m5'); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM reco.embed('wine', 'tiny'); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "BEGIN PERFORM pg_advisory_lock(5); EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1",
    "RAISE EXCEPTION 'evil'; RETURN 1",
    "PERFORM pg_sleep(0.002); RETURN 1",
]  # fmt: skip
# Takes the names of portals, those that a call of the extension's may be reading, for portals of another kind.
FORGE = """DO $forge$ BEGIN FOR i IN 1 .. 60 LOOP
    BEGIN EXECUTE format('CLOSE %I', '<unnamed portal ' || i || '>'); EXECUTE format('DECLARE %I CURSOR FOR {0}', '<unnamed portal ' || i || '>');
    EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $forge$"""
FORGERIES = ["SELECT 7::bigint, ''x''::text", "SELECT ''x''::text, 7::bigint", "SELECT 1.5::float8, true", "SELECT 1", "SELECT ARRAY[1], ROW(1)", "SELECT"]
TEXTS = ["red wine", "", " ", "白葡萄酒 and tea", "é\u0301🙂", "{a,b}", "'; DROP TABLE x; --", "a" * 3000, "wine " * 400, "\u202e\ufeff", "NaN", "1", "u3", "i4", "-1", "\x01"]
INTEGERS = [0, 1, 2, 3, 5, 7, 10, -1, 100, 1000, 32767, 65536, 2147483647, -2147483648]
BIGINTS = [*INTEGERS, 9223372036854775807, -9223372036854775808]
FLOATS = ["0", "1", "0.5", "0.2", "-1", "NaN", "Infinity", "-Infinity", "1e308", "1e-320", "3e38", "100"]
UUIDS = ["00000000-0000-0000-0000-000000000003", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
INTERVALS = ["1 day", "0", "-1 day", "1 microsecond", "178000000 years", "1 second", "50 milliseconds"]


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


class Statements:
    """An endless sequence of them, one connection's."""

    def __init__(self, chance, functions, graphs):
        self.chance, self.functions, self.graphs = chance, functions, graphs
        self.fitting, self.queued = FITTING[""], []
        self.callable = [function for function in functions if "internal" not in function[4]]

    def next(self):
        if self.queued and self.sometimes(0.8):
            return self.queued.pop(0)
        kinds = {
            **{self.call: 62, self.ddl: 9, self.cursor: 6, self.transaction: 6, self.setting: 3, self.ground: 5, self.train: 3, self.block: 2},
            self.sequence: 2,
        }
        return self.chance.choices(list(kinds), list(kinds.values()))[0]()

    def sequence(self):
        """Statements that only together do anything; others may come in between."""
        stream = "DECLARE c1 CURSOR FOR SELECT reco.embed_query('TABLE fz.d', 'tiny')"
        serve = [f"SELECT * FROM reco.{self.pick(['recommend', 'similar_users'])}('m3', {self.number([3])}::bigint)" for _ in range(2)]
        serve += [self.pick(["SELECT * FROM reco.recommend_all('m1', 2)", "SELECT * FROM reco.explain('m3', 3, 4)", "SELECT * FROM reco.recommend('m5', 'u3'::text)"])]
        query = self.query()
        self.queued = self.pick(
            [
                ["BEGIN", stream, "FETCH 2 FROM c1", FORGE.format(self.pick(FORGERIES)), "FETCH 300 FROM c1", "FETCH ALL FROM c1", "COMMIT"],
                ["BEGIN", stream, "FETCH 2 FROM c1", "SAVEPOINT s1", "FETCH 300 FROM c1", self.query(), "ROLLBACK TO s1", "FETCH 300 FROM c1", "COMMIT"],
                ["BEGIN", "SAVEPOINT s1", stream, "FETCH 2 FROM c1", "RELEASE s1", "SAVEPOINT s2", "CLOSE ALL", "ROLLBACK TO s2", "FETCH 9 FROM c1", "COMMIT"],
                [*serve, self.retype("t"), *serve, self.retype("t"), *serve],
                [*serve, "BEGIN", self.retype("t"), *serve, "ROLLBACK", *serve],
                [GROUND[0], MODELS["m3"], *serve, self.retype("t"), *serve],
                ["DEALLOCATE ALL", f"PREPARE p1 AS {query}", "EXECUTE p1", self.retype("t"), "EXECUTE p1", self.ddl(), "EXECUTE p1"],
                ["BEGIN", f"DECLARE c2 CURSOR FOR {query}", "FETCH 1 FROM c2", self.ddl(), "FETCH 1 FROM c2", self.call(), "FETCH ALL FROM c2", "COMMIT"],
            ]
        )
        return self.queued.pop(0)

    def retype(self, table):
        _, column, types = self.pick([entry for entry in RETYPED if entry[0] == table])
        type_ = self.pick(types)
        if type_ in ("bigint", "integer", "smallint", "real", "double precision", "numeric") and self.sometimes(0.7):
            # From whatever it is by now.
            type_ += f" USING length({column}::text)"
        return f"ALTER TABLE fz.{table} ALTER {column} TYPE {type_}"

    def pick(self, among):
        return self.chance.choice(among)

    def sometimes(self, share):
        return self.chance.random() < share

    # ---------------------------------------------------------------------------------------------------------- values

    def literal(self, type_, name=""):
        """A value of a type, as SQL."""
        if self.sometimes(0.04):
            return f"NULL::{type_}" if "any" not in type_ and type_ not in ("internal", "cstring") else "NULL"
        if type_.endswith("[]"):
            return self.array(type_[:-2], name)
        if type_ == "text":
            return quoted(self.text(name)) + "::text"
        if type_ == "integer":
            return quoted(self.number(INTEGERS)) + "::integer"
        if type_ == "bigint":
            return quoted(self.number(BIGINTS)) + "::bigint"
        if type_ == "numeric":
            return quoted(self.pick(FLOATS)) + "::numeric"
        if type_ in ("double precision", "real"):
            return quoted(self.pick(FLOATS if type_ != "real" else [f for f in FLOATS if "308" not in f and "320" not in f])) + f"::{type_}"
        if type_ == "boolean":
            return self.pick(["true", "false"])
        if type_ == "uuid":
            return quoted(self.pick(UUIDS)) + "::uuid"
        if type_ == "interval":
            return quoted(self.pick(INTERVALS)) + "::interval"
        if type_ == "jsonb":
            return quoted(self.json(name)) + "::jsonb"
        if type_ == "bytea":
            return self.bytes()
        if type_ == "reco.numbers":
            return self.array(self.pick(["double precision", "integer", "real", "numeric"]), name)
        if type_ in ("anyarray", "anycompatiblearray"):
            return self.array(self.pick(["text", "bigint", "integer", "uuid", "real"]), name)
        if type_ == "anyelement":
            return self.pick(["NULL::fz.r", "NULL::fz.t", "NULL::fz.i", "1", "'x'::text", "NULL::fz.kind", "ROW(1, 2)", "ARRAY[1]", "now()"])
        if type_ == "cstring":
            return quoted(self.pick(["public", "one", "", "nobody"]))
        if type_ == "reco.role":
            return "'two'::reco.role"
        return "NULL"

    def number(self, edges):
        return self.chance.randint(0, 14) if self.sometimes(0.7) else self.pick(edges)

    def text(self, name):
        if self.sometimes(0.05):
            return self.pick(TEXTS)
        methods, queries, models = self.fitting
        if self.sometimes(0.8):
            if methods and name == "method":
                return self.pick(methods.split())
            if queries and name in QUERY_ARGUMENTS and name not in GIVEN:
                return QUERIES[self.pick(queries)]
            if models and name in ("name", "model", "model_a", "model_b"):
                return self.pick(models)
            if name in GIVEN:
                return self.pick(GIVEN[name])
        if name in ("name", "model", "model_a", "model_b"):
            return self.pick(list(MODELS)) if self.sometimes(0.8) else self.pick(NAMES)
        if name in QUERY_ARGUMENTS:
            return self.pick(QUERIES)
        if name in ("method", "algorithm", "promote", "history", "input", "metric"):
            return self.pick(QUERIES if name == "history" and self.sometimes(0.3) else METRICS if name == "metric" else METHODS)
        if name in ("label", "id"):
            return self.pick(["label", "id", "kind", "x", "ok", "none", "text"])
        if name in ("user_id", "item_id"):
            return self.pick(["u3", "i4", "3", "4", "nobody"])
        if name == "role":
            return self.pick(["one", "two", "three", "plain", "public", "nobody", ""])
        if name == "task":
            return self.pick(["predict", "text_embedding", "image_embedding", "text_pair", "recommendation", "synthesis", "none"])
        if name in ("view", "function"):
            return self.pick(["fz.made", "fz.\"Made 2\"", "", "a.b.c.d", "fz.t"])
        return self.pick(TEXTS)

    def array(self, element, name):
        if self.sometimes(0.1):
            return self.pick([f"'{{}}'::{element}[]", f"ARRAY[NULL]::{element}[]", f"ARRAY[ARRAY[NULL, NULL]]::{element}[]", f"'[5:5]={{1}}'::{element}[]"])
        if element == "text" and name in ("metrics", "segments", "methods"):
            values = self.chance.sample(METRICS if name == "metrics" else METHODS, self.chance.randint(1, 3))
            return "ARRAY[" + ", ".join(map(quoted, values)) + "]::text[]"
        length = self.pick([1, 2, 2, 2, 3, 8, 8, 300])
        return "ARRAY[" + ", ".join(self.literal(element, name) for _ in range(length)) + f"]::{element}[]"

    def json(self, name, depth=0):
        if self.sometimes(0.05):
            return self.pick(["[]", "null", "3", '"x"', "{}", "[" * 200 + "]" * 200, '{"a": ' * 60 + "1" + "}" * 60, '{"": ""}', "1e400"])
        if name == "inputs":
            return self.pick(['{"x": [[1, 2]]}', '{"x": []}', '{"x": [[1]]}', '{"x": [["a", 2]]}', '{"y": 1}', '{"x": [[1e39, 2], [3, 4]]}'])
        if name == "conditions":
            return self.pick(['{"label": "yes"}', '{"x": 1}', '{"x": {"min": 1}}', '{"kind": ["a", "b"]}', '{"none": 1}'])
        if name == "event_weights":
            return self.pick(['{"buy": 2, "view": 1}', '{"buy": -1}', '{"buy": "x"}'])
        if self.sometimes(0.7):
            return self.pick(["{}", "{}", '{"factors": 2}', '{"factors": 2, "iterations": 1}', '{"epochs": 1}'])
        return json.dumps({self.pick(OPTIONS): self.json_value(depth) for _ in range(self.chance.randint(1, 3))})

    def json_value(self, depth):
        simple = [1, 2, 3, 8, 0, -1, 0.5, 1e308, 2**53, True, None, "", "id", "TABLE fz.t", "cholesky", [], [1, 2], ["id"], [4, 2], {}, "item_knn", ["item_knn"]]
        if depth < 2 and self.sometimes(0.1):
            return {self.pick(OPTIONS): self.json_value(depth + 1)}
        return self.pick(simple)

    def bytes(self):
        whole = self.pick(self.graphs)
        if self.sometimes(0.4):
            damaged = bytearray(whole)
            for _ in range(self.chance.randint(1, 6)):
                damaged[self.chance.randrange(len(damaged))] = self.chance.randrange(256)
            whole = bytes(damaged[: self.chance.randint(1, len(damaged))] if self.sometimes(0.3) else damaged)
        return f"'\\x{whole.hex()}'::bytea"

    # ------------------------------------------------------------------------------------------------------ statements

    def expression(self, columns=None):
        """A call, and what is known of its function."""
        function = self.pick(self.callable) if self.sometimes(0.985) else self.pick(self.functions)
        name, kind, returns_set, required, types, names = function
        self.fitting = FITTING[next(beginning for beginning in FITTING if name.partition(".")[2].startswith(beginning))]
        names = [*names, *[""] * len(types)]
        arguments = []
        for place, (type_, named) in enumerate(zip(types, names)):
            if place >= required and not self.sometimes(0.3):
                continue
            of = self.pick(["text", "bigint", "jsonb", "real[]", "boolean", "uuid"]) if self.sometimes(0.02) else type_
            value = self.literal(of, named)
            if columns and type_ in columns and named not in QUERY_ARGUMENTS and self.sometimes(0.6):
                value = self.pick(columns[type_])
            arguments.append(f"{named} => {value}" if place >= required and named else value)
        return f"{name}({', '.join(arguments)})", kind, returns_set

    ROW_COLUMNS = {
        "text": ["fz.r.label", "fz.r.kind::text"],
        "real[]": ["fz.r.vec"],
        "double precision": ["fz.r.x", "fz.r.id::float8"],
        "real": ["fz.r.x::real"],
        "boolean": ["fz.r.ok"],
        "bigint": ["fz.r.id::bigint"],
        "integer": ["fz.r.id::integer"],
        "anyelement": ["fz.r.id", "fz.r.label", "fz.r", "fz.r.kind"],
    }

    def query(self):
        columns = self.ROW_COLUMNS if self.sometimes(0.3) else None
        call, kind, returns_set = self.expression(columns)
        if kind == "w":
            over = self.pick(["()", "(PARTITION BY fz.r.label)", "(ORDER BY fz.r.id)", "(ORDER BY fz.r.id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)"])
            return f"SELECT {call} OVER {over} FROM fz.r LIMIT 100"
        if kind == "a":
            return f"SELECT {call}{self.pick(['', ' OVER ()', ' FILTER (WHERE fz.r.ok)'])} FROM fz.r{self.pick(['', ' GROUP BY fz.r.label', ' WHERE false'])} LIMIT 100".replace(
                " OVER () FROM fz.r GROUP BY fz.r.label", " OVER () FROM fz.r"
            )
        if columns:
            return f"SELECT l FROM fz.r CROSS JOIN LATERAL {call} AS l LIMIT 60"
        shapes = [f"SELECT {call} LIMIT 60", f"SELECT {call} FROM generate_series(1, 3) LIMIT 60"]
        if returns_set:
            shapes += [f"SELECT * FROM {call} LIMIT 100"] * 4
            shapes += [f"SELECT count(*) FROM {call}", f"SELECT a, b FROM {call} AS a FULL JOIN {call} AS b ON true LIMIT 50"]
            shapes += [f"SELECT * FROM fz.t CROSS JOIN LATERAL {call} AS l LIMIT 40", f"SELECT EXISTS (SELECT FROM {call})"]
        return self.pick(shapes)

    def call(self):
        query = self.query()
        shape = self.chance.random()
        if shape < 0.9:
            return query
        if shape < 0.93:
            return f"EXPLAIN {query}"
        if shape < 0.95:
            return f"CREATE TEMP TABLE IF NOT EXISTS kept_{self.chance.randint(1, 9)} AS {query}"
        if shape < 0.97:
            return f"PREPARE p{self.chance.randint(1, 4)} AS {query}"
        if shape < 0.99:
            return f"EXECUTE p{self.chance.randint(1, 4)}"
        return self.pick(["DEALLOCATE ALL", "DISCARD PLANS", "DISCARD TEMP", "DISCARD SEQUENCES"])

    def block(self):
        """Several calls in one statement, errors caught in between."""
        calls = [f"BEGIN PERFORM * FROM ({self.query()}) q; EXCEPTION WHEN division_by_zero OR invalid_parameter_value THEN NULL; END;" for _ in range(3)]
        between = f"BEGIN {self.ddl()}; EXCEPTION WHEN OTHERS THEN NULL; END;".replace("$f$", "$g$")
        return f"DO $block$ BEGIN {calls[0]} {between} {calls[1]} {calls[2]} END $block$"

    def ddl(self):
        table, column, types = self.pick(RETYPED)
        retype = self.retype(table)
        rows = self.pick(["t", "r", "d", "i"])
        choices = [
            *[retype] * 5,
            f"ALTER TABLE fz.{table} RENAME {column} TO {column}_was",
            f"ALTER TABLE fz.{table} RENAME {column}_was TO {column}",
            f"ALTER TABLE fz.{table} DROP COLUMN {column} CASCADE",
            f"ALTER TABLE fz.{table} ADD COLUMN {column} {self.pick(types).partition(' USING')[0]}",
            f"DROP TABLE IF EXISTS fz.{rows} CASCADE",
            f"TRUNCATE fz.{rows}",
            f"DELETE FROM fz.{rows} WHERE random() < 0.1",
            f"ALTER TABLE fz.{rows} {self.pick(['ENABLE', 'DISABLE'])} ROW LEVEL SECURITY",
            f"{self.pick(['GRANT', 'REVOKE'])} SELECT ON fz.{rows} {{}} PUBLIC",
            "INSERT INTO fz.t SELECT 3, 4, 1, now(), 'buy'",
            "INSERT INTO fz.t (user_id, item_id) SELECT 5, NULL",
            "UPDATE fz.t SET weight = 'NaN' WHERE user_id = 3",
            "UPDATE fz.t SET ts = 'infinity' WHERE user_id = 4",
            "ALTER TYPE fz.kind ADD VALUE IF NOT EXISTS 'd'",
            "DROP VIEW IF EXISTS fz.v CASCADE",
            "CREATE OR REPLACE VIEW fz.v AS SELECT * FROM fz.w",
            "CREATE VIEW fz.v AS SELECT 'u3' AS user_id, 4::numeric AS item_id, 1 AS weight, date '2026-01-01' AS ts",
            "DROP FUNCTION IF EXISTS fz.f CASCADE",
            "CREATE OR REPLACE FUNCTION fz.f(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1'",
            *[f"CREATE OR REPLACE FUNCTION fz.trick() RETURNS real LANGUAGE plpgsql AS $f$ BEGIN {self.pick(TRICKS)}; END $f$"] * 6,
            "DROP VIEW IF EXISTS fz.made",
            "ANALYZE fz.t",
        ]
        made = self.pick(choices)
        return made.format("TO" if made.startswith("GRANT") else "FROM") if "{}" in made else made

    def cursor(self):
        name = self.pick(["c1", "c2", "c3", '"<unnamed portal 1>"', '"<unnamed portal 2>"', '"<unnamed portal 3>"'])
        forged = self.pick(["SELECT 7::bigint, 'x'::text FROM generate_series(1, 999)", "SELECT 'x'::text, 7::bigint FROM generate_series(1, 999)", "SELECT 1"])
        return self.pick(
            [
                f"DECLARE {name} {self.pick(['', 'SCROLL'])} CURSOR {self.pick(['', 'WITH HOLD'])} FOR {self.query()}",
                f"DECLARE {name} CURSOR FOR SELECT reco.embed_query({quoted(self.pick(QUERIES))}, 'tiny')",
                f"DECLARE {name} CURSOR FOR SELECT reco.embed_query('TABLE fz.d', 'tiny')",
                "DECLARE c3 CURSOR FOR SELECT reco.embed_query('TABLE fz.d', 'tiny')",
                f"DECLARE {name} CURSOR FOR {forged}",
                f"FETCH {self.pick(['1', '3', '200', 'ALL', 'BACKWARD 1', 'LAST'])} FROM {name}",
                f"FETCH {self.pick(['1', '3', '50'])} FROM {name}",
                f"MOVE {self.pick(['1', 'ALL'])} FROM {name}",
                f"CLOSE {name}",
                "CLOSE ALL",
            ]
        )

    def transaction(self):
        return self.pick(
            ["BEGIN"] * 6
            + ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s1", "SAVEPOINT s2"]
            + ["ROLLBACK TO s1", "ROLLBACK TO s2", "RELEASE s1", "COMMIT AND CHAIN"]
        )

    def setting(self):
        name = self.pick(list(SETTINGS))
        return self.pick([f"SET {name} = {self.pick(SETTINGS[name])}", f"SET LOCAL {name} = {self.pick(SETTINGS[name])}", f"RESET {name}", "SET LOCAL ROLE plain", "RESET ROLE"])

    def ground(self):
        return self.pick(GROUND)

    def train(self):
        return self.pick(list(MODELS.values()))
