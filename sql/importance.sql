-- Which training rows matter, and which mislead.

CREATE FUNCTION reco.importance(source text, method text DEFAULT 'auto', label text DEFAULT 'label', id text DEFAULT NULL,
                                validation text DEFAULT NULL, options jsonb DEFAULT '{}', model text DEFAULT NULL, seed bigint DEFAULT 0)
    RETURNS TABLE (id text, score double precision, rank bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'importance_wrapper';
COMMENT ON FUNCTION reco.importance(text, text, text, text, text, jsonb, text, bigint) IS
    'how much each row of a query is worth for learning its label; the higher the more, the first rank is the most valuable';

CREATE FUNCTION reco.importance(source text, methods text[], label text DEFAULT 'label', id text DEFAULT NULL,
                                validation text DEFAULT NULL, options jsonb DEFAULT '{}', model text DEFAULT NULL, seed bigint DEFAULT 0)
    RETURNS TABLE (id text, method text, score double precision, rank bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 30000
    AS 'MODULE_PATHNAME', 'importance_by_methods_wrapper';
COMMENT ON FUNCTION reco.importance(text, text[], text, text, text, jsonb, text, bigint) IS
    'how much each row of a query is worth for learning its label, by several methods of which those of one kind share their work';

CREATE FUNCTION reco.prune(source text, method text DEFAULT 'auto', fraction double precision DEFAULT 0.2, label text DEFAULT 'label',
                           id text DEFAULT NULL, validation text DEFAULT NULL, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'prune_wrapper';
COMMENT ON FUNCTION reco.prune IS 'the rows of a query that stay when a fraction of them, the least valuable, is left out';

CREATE FUNCTION reco.find_label_errors(source text, label text DEFAULT 'label', id text DEFAULT NULL, options jsonb DEFAULT '{}',
                                       seed bigint DEFAULT 0)
    RETURNS TABLE (id text, label text, suggested_label text, confidence double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 1000
    AS 'MODULE_PATHNAME', 'find_label_errors_wrapper';
COMMENT ON FUNCTION reco.find_label_errors IS 'the rows of a query whose label is most likely wrong, with the label that fits better, the surest first';

CREATE FUNCTION reco.compare_training(source text, weights text, algorithm text DEFAULT 'boosting', label text DEFAULT 'label', id text DEFAULT NULL,
                                      test text DEFAULT NULL, options jsonb DEFAULT '{}', k integer DEFAULT 10, seeds integer DEFAULT 5,
                                      held_out double precision DEFAULT 0.2, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, unweighted double precision, weighted double precision, difference double precision,
                   low double precision, high double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 4
    AS 'MODULE_PATHNAME', 'compare_training_wrapper';
COMMENT ON FUNCTION reco.compare_training IS 'metrics of what is trained on a query without and with weights, on the same held-out rows over several seeds';
