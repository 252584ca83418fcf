"""For every function of the extension calls on what the attacker has made.

A key is the beginning of a signature, without the schema `reco`, long enough to tell overloads apart: a function that no key fits has no case,
and a test fails. The calls of one key run one after another; what they make in schema `made`, they take away.
"""

ROWS = "TABLE evil.sample"
NUMBERS = "SELECT id, x, y, colour, label FROM evil.sample"
PURCHASES = "SELECT user_id, item_id, weight, ts, event FROM evil.purchase"
PAIRS = "SELECT u AS user_id, i AS item_id FROM pg_catalog.generate_series(1, 24) u, pg_catalog.generate_series(0, 19) i"


def of_vectors(key, *statements):
    """Of lists of `real`, and of those of any other number."""
    return {
        key.format(type_): [statement.format(value) for statement in statements]
        for type_, value in (("real[]", "features"), ("reco.numbers", "features::double precision[]"))
    }


def recommended(function, of):
    return [
        f"SELECT * FROM reco.{function}('evil shop', {of}, 3)",
        f"SELECT * FROM reco.{function}('evil favourites', {of}, k => 3, filter => 'SELECT item_id FROM evil.item')",
        f"""SELECT * FROM reco.{function}('evil words', {of}, k => 3, group_by => 'SELECT item_id, kind AS group_name FROM evil.item', max_per_group => 1)""",
    ]


def explained(user, item):
    model = model_of(item)
    return [f"SELECT * FROM reco.explain('{model}', {user}, {item})", f"SELECT * FROM reco.explain('{model}', {user}, {item}, 'trained')"]


def model_of(id):
    """A model that knows this id."""
    return "evil uuids" if "uuid" in id else "evil shop"


TEXT, NUMBER, UUID = "'3'::pg_catalog.varchar", "3::bigint", "'00000000-0000-0000-0000-000000000003'::pg_catalog.uuid"
TEXTS, NUMBERS_OF, UUIDS = "'{3,4}'::pg_catalog.text[]", "'{3,4}'::bigint[]", f"ARRAY[{UUID}]"
REPORTED = "('SELECT x, y, colour, label FROM evil.sample', 'SELECT x, y, colour, label FROM evil.sample', label => 'label')"

# One pixel.
IMAGE = "''\\x89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8dfc0000004010180c52a185d0000000049454e44ae426082''::pg_catalog.bytea"

