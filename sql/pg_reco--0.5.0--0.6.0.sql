-- 0.5.0 → 0.6.0. tests/test_upgrade.py compares the result with a fresh install.

ALTER TABLE reco.model_version DROP CONSTRAINT model_version_task_check, ADD CONSTRAINT model_version_task_check
    CHECK (task IN ('text_embedding', 'image_embedding', 'recommendation', 'synthesis', 'search', 'predict'));

CREATE FUNCTION reco.train_search(name text, source text, options jsonb DEFAULT '{}', embedding_model text DEFAULT NULL,
        judgements text DEFAULT NULL, seed bigint DEFAULT 0, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_search_wrapper';
COMMENT ON FUNCTION reco.train_search IS 'make a search index of the rows of a query';

CREATE FUNCTION reco.search(model text, query text, k integer DEFAULT 10, filter text DEFAULT NULL, "offset" integer DEFAULT 0)
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
    RETURNS TABLE (rank integer, suggestion text, rows bigint)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'suggest_wrapper';
COMMENT ON FUNCTION reco.suggest IS 'words of a search index that begin with a prefix, most frequent first';

CREATE FUNCTION reco.highlight(model text, query text, text text, before text DEFAULT '<b>', after text DEFAULT '</b>')
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'highlight_wrapper';
COMMENT ON FUNCTION reco.highlight IS 'text with the words marked that match a query of a search index';

CREATE FUNCTION reco.evaluate_search(model text, judgements text, k integer DEFAULT 10, relevant double precision DEFAULT 1)
    RETURNS TABLE (metric text, value double precision, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 6
    AS 'MODULE_PATHNAME', 'evaluate_search_wrapper';
COMMENT ON FUNCTION reco.evaluate_search IS 'metrics of a search index on graded results of queries';

-- As for the other functions that train.
REVOKE EXECUTE ON FUNCTION reco.train_search FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.train_search TO reco_trainer;
