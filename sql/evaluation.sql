-- Measuring recommenders.

CREATE FUNCTION reco.split(source text, method text DEFAULT 'by_time', ratio double precision DEFAULT 0.8, seed bigint DEFAULT 0)
    RETURNS TABLE (part text, user_id text, item_id text, weight real, ts timestamptz)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'split_wrapper';
COMMENT ON FUNCTION reco.split IS 'a query''s interactions, each marked train or test: by_time, leave_one_out or random';

CREATE FUNCTION reco.evaluate(model text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true)
    RETURNS TABLE (metric text, value double precision)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000000 ROWS 12
    AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION reco.evaluate IS 'metrics at k of a model''s lists for the users of a test query, every item ranked';
