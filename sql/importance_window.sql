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

CREATE FUNCTION reco.importance_weights(score double precision, method text DEFAULT 'rank', fraction double precision DEFAULT 0.2)
    RETURNS real LANGUAGE c WINDOW IMMUTABLE PARALLEL SAFE COST 10
    AS 'MODULE_PATHNAME', 'importance_weights_wrapper';
COMMENT ON FUNCTION reco.importance_weights IS 'scores of a window''s partition as weights from 0 to 1: by rank, clip or drop';

CREATE TYPE reco.loss_summary AS (count bigint, mean double precision, deviation double precision,
                                  least double precision, greatest double precision);
COMMENT ON TYPE reco.loss_summary IS 'what reco.loss_stats gives; the deviation is that of the rows themselves';

CREATE FUNCTION reco.loss_stats_accum(internal, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_accum_wrapper';
CREATE FUNCTION reco.loss_stats_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_combine_wrapper';
CREATE FUNCTION reco.loss_stats_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_serialize_wrapper';
CREATE FUNCTION reco.loss_stats_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_deserialize_wrapper';
CREATE FUNCTION reco.loss_stats_final(internal)
    RETURNS reco.loss_summary LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'loss_stats_final_wrapper';

CREATE AGGREGATE reco.loss_stats(loss double precision) (
    SFUNC = reco.loss_stats_accum, STYPE = internal, SSPACE = 900, FINALFUNC = reco.loss_stats_final,
    COMBINEFUNC = reco.loss_stats_combine, SERIALFUNC = reco.loss_stats_serialize,
    DESERIALFUNC = reco.loss_stats_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.loss_stats(double precision) IS 'count, mean, deviation and ends of losses or scores, the same to the last bit in any order';

CREATE FUNCTION reco.importance_histogram_accum(internal, double precision, double precision, double precision, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_wrapper';
CREATE FUNCTION reco.importance_histogram_accum(internal, double precision, double precision, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_accum_of_ten_wrapper';
CREATE FUNCTION reco.importance_histogram_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_combine_wrapper';
CREATE FUNCTION reco.importance_histogram_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_serialize_wrapper';
CREATE FUNCTION reco.importance_histogram_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_deserialize_wrapper';
CREATE FUNCTION reco.importance_histogram_final(internal)
    RETURNS bigint[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'importance_histogram_final_wrapper';

-- An aggregate has no defaults.
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision) (
    SFUNC = reco.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco.importance_histogram_final,
    COMBINEFUNC = reco.importance_histogram_combine, SERIALFUNC = reco.importance_histogram_serialize,
    DESERIALFUNC = reco.importance_histogram_deserialize, PARALLEL = SAFE);
CREATE AGGREGATE reco.importance_histogram(score double precision, low double precision, high double precision, buckets integer) (
    SFUNC = reco.importance_histogram_accum, STYPE = internal, SSPACE = 200, FINALFUNC = reco.importance_histogram_final,
    COMBINEFUNC = reco.importance_histogram_combine, SERIALFUNC = reco.importance_histogram_serialize,
    DESERIALFUNC = reco.importance_histogram_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision) IS 'how many scores are below low, in each of ten equal parts up to high, and from high on';
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision, integer) IS 'how many scores are below low, in each of some equal parts up to high, and from high on';
