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

-- Importance of training rows beside the rows themselves: scores and weights over a window, and what they come to.

-- One implementation for each type of label; whole numbers come as double precision.
CREATE FUNCTION reco.importance(features real[], label text, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_text_wrapper';
CREATE FUNCTION reco.importance(features real[], label double precision, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_number_wrapper';
CREATE FUNCTION reco.importance(features real[], label boolean, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_truth_wrapper';
COMMENT ON FUNCTION reco.importance(real[], text, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';
COMMENT ON FUNCTION reco.importance(real[], double precision, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';
COMMENT ON FUNCTION reco.importance(real[], boolean, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';
CREATE FUNCTION reco.importance(features reco.numbers, label text, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_text_wrapper';
CREATE FUNCTION reco.importance(features reco.numbers, label double precision, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_number_wrapper';
CREATE FUNCTION reco.importance(features reco.numbers, label boolean, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_truth_wrapper';
COMMENT ON FUNCTION reco.importance(reco.numbers, text, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';
COMMENT ON FUNCTION reco.importance(reco.numbers, double precision, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';
COMMENT ON FUNCTION reco.importance(reco.numbers, boolean, text) IS 'how valuable each row of a window''s partition is for learning its label; low where it misleads';

CREATE FUNCTION reco.importance_weights(score double precision, method text DEFAULT 'rank', fraction double precision DEFAULT 0.2)
    RETURNS real LANGUAGE c WINDOW IMMUTABLE PARALLEL SAFE COST 10
    AS 'MODULE_PATHNAME', 'importance_weights_wrapper';
COMMENT ON FUNCTION reco.importance_weights IS 'scores of a window''s partition as weights from 0 to 1: by rank, clip or drop';

CREATE TYPE reco.loss_summary AS (count bigint, mean double precision, deviation double precision,
                                  least double precision, greatest double precision);
COMMENT ON TYPE reco.loss_summary IS 'what reco.loss_stats gives; the deviation is that of the rows themselves';
COMMENT ON COLUMN reco.loss_summary.count IS 'how many there were';
COMMENT ON COLUMN reco.loss_summary.mean IS 'their mean';
COMMENT ON COLUMN reco.loss_summary.deviation IS 'their standard deviation';
COMMENT ON COLUMN reco.loss_summary.least IS 'the smallest';
COMMENT ON COLUMN reco.loss_summary.greatest IS 'the largest';

CREATE FUNCTION reco_internal.loss_stats_accum(internal, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_accum_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_accum(internal, double precision) IS 'takes a row into a state of reco.loss_stats';
CREATE FUNCTION reco_internal.loss_stats_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_combine_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_combine(internal, internal) IS 'joins two states of reco.loss_stats';
CREATE FUNCTION reco_internal.loss_stats_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_serialize(internal) IS 'a state of reco.loss_stats as bytes';
CREATE FUNCTION reco_internal.loss_stats_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_deserialize(bytea, internal) IS 'a state of reco.loss_stats out of bytes';
CREATE FUNCTION reco_internal.loss_stats_final(internal)
    RETURNS reco.loss_summary LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_final_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_final(internal) IS 'what a state of reco.loss_stats comes to';

CREATE AGGREGATE reco.loss_stats(loss double precision) (
    SFUNC = reco_internal.loss_stats_accum, STYPE = internal, SSPACE = 900, FINALFUNC = reco_internal.loss_stats_final,
    COMBINEFUNC = reco_internal.loss_stats_combine, SERIALFUNC = reco_internal.loss_stats_serialize,
    DESERIALFUNC = reco_internal.loss_stats_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.loss_stats(double precision) IS 'count, mean, deviation and ends of losses or scores, the same to the last bit in any order';

CREATE FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer) IS 'takes a row into a state of reco.importance_histogram';
CREATE FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_of_ten_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision) IS 'takes a row into a state of reco.importance_histogram';
CREATE FUNCTION reco_internal.importance_histogram_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_combine_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_combine(internal, internal) IS 'joins two states of reco.importance_histogram';
CREATE FUNCTION reco_internal.importance_histogram_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_serialize(internal) IS 'a state of reco.importance_histogram as bytes';
CREATE FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal) IS 'a state of reco.importance_histogram out of bytes';
CREATE FUNCTION reco_internal.importance_histogram_final(internal)
    RETURNS bigint[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_final_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_final(internal) IS 'what a state of reco.importance_histogram comes to';

-- An aggregate has no defaults.
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision) (
    SFUNC = reco_internal.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco_internal.importance_histogram_final,
    COMBINEFUNC = reco_internal.importance_histogram_combine, SERIALFUNC = reco_internal.importance_histogram_serialize,
    DESERIALFUNC = reco_internal.importance_histogram_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision, buckets integer) (
    SFUNC = reco_internal.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco_internal.importance_histogram_final,
    COMBINEFUNC = reco_internal.importance_histogram_combine, SERIALFUNC = reco_internal.importance_histogram_serialize,
    DESERIALFUNC = reco_internal.importance_histogram_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision) IS 'how many scores are below low, in each of ten equal parts up to high, and from high on';
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision, integer) IS 'how many scores are below low, in each of some equal parts up to high, and from high on';

-- Which interactions of a recommender's source matter.

CREATE FUNCTION reco.interaction_importance(model text DEFAULT NULL, method text DEFAULT 'auto', validation text DEFAULT NULL,
                                            source text DEFAULT NULL, options jsonb DEFAULT '{}')
    RETURNS TABLE (user_id text, item_id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'interaction_importance_wrapper';
COMMENT ON FUNCTION reco.interaction_importance IS 'a score for each pair of a user and an item that a model is trained on, or that a query gives: higher is more valuable';
