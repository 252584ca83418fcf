-- Evaluation of recommenders.

CREATE FUNCTION reco.split(source text, method text DEFAULT 'by_time', ratio double precision DEFAULT 0.8, seed bigint DEFAULT 0)
    RETURNS TABLE (part text, user_id text, item_id text, weight real, ts timestamptz)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'split_wrapper';
COMMENT ON FUNCTION reco.split IS 'split the interactions of a query into train and test';

CREATE FUNCTION reco.evaluate(model text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                              metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                              negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                              bootstrap integer DEFAULT 0, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, value double precision, low double precision, high double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 20
    AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION reco.evaluate IS 'ranking metrics at k of a recommender for held-out interactions';

CREATE FUNCTION reco.compare_models(model_a text, model_b text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                                    metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                                    negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                                    bootstrap integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, a double precision, b double precision, difference double precision,
                   low double precision, high double precision, p_value double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 20000000 ROWS 20
    AS 'MODULE_PATHNAME', 'compare_models_wrapper';
COMMENT ON FUNCTION reco.compare_models IS 'compare ranking metrics of two recommenders, with confidence intervals and p-values';

CREATE FUNCTION reco.cross_validate(source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', folds integer DEFAULT 5,
                                    k integer DEFAULT 10, metrics text[] DEFAULT NULL, seed bigint DEFAULT 0,
                                    items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL,
                                    half_life interval DEFAULT NULL)
    RETURNS TABLE (fold integer, metric text, value double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 500000000 ROWS 84
    AS 'MODULE_PATHNAME', 'cross_validate_wrapper';
COMMENT ON FUNCTION reco.cross_validate IS 'cross-validated ranking metrics at k of an algorithm; fold NULL is the mean';
