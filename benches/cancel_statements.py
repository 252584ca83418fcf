"""A statement that takes long for every function that trains or gives rows, and for inputs of 1 to 100 MB."""

MODEL = "all-minilm-l6-v2"
TABLES = """
    CREATE TABLE pair AS SELECT u AS user_id, (u * 7919 + i * i) % 5003 AS item_id, now() - i * interval '1 day' AS ts
      FROM generate_series(1, 10000) u, generate_series(1, 20) i;
    CREATE TABLE kind AS SELECT item_id, (item_id % 7)::text AS kind FROM generate_series(0, 5002) item_id;
    CREATE TABLE sample AS SELECT i AS id, sin(i) AS a, cos(i * 3) AS b, i % 11 AS c, (i % 5)::text AS d, i % 3 = 0 AS label
      FROM generate_series(1, 60000) i;
    CREATE TABLE sentence AS SELECT i AS id, repeat('word ', 60) || i AS text FROM generate_series(1, 4000) i;
    ANALYZE"""
MODELS = {
    "pairs": "SELECT reco.train('pairs', 'TABLE pair', 'ials', '{\"factors\": 32, \"iterations\": 2}')",
    "neighbours": "SELECT reco.train('neighbours', 'TABLE pair', 'item_knn')",
    "rows": "SELECT reco.train_synthesizer('rows', 'SELECT a, b, c, d, label FROM sample LIMIT 5000', 'cart')",
    "net": "SELECT reco.train_synthesizer('net', 'SELECT a, b, c, d FROM sample LIMIT 2000', 'tvae', '{\"epochs\": 1}')",
}

PAIR, SAMPLE = "TABLE pair", "SELECT * FROM sample"
LONG = {
    "ials": '{"factors": 128, "iterations": 100}', "bpr": '{"iterations": 10000}', "lightgcn": '{"epochs": 100}',
    "neumf": '{"epochs": 100}', "mult_vae": '{"epochs": 100}', "two_tower": '{"epochs": 100}', "gf_cf": '{"factors": 500}',
    "hybrid": '{"components": ["ials", "item_knn"]}',
}  # fmt: skip


def trainings():
    for algorithm in ("popularity", "item_knn", "ease", "gf_cf", "ials", "bpr", "lightgcn", "neumf", "mult_vae", "two_tower", "hybrid"):
        items = ", items => 'TABLE kind'" if algorithm == "two_tower" else ""
        yield f"train, {algorithm}", f"SELECT reco.train('cancelled', '{PAIR}', '{algorithm}', '{LONG.get(algorithm, '{}')}'{items})"
    for method in ("cart", "gaussian_copula", "tvae", "ctgan", "aim", "bootstrap", "independent"):
        label = "SELECT a, b, c, d, label FROM sample"
        options = '{"epsilon": 1}' if method == "aim" else "{}"
        yield f"train_synthesizer, {method}", f"SELECT reco.train_synthesizer('cancelled', '{label}', '{method}', '{options}')"
    yield "tune", f"SELECT count(*) FROM reco.tune('{PAIR}', 'ials', '{{\"factors\": [16, 32, 64]}}')"
    yield "refresh", "SELECT reco.refresh('pairs') FROM generate_series(1, 10)"


def importances():
    for method in ("auto", "loss", "el2n", "grad_norm", "tracin", "influence", "knn_shapley", "forgetting", "aum", "data_oob", "self_confidence"):
        validation = f", validation => '{SAMPLE} LIMIT 1000'" if method in ("influence", "knn_shapley") else ""
        yield f"importance, {method}", f"SELECT count(*) FROM reco.importance('{SAMPLE}', '{method}'{validation})"
    yield "importance, several", f"SELECT count(*) FROM reco.importance('{SAMPLE}', ARRAY['loss', 'el2n'])"
    yield "importance, window", "SELECT count(s) FROM (SELECT reco.importance(ARRAY[a, b, c]::real[], label) OVER () s FROM sample) x"
    yield "importance_weights", "SELECT count(w) FROM (SELECT reco.importance_weights(a) OVER () w FROM sample, generate_series(1, 30)) x"
    yield "prune", f"SELECT count(*) FROM reco.prune('{SAMPLE}')"
    yield "find_label_errors", f"SELECT count(*) FROM reco.find_label_errors('{SAMPLE}')"
    weights = "SELECT id, 1 AS weight FROM sample"
    yield "compare_training", f"SELECT count(*) FROM reco.compare_training('{SAMPLE}', '{weights}')"
    yield "interaction_importance", "SELECT count(*) FROM reco.interaction_importance('pairs')"


