-- Search.

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

CREATE FUNCTION reco.search_matches(model text, query text, filter text DEFAULT NULL)
    RETURNS SETOF text
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 1000
    AS 'MODULE_PATHNAME', 'search_matches_wrapper';
COMMENT ON FUNCTION reco.search_matches IS 'ids of all rows of a search index that have words of a text';

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

CREATE FUNCTION reco.highlight(model text, query text, text text, before text DEFAULT '<b>', after text DEFAULT '</b>')
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'highlight_wrapper';
COMMENT ON FUNCTION reco.highlight IS 'text with the words marked that match a query of a search index';

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