CASES = {
    # Roles as rows name them.
    "role_in(cstring": ["SELECT reco.role_in('attacker')", "SELECT reco.role_in('public')"],
    "role_out(reco.role": ["SELECT reco.role_out('attacker'::reco.role)"],
    # Vectors.
    "embed(text,": ["SELECT reco.embed(d.text, 'tiny') FROM evil.document d", "SELECT reco.embed('red wine', 'tiny')"],
    "embed(text[],": ["SELECT * FROM reco.embed(ARRAY(SELECT d.text::pg_catalog.text FROM evil.document d), 'tiny')"],
    "embed_query(": [
        "SELECT * FROM reco.embed_query('TABLE evil.document', 'tiny')",
        "SELECT * FROM reco.embed_query('SELECT item_id AS id, title AS text FROM evil.item', 'tiny') LIMIT 1",
    ],
    "embed_image(": ["SELECT reco.embed_image(NULL, 'tiny')"],
    "embed_images(": [
        f"SELECT * FROM reco.embed_images('SELECT item_id AS id, {IMAGE} AS image FROM evil.item', 'picture')",
        f"SELECT * FROM reco.embed_images('SELECT item_id AS id, {IMAGE} AS image FROM evil.item', 'picture') LIMIT 1",
    ],
    "rerank(": [
        "SELECT * FROM reco.rerank('red wine', ARRAY(SELECT d.text::pg_catalog.text FROM evil.document d), 'pair')",
        "SELECT * FROM evil.item i, reco.rerank(i.title, ARRAY[i.title::pg_catalog.text, NULL, 'tea'], 'pair')",
    ],
    **of_vectors("cosine_similarity({0},", "SELECT reco.cosine_similarity({0}, {0}) FROM evil.sample"),
    **of_vectors("dot_product({0},", "SELECT reco.dot_product({0}, {0}) FROM evil.sample"),
    **of_vectors("fuse({0},{0},{0},text", "SELECT reco.fuse({0}, {0}) FROM evil.sample"),
    **of_vectors("fuse({0},{0},{0},{0},text", "SELECT reco.fuse({0}, {0}, {0}, '{{1,2,3}}', 'add') FROM evil.sample"),
    **of_vectors("mean_embedding({0})", "SELECT reco.mean_embedding({0}) FROM evil.sample", "SELECT reco.mean_embedding({0}) FROM evil.sample GROUP BY label"),
    **of_vectors("mean_embedding({0},double precision)", "SELECT reco.mean_embedding({0}, x) FROM evil.sample"),
    "reco_internal.numbers(": [
        f"SELECT reco.dot_product(features::{type_}[], y_and_y) FROM (SELECT features, ARRAY[y, y] AS y_and_y FROM evil.sample) s"
        for type_ in ("real", "double precision", "numeric", "smallint", "integer", "bigint")
    ],
    "reco_internal.numbers_in(cstring": ["SELECT '{1,2,NaN}'::reco.numbers"],
    "reco_internal.numbers_out(reco.numbers": ["SELECT features::reco.numbers FROM evil.sample"],
    # Measuring recommenders.
    "split(": [f"SELECT * FROM reco.split('{PURCHASES}', '{method}')" for method in ("by_time", "leave_one_out", "random")],
    "evaluate(": [
        f"SELECT * FROM reco.evaluate('evil shop', '{PURCHASES}', 3, false)",
        f"SELECT * FROM reco.evaluate('evil favourites', '{PURCHASES}', 3, false, history => 'TABLE evil.purchase', negatives => '{PAIRS}')",
    ],
    "compare_models(": [f"SELECT * FROM reco.compare_models('evil shop', 'evil favourites', '{PURCHASES}', 3, false, bootstrap => 10)"],
    "cross_validate(": [f"SELECT * FROM reco.cross_validate('{PURCHASES}', 'item_knn', folds => 2, k => 3, event_weights => '{{\"buy\": 2, \"view\": 1}}')"],
    # Importance.
    "importance(text,text,": [
        f"SELECT * FROM reco.importance('{NUMBERS}', 'knn_shapley', 'label', 'id', validation => '{NUMBERS}')",
        f"SELECT * FROM reco.importance('{NUMBERS}', 'loss', 'colour', 'id')",
    ],
    "importance(text,text[],": [f"SELECT * FROM reco.importance('{NUMBERS}', '{{loss,el2n}}'::pg_catalog.text[], 'label', 'id')"],
    **of_vectors("importance({0},text,", "SELECT reco.importance({0}, label, 'el2n') OVER () FROM evil.sample"),
    **of_vectors("importance({0},double precision,", "SELECT reco.importance({0}, x::double precision, 'el2n') OVER () FROM evil.sample"),
    **of_vectors("importance({0},boolean,", "SELECT reco.importance({0}, truth, 'el2n') OVER () FROM evil.sample"),
    "importance_weights(": ["SELECT reco.importance_weights(x) OVER () FROM evil.sample"],
    "prune(": [f"SELECT * FROM reco.prune('{NUMBERS}', 'loss', label => 'label', id => 'id')"],
    "find_label_errors(": [f"SELECT * FROM reco.find_label_errors('{NUMBERS}', 'label', 'id')"],
    "compare_training(": [
        f"SELECT * FROM reco.compare_training('{NUMBERS}', 'SELECT id, x AS weight FROM evil.sample', label => 'label', id => 'id', seeds => 1)"
    ],
    "loss_stats(": ["SELECT reco.loss_stats(x) FROM evil.sample"],
    "importance_histogram(double precision,double precision,double precision)": ["SELECT reco.importance_histogram(x, 0, 4) FROM evil.sample"],
    "importance_histogram(double precision,double precision,double precision,integer)": ["SELECT reco.importance_histogram(x, 0, 4, 3) FROM evil.sample"],
    "interaction_importance(": [
        f"SELECT * FROM reco.interaction_importance(source => '{PURCHASES}')",
        f"SELECT reco.train('made', '{PURCHASES}', 'item_knn')",
        "SELECT * FROM reco.interaction_importance('made')",
        "SELECT reco.drop_model('made')",
    ],
    # Search.
    "train_search(": [
        "SELECT reco.train_search('made search', 'SELECT item_id AS id, title FROM evil.item', embedding_model => 'tiny')",
        "SELECT * FROM reco.search('made search', 'red wine', 3)",
        "SELECT * FROM reco.search('made search', 'red wine', 3, 'SELECT item_id AS id FROM evil.item')",
        "SELECT reco.refresh('made search')",
        "SELECT reco.train_search('made search', 'SELECT item_id AS id, title FROM evil.item', "
        "events => 'SELECT title AS query, item_id AS id, 1 AS position FROM evil.item')",
        "SELECT * FROM reco.evaluate_search('made search', 'SELECT title AS query, item_id AS id, 1 AS grade FROM evil.item')",
        "SELECT reco.drop_model('made search')",
    ],
    "search(": [
        "SELECT * FROM reco.search('evil search', 'red wine', 3)",
        "SELECT * FROM reco.search('evil search', 'red wine', 3, 'SELECT item_id AS id FROM evil.item')",
    ],
    "tune_search(": [
        "SELECT * FROM reco.tune_search('SELECT item_id AS id, title FROM evil.item', 'SELECT title AS query, item_id AS id, 1 AS grade FROM evil.item', "
        "embedding_model => 'tiny')"
    ],
    "compare_search(": [
        "SELECT * FROM reco.compare_search('evil search', 'evil search', 'SELECT title AS query, item_id AS id, 1 AS grade FROM evil.item', "
        "segments => 'SELECT title AS query, title AS segment FROM evil.item')"
    ],
    "create_search_function(": [
        "SELECT reco.create_search_function('evil search', 'made.found')",
        "SELECT * FROM made.found('red wine')",
        "DROP FUNCTION made.found",
    ],
    "search_matches(": ["SELECT reco.search_matches('evil search', 'wine', 'SELECT item_id AS id FROM evil.item')"],
    "related_queries(": ["SELECT * FROM reco.related_queries('evil search', 'wine')"],
    "suggest(": ["SELECT * FROM reco.suggest('evil search', 'w')"],
    "highlight(": ["SELECT reco.highlight('evil search', 'wine', title) FROM evil.item"],
    "evaluate_search(": ["SELECT * FROM reco.evaluate_search('evil search', 'SELECT title AS query, item_id AS id, 1 AS grade FROM evil.item')"],
    # Models.
    "import_model(": ["SELECT reco.import_model('made linear', onnx) FROM made.graph", "SELECT reco.drop_model('made linear')"],
    "export_model(": ["SELECT reco.export_model('evil words')", "SELECT reco.export_model('evil shop', 1)"],
    "describe_model(": ["SELECT * FROM reco.describe_model('evil shop')"],
    "promote_model(": [
        f"SELECT reco.train('made', '{PURCHASES}', 'popularity')",
        "SELECT reco.promote_model('made', 1)",
        "SELECT reco.drop_model('made')",
    ],
    "drop_model(": [f"SELECT reco.train('made', '{PURCHASES}', 'popularity')", "SELECT reco.drop_model('made')"],
    "grant_model(": [
        f"SELECT reco.train('made', '{PURCHASES}', 'popularity')",
        "SELECT reco.grant_model('made', 'attacker')",
        "SELECT reco.drop_model('made')",
    ],
    "revoke_model(": [
        f"SELECT reco.train('made', '{PURCHASES}', 'popularity')",
        "SELECT reco.revoke_model('made', 'attacker')",
        "SELECT reco.drop_model('made')",
    ],
    "warm(": ["SELECT reco.warm('evil shop')", "SELECT reco.warm('tiny')"],
    "unload(": ["SELECT reco.unload('evil shop')", "SELECT reco.unload('tiny')"],
    "model_name(": ["SELECT reco.model_name(id) FROM reco.models"],
    # What it takes away, the victims have been granted by name.
    "revoke_from_public(": ["CALL reco.revoke_from_public()"],
    "prune_versions(": [
        f"SELECT reco.train('made', '{PURCHASES}', 'popularity')",
        f"SELECT reco.train('made', '{PURCHASES}', 'popularity')",
        "SELECT reco.prune_versions('made', 1)",
        "SELECT reco.drop_model('made')",
    ],
    "cache_folders(": ["SELECT * FROM reco.cache_folders()", "TABLE reco.cache"],
    "sweep_cache(": ["SELECT * FROM reco.sweep_cache()"],
    "predict(": ["""SELECT reco.predict('linear', '{"x": [[1, 2]]}')"""],
    # Recommenders.
    "train(": [
        f"SELECT reco.train('made', '{PURCHASES}', 'ials', '{{\"factors\": 2, \"iterations\": 1}}', items => 'TABLE evil.item')",
        f"""SELECT reco.train('made', '{PURCHASES}', 'two_tower', '{{"factors": 2, "epochs": 1}}', items => 'SELECT item_id, kind, title, price FROM evil.item',
                             users => 'SELECT DISTINCT ON (id) id AS user_id, colour, x FROM evil.sample', half_life => '3 days')""",
        "SELECT reco.drop_model('made')",
    ],
    "refresh(": [f"SELECT reco.train('made', '{PURCHASES}', 'popularity')", "SELECT reco.refresh('made')", "SELECT reco.drop_model('made')"],
    "tune(": [f"""SELECT * FROM reco.tune('{PURCHASES}', 'item_knn', '{{"neighbours": [2, 4]}}', 3, budget => '2 seconds')"""],
    "recommend(text,text,": recommended("recommend", TEXT),
    "recommend(text,bigint,": recommended("recommend", NUMBER),
    "recommend(text,uuid,": recommended("recommend", UUID),
    "recommend_for_items(text,anyarray,": [
        statement
        for ids in (TEXTS, NUMBERS_OF, UUIDS, "ARRAY[3, 4]", "ARRAY(SELECT item_id FROM evil.item)")
        for statement in recommended("recommend_for_items", f"item_ids => {ids}")[1:]
    ],
    "recommend_for_items(text,text,": recommended("recommend_for_items", "item_ids => '{3,4}'")[1:],
    "recommend_all(": ["SELECT * FROM reco.recommend_all('evil shop', 2)", "SELECT * FROM reco.recommend_all('evil words', 2, filter => 'TABLE evil.item')"],
    "similar_items(text,text,": [f"SELECT * FROM reco.similar_items('evil shop', {TEXT})"],
    "similar_items(text,bigint,": [f"SELECT * FROM reco.similar_items('evil shop', {NUMBER})"],
    "similar_items(text,uuid,": [f"SELECT * FROM reco.similar_items('evil uuids', {UUID})"],
    **{
        f"explain(text,{user},{item},": explained(value, of)
        for user, value in (("text", TEXT), ("bigint", NUMBER), ("uuid", UUID))
        for item, of in (("text", TEXT), ("bigint", NUMBER), ("uuid", UUID))
    },
    "similar_users(text,text,": [f"SELECT * FROM reco.similar_users('evil shop', {TEXT})"],
    "similar_users(text,bigint,": [f"SELECT * FROM reco.similar_users('evil shop', {NUMBER})"],
    "similar_users(text,uuid,": [f"SELECT * FROM reco.similar_users('evil uuids', {UUID})"],
    "model_users(": ["SELECT * FROM reco.model_users('evil shop')"],
    "create_view(": ["SELECT reco.create_view('evil words', 'made.list', 2)", "TABLE made.list", "DROP VIEW made.list"],
    "create_function(": [
        "SELECT reco.create_function('evil words', 'made.list', 2)",
        "SELECT * FROM made.list('u3')",
        "DROP FUNCTION made.list",
    ],
    "top_k(": ["SELECT reco.top_k(colour, x::real, 3) FROM evil.sample GROUP BY label", "SELECT reco.top_k(id, x::real, 3) FROM evil.sample"],
    # Predictors.
    "train_predictor(": [
        f"SELECT reco.train_predictor('made predictor', '{ROWS}', weight => 'x')",
        f"SELECT * FROM reco.predict_query('made predictor', '{ROWS}')",
        f"SELECT * FROM reco.predict_query('made predictor', '{ROWS}') LIMIT 1",
        "SELECT reco.drop_model('made predictor')",
    ],
    "predict_query(": [
        "SELECT * FROM reco.predict_query('evil predictor', 'TABLE evil.sample')",
        "SELECT * FROM evil.item, reco.predict_query('evil predictor', 'TABLE evil.sample') LIMIT 1",
    ],
    # Metrics of predictions.
    **{
        f"{name}(": [f"SELECT reco.{name}({arguments}) FROM evil.sample", f"SELECT reco.{name}({arguments}) FROM evil.sample GROUP BY label"]
        for name, arguments in {
            "auc": "x, truth", "average_precision": "x, truth", "lift": "x, truth, 0.5", "ndcg": "x, pg_catalog.abs(y), 3", "calibration": "0.5, truth, 3",
            "log_loss": "0.5, truth", "brier": "0.5, truth", "rmse": "x, y", "mae": "x, y", "r2": "x, y", "rate": "truth, 0.9",
            "accuracy": "colour, colour", "confusion": "colour, colour",
        }.items()
    },
    **{
        f"{name}({types}": [f"SELECT reco.{name}({arguments}) FROM evil.sample"]
        for name in ("precision_score", "recall_score", "f1")
        for types, arguments in {"boolean,": "truth, truth", "anycompatible,": "colour, colour, 'macro'"}.items()
    },
    # Statistics.
    "stat_models(": ["SELECT * FROM reco.stat_models()", "TABLE reco.stat_models"],
    "reset_stat_models(": ["SELECT reco.reset_stat_models('evil shop')", "SELECT reco.reset_stat_models()"],
    "stat_workers(": ["SELECT * FROM reco.stat_workers()", "TABLE reco.stat_workers"],
    "stat_progress(": ["SELECT * FROM reco.stat_progress()", "TABLE reco.stat_progress"],
    # Synthetic rows.
    "train_synthesizer(": [
        f"SELECT reco.train_synthesizer('made', '{ROWS}')",
        "SELECT * FROM reco.synthesize('made', 3)",
        "SELECT reco.train_synthesizer('made', 'TABLE evil.tagged')",
        f"SELECT reco.train_synthesizer('made', '{NUMBERS}', 'gaussian_copula')",
        "SELECT reco.drop_model('made')",
    ],
    "synthesize(text,": ["SELECT * FROM reco.synthesize('evil rows', 5)", """SELECT * FROM reco.synthesize('evil rows', 5, '{"label": "odd"}')"""],
    # Of the row type that the caller names, the caller's own: the checks of another's domains run as PostgreSQL's own functions would run them.
    "synthesize(anyelement,": [
        "CREATE TABLE made.rows (id bigint, x double precision, y integer, features real[], colour pg_catalog.text, label pg_catalog.text)",
        "SELECT * FROM reco.synthesize(NULL::made.rows, 'evil rows', 5)",
        "DROP TABLE made.rows",
    ],
    "synthesize_related(": [
        """SELECT reco.train_synthesizer('made', 'SELECT id, x, label FROM evil.sample',
               options => '{"keys": ["id"], "children": {"evil.purchase": {"source": "SELECT user_id, item_id, weight FROM evil.purchase", "key": "user_id"}}}')""",
        "SELECT * FROM reco.synthesize_related('made', 3)",
        "SELECT reco.drop_model('made')",
    ],
    "augment(text,": [
        f"SELECT * FROM reco.augment('{NUMBERS}', '{method}', 5, 'label')" for method in ("smote_nc", "jitter", "bootstrap", "mixup")
    ]
    + [f"SELECT * FROM reco.augment('{ROWS}', 'bootstrap', 5)", "SELECT * FROM reco.augment('TABLE evil.tagged', 'bootstrap', 5)"],
    "augment(anyelement,": [
        "CREATE TABLE made.rows (id bigint, x double precision, y integer, colour pg_catalog.text, label pg_catalog.text)",
        f"SELECT * FROM reco.augment(NULL::made.rows, '{NUMBERS}', 'smote_nc', 5, 'label')",
        "DROP TABLE made.rows",
    ],
    "alignment_weights(": [f"SELECT * FROM reco.alignment_weights('{NUMBERS}', '{NUMBERS}', 'id')"],
    "resample_aligned(": [f"SELECT * FROM reco.resample_aligned('{NUMBERS}', '{NUMBERS}', 5, 'id')"],
    "synthetic_report(": [f"SELECT reco.synthetic_report{REPORTED}", "SELECT reco.synthetic_report('TABLE evil.tagged', 'TABLE evil.tagged')"],
    "synthetic_report_html(": [f"SELECT reco.synthetic_report_html{REPORTED}"],
    "augment_interactions(": [
        f"SELECT * FROM reco.augment_interactions('{PURCHASES}', 5, 'neighbors')",
        f"SELECT * FROM reco.augment_interactions('{PURCHASES}', 5, 'model', 'evil shop')",
    ],
    "augment_text(text,": [
        "SELECT * FROM reco.augment_text('red wine and tea', 2, 'swap')",
        """SELECT * FROM reco.augment_text('red wine and tea', 2, 'synonym', '{"lexicon": "SELECT title AS word, title AS synonym FROM evil.item"}')""",
    ],
    "augment_text(text[],": ["SELECT * FROM reco.augment_text('{red wine and tea,white bread and milk}'::pg_catalog.text[], 2, 'delete')"],
}

# What only aggregates call: nothing of SQL's has the type `internal`, so that a call by hand is refused before it starts.
INTERNAL = "internal"


def is_internal(signature):
    return INTERNAL in signature.partition("(")[2].rstrip(")").split(",")


def by_hand(signature):
    """A call of a function that takes `internal`, with what a user could try to pass."""
    name, _, types = signature.rstrip(")").partition("(")
    values = {"bytea": r"'\x0000ffff'::bytea", "anyelement": "1"}
    arguments = ", ".join(values.get(type_, "NULL") for type_ in types.split(","))
    return f"SELECT {name if '.' in name else 'reco.' + name}({arguments})"


def key_of(signature):
    """The longest key that the signature begins with; None where there is none."""
    return max((key for key in CASES if signature.startswith(key)), key=len, default=None)