def serving():
    yield "embed, texts", "SELECT count(*) FROM reco.embed((SELECT array_agg(text) FROM sentence))"
    yield "embed_query", "SELECT count(*) FROM reco.embed_query('TABLE sentence')"
    yield "describe_model", f"SELECT count(*) FROM generate_series(1, 100) g, reco.describe_model('{MODEL}', 1 + 0 * g)"
    yield "export_model", f"SELECT sum(length(reco.export_model('{MODEL}', 1 + 0 * g))) FROM generate_series(1, 20) g"
    yield "import_model", f"SELECT reco.import_model('cancelled', reco.export_model('{MODEL}'))"
    yield "recommend", "SELECT count(*) FROM generate_series(1, 10000) u, reco.recommend('pairs', u::bigint, 100)"
    yield "recommend_for_items", "SELECT count(*) FROM generate_series(1, 10000) i, reco.recommend_for_items('pairs', ARRAY[i, i + 1]::bigint[], k => 100)"
    yield "recommend_all", "SELECT count(*) FROM reco.recommend_all('pairs', 500)"
    yield "explain", "SELECT count(*) FROM generate_series(1, 10000) u, reco.explain('pairs', u::bigint, 7::bigint)"
    yield "similar_items", "SELECT count(*) FROM generate_series(1, 5000) i, reco.similar_items('neighbours', i::bigint, 100)"
    yield "similar_users", "SELECT count(*) FROM generate_series(1, 5000) u, reco.similar_users('pairs', u::bigint, 100)"
    yield "split", f"SELECT count(*) FROM reco.split('{PAIR}'), generate_series(1, 5)"
    yield "evaluate", f"SELECT count(*) FROM reco.evaluate('pairs', '{PAIR}', 100, false)"
    yield "compare_models", f"SELECT count(*) FROM reco.compare_models('pairs', 'neighbours', '{PAIR}', 100, false)"
    yield "cross_validate", f"SELECT count(*) FROM reco.cross_validate('{PAIR}', 'item_knn', k => 100)"
    yield "top_k", "SELECT length(reco.top_k(i, i::real, 10000)::text) FROM generate_series(1, 5000000) i"
    yield "mean_embedding", "SELECT reco.mean_embedding(array_fill(1::real, ARRAY[1000])) FROM generate_series(1, 100000)"


def making():
    yield "synthesize", "SELECT count(*) FROM reco.synthesize('rows', 1000000)"
    yield "synthesize, by a graph", "SELECT count(*) FROM reco.synthesize('net', 1000000)"
    yield "augment", f"SELECT count(*) FROM reco.augment('{SAMPLE}', n => 200000, label => 'label')"
    yield "augment_interactions", f"SELECT count(*) FROM reco.augment_interactions('{PAIR}', 10000)"
    options = '{"least_similarity": 0}'
    yield "augment_text, texts", f"SELECT count(*) FROM reco.augment_text((SELECT array_agg(text) FROM sentence), 20, 'swap', '{options}')"
    yield "alignment_weights", f"SELECT count(*) FROM reco.alignment_weights('{SAMPLE}', '{SAMPLE}')"
    yield "resample_aligned", f"SELECT count(*) FROM reco.resample_aligned('{SAMPLE}', '{SAMPLE}', 10000)"
    yield "synthetic_report", f"SELECT reco.synthetic_report('{SAMPLE}', '{SAMPLE}', label => 'label')"
    yield "synthetic_report_html", f"SELECT length(reco.synthetic_report_html('{SAMPLE}', '{SAMPLE}'))"


def large_inputs():
    for megabytes in (1, 10, 100):
        count = megabytes << 20
        yield f"embed, {megabytes} MB of words", f"SELECT reco.embed(repeat('word ', {count // 5})) FROM generate_series(1, 50)"
        yield f"embed, {megabytes} MB of texts", f"SELECT count(*) FROM reco.embed(array_fill(repeat('word ', 200), ARRAY[{megabytes * 1000}]))"
    wide = "SELECT i AS user_id, repeat('x', 1000) || i AS item_id FROM generate_series(1, {0}) i"
    for thousands in (1, 10, 50):
        yield f"train, {thousands} MB of ids", f"SELECT reco.train('cancelled', $${wide.format(thousands * 1000)}$$, 'popularity')"
    yield "augment_text, 64 kB", "SELECT count(*) FROM reco.augment_text(repeat('hello world ', 5400), 100, 'swap', '{\"least_similarity\": 0}')"
    yield "augment_text, 40 MB of texts", (
        "SELECT count(*) FROM reco.augment_text(array_fill(repeat('good words ', 4000), ARRAY[1000]), 1, 'swap', '{\"least_similarity\": 0}')"
    )
    texts = "SELECT i AS id, repeat('some words ', 3000) || i AS t, i % 2 AS n FROM generate_series(1, {0}) i"
    yield "train_synthesizer, 30 MB of free text", f"SELECT reco.train_synthesizer('cancelled', $${texts.format(1000)}$$)"
    yield "recommend_for_items, 1,000,000 ids", (
        "SELECT count(*) FROM reco.recommend_for_items('pairs', (SELECT array_agg(i::bigint) FROM generate_series(1, 1000000) i))"
    )


def statements():
    """{name: statement}."""
    return {name: text for part in (trainings, importances, serving, making, large_inputs) for name, text in part()}


def prepare(connection):
    connection.execute(TABLES)
    for text in MODELS.values():
        connection.execute(text)
    connection.execute(f"SELECT reco.warm('{MODEL}')")
