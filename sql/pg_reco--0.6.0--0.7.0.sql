-- 0.6.0 → 0.7.0. tests/test_upgrade.py compares the result with a fresh install.

ALTER TABLE reco.model_file ADD COLUMN stored_in integer;
COMMENT ON COLUMN reco.model_file.stored_in IS 'version that has its parts; NULL for its own';

ALTER TABLE reco.model_version DROP CONSTRAINT model_version_task_check, ADD CONSTRAINT model_version_task_check
    CHECK (task IN ('text_embedding', 'image_embedding', 'text_pair', 'recommendation', 'synthesis', 'search', 'predict'));

CREATE FUNCTION reco.rerank(query text, texts text[], model text)
    RETURNS TABLE (rank integer, ordinal bigint, score real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'rerank_wrapper';
COMMENT ON FUNCTION reco.rerank IS 'texts ordered by the score that a cross-encoder gives each with a query';

DROP FUNCTION reco.train_search, reco.search, reco.suggest, reco.evaluate_search;

CREATE FUNCTION reco.suggest(model text, prefix text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, suggestion text, count bigint, kind text)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'suggest_wrapper';
COMMENT ON FUNCTION reco.suggest IS 'past queries and words of a search index that begin with a prefix, most frequent first';

CREATE FUNCTION reco.related_queries(model text, query text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, related text, similarity real, count bigint)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'related_queries_wrapper';
COMMENT ON FUNCTION reco.related_queries IS 'past queries that are like a text, most similar first';

CREATE FUNCTION reco.train_search(name text, source text, options jsonb DEFAULT '{}', embedding_model text DEFAULT NULL,
        recommender text DEFAULT NULL, judgements text DEFAULT NULL, events text DEFAULT NULL, seed bigint DEFAULT 0,
        keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_search_wrapper';
COMMENT ON FUNCTION reco.train_search IS 'make a search index of the rows of a query';

CREATE FUNCTION reco.search(model text, query text, k integer DEFAULT 10, filter text DEFAULT NULL, user_id text DEFAULT NULL,
        personalize double precision DEFAULT 0.2, rerank text DEFAULT NULL, "offset" integer DEFAULT 0)
    RETURNS TABLE (rank integer, id text, score real, lexical_score real, vector_score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'search_wrapper';
COMMENT ON FUNCTION reco.search IS 'top k rows of a search index for a text, by words and meaning';

CREATE FUNCTION reco.evaluate_search(model text, judgements text, k integer DEFAULT 10, relevant double precision DEFAULT 1,
        metrics text[] DEFAULT NULL, segments text DEFAULT NULL, bootstrap integer DEFAULT 0,
        confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, value double precision, low double precision, high double precision, segment text, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 6
    AS 'MODULE_PATHNAME', 'evaluate_search_wrapper';
COMMENT ON FUNCTION reco.evaluate_search IS 'metrics of a search index on graded results of queries';

CREATE FUNCTION reco.compare_search(model_a text, model_b text, judgements text, k integer DEFAULT 10,
        relevant double precision DEFAULT 1, metrics text[] DEFAULT NULL, segments text DEFAULT NULL,
        bootstrap integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, a double precision, b double precision, difference double precision,
                   low double precision, high double precision, p_value double precision, segment text, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 200000000 ROWS 6
    AS 'MODULE_PATHNAME', 'compare_search_wrapper';
COMMENT ON FUNCTION reco.compare_search IS 'compare metrics of two search indexes, with confidence intervals and p-values';

CREATE FUNCTION reco.tune_search(source text, judgements text, grid jsonb DEFAULT '{"lexical_weight": [0, 0.2, 0.4, 0.6, 0.8, 1]}',
        embedding_model text DEFAULT NULL, k integer DEFAULT 10, metric text DEFAULT 'ndcg', relevant double precision DEFAULT 1)
    RETURNS TABLE (rank integer, options jsonb, value double precision, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 500000000 ROWS 6
    AS 'MODULE_PATHNAME', 'tune_search_wrapper';
COMMENT ON FUNCTION reco.tune_search IS 'try options of a search index on graded results of queries, best first';

CREATE FUNCTION reco.create_search_function(model text, function text, k integer DEFAULT 10)
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_search_function_wrapper';
COMMENT ON FUNCTION reco.create_search_function IS 'create a function that searches an index, with ids in their own type';

-- As for the other functions that train.
REVOKE EXECUTE ON FUNCTION reco.train_search, reco.tune_search, reco.create_search_function FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.train_search, reco.tune_search, reco.create_search_function TO reco_trainer;
