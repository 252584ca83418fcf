-- Importance of training rows.

CREATE FUNCTION reco.importance(source text, method text DEFAULT 'auto', label text DEFAULT 'label', id text DEFAULT NULL,
                                validation text DEFAULT NULL, options jsonb DEFAULT '{}', model text DEFAULT NULL, seed bigint DEFAULT 0)
    RETURNS TABLE (id text, score double precision, rank bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'importance_wrapper';
COMMENT ON FUNCTION reco.importance(text, text, text, text, text, jsonb, text, bigint) IS
    'importance of the rows of a query for learning its label';

CREATE FUNCTION reco.importance(source text, methods text[], label text DEFAULT 'label', id text DEFAULT NULL,
                                validation text DEFAULT NULL, options jsonb DEFAULT '{}', model text DEFAULT NULL, seed bigint DEFAULT 0)
    RETURNS TABLE (id text, method text, score double precision, rank bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 30000
    AS 'MODULE_PATHNAME', 'importance_by_methods_wrapper';
COMMENT ON FUNCTION reco.importance(text, text[], text, text, text, jsonb, text, bigint) IS
    'importance of the rows of a query for learning its label, by several methods';

CREATE FUNCTION reco.prune(source text, method text DEFAULT 'auto', fraction double precision DEFAULT 0.2, label text DEFAULT 'label',
                           id text DEFAULT NULL, validation text DEFAULT NULL, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'prune_wrapper';
COMMENT ON FUNCTION reco.prune IS 'rows of a query without the fraction of least importance';

CREATE FUNCTION reco.find_label_errors(source text, label text DEFAULT 'label', id text DEFAULT NULL, options jsonb DEFAULT '{}',
                                       seed bigint DEFAULT 0)
    RETURNS TABLE (id text, label text, suggested_label text, confidence double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 1000
    AS 'MODULE_PATHNAME', 'find_label_errors_wrapper';
COMMENT ON FUNCTION reco.find_label_errors IS 'rows of a query whose label is likely wrong, with a suggested label';

CREATE FUNCTION reco.compare_training(source text, weights text, algorithm text DEFAULT 'boosting', label text DEFAULT 'label', id text DEFAULT NULL,
                                      test text DEFAULT NULL, options jsonb DEFAULT '{}', k integer DEFAULT 10, seeds integer DEFAULT 5,
                                      held_out double precision DEFAULT 0.2, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, unweighted double precision, weighted double precision, difference double precision,
                   low double precision, high double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 4
    AS 'MODULE_PATHNAME', 'compare_training_wrapper';
COMMENT ON FUNCTION reco.compare_training IS 'compare training with and without weights on the same held-out rows';

-- Window functions for scores and weights, and aggregates over them.

-- One implementation for each type of label; integers are cast to double precision.
CREATE FUNCTION reco.importance(features real[], label text, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_text_wrapper';
CREATE FUNCTION reco.importance(features real[], label double precision, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_number_wrapper';
CREATE FUNCTION reco.importance(features real[], label boolean, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_truth_wrapper';
COMMENT ON FUNCTION reco.importance(real[], text, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(real[], double precision, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(real[], boolean, text) IS 'importance of the rows of a partition for learning the label';
CREATE FUNCTION reco.importance(features reco.numbers, label text, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_text_wrapper';
CREATE FUNCTION reco.importance(features reco.numbers, label double precision, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_number_wrapper';
CREATE FUNCTION reco.importance(features reco.numbers, label boolean, method text DEFAULT 'auto')
    RETURNS double precision LANGUAGE c WINDOW IMMUTABLE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'importance_of_truth_wrapper';
COMMENT ON FUNCTION reco.importance(reco.numbers, text, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(reco.numbers, double precision, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(reco.numbers, boolean, text) IS 'importance of the rows of a partition for learning the label';

CREATE FUNCTION reco.importance_weights(score double precision, method text DEFAULT 'rank', fraction double precision DEFAULT 0.2)
    RETURNS real LANGUAGE c WINDOW IMMUTABLE PARALLEL SAFE COST 10
    AS 'MODULE_PATHNAME', 'importance_weights_wrapper';
COMMENT ON FUNCTION reco.importance_weights IS 'convert importance scores of a partition to training weights from 0 to 1';

CREATE TYPE reco.loss_summary AS (count bigint, mean double precision, deviation double precision,
                                  least double precision, greatest double precision);
COMMENT ON TYPE reco.loss_summary IS 'result of reco.loss_stats';
COMMENT ON COLUMN reco.loss_summary.count IS 'number of non-null values';
COMMENT ON COLUMN reco.loss_summary.mean IS 'mean';
COMMENT ON COLUMN reco.loss_summary.deviation IS 'population standard deviation';
COMMENT ON COLUMN reco.loss_summary.least IS 'minimum';
COMMENT ON COLUMN reco.loss_summary.greatest IS 'maximum';

CREATE FUNCTION reco_internal.loss_stats_accum(internal, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_accum_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_accum(internal, double precision) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.loss_stats_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_combine_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION reco_internal.loss_stats_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_serialize(internal) IS 'aggregate serial function';
CREATE FUNCTION reco_internal.loss_stats_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_deserialize(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION reco_internal.loss_stats_final(internal)
    RETURNS reco.loss_summary LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_final_wrapper';
COMMENT ON FUNCTION reco_internal.loss_stats_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.loss_stats(loss double precision) (
    SFUNC = reco_internal.loss_stats_accum, STYPE = internal, SSPACE = 900, FINALFUNC = reco_internal.loss_stats_final,
    COMBINEFUNC = reco_internal.loss_stats_combine, SERIALFUNC = reco_internal.loss_stats_serialize,
    DESERIALFUNC = reco_internal.loss_stats_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.loss_stats(double precision) IS 'count, mean, standard deviation, minimum and maximum; independent of row order';

CREATE FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_of_ten_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.importance_histogram_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_combine_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION reco_internal.importance_histogram_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_serialize(internal) IS 'aggregate serial function';
CREATE FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION reco_internal.importance_histogram_final(internal)
    RETURNS bigint[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_final_wrapper';
COMMENT ON FUNCTION reco_internal.importance_histogram_final(internal) IS 'aggregate final function';

-- Aggregates cannot have default arguments.
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision) (
    SFUNC = reco_internal.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco_internal.importance_histogram_final,
    COMBINEFUNC = reco_internal.importance_histogram_combine, SERIALFUNC = reco_internal.importance_histogram_serialize,
    DESERIALFUNC = reco_internal.importance_histogram_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision, buckets integer) (
    SFUNC = reco_internal.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco_internal.importance_histogram_final,
    COMBINEFUNC = reco_internal.importance_histogram_combine, SERIALFUNC = reco_internal.importance_histogram_serialize,
    DESERIALFUNC = reco_internal.importance_histogram_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision) IS 'histogram of scores with ten buckets, plus counts below low and from high up';
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision, integer) IS 'histogram of scores, plus counts below low and from high up';

-- Importance of interactions.

CREATE FUNCTION reco.interaction_importance(model text DEFAULT NULL, method text DEFAULT 'auto', validation text DEFAULT NULL,
                                            source text DEFAULT NULL, options jsonb DEFAULT '{}')
    RETURNS TABLE (user_id text, item_id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'interaction_importance_wrapper';
COMMENT ON FUNCTION reco.interaction_importance IS 'importance of the interactions of a recommender or a query for training';
