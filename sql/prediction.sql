-- Predictors, and metrics of predictions: aggregates that run in parallel.

CREATE FUNCTION reco.train_predictor(name text, source text, label text DEFAULT 'label', method text DEFAULT 'boosting',
        task text DEFAULT NULL, options jsonb DEFAULT '{}', id text DEFAULT NULL, weight text DEFAULT NULL, fold_by text DEFAULT NULL,
        "time" text DEFAULT NULL, embedding_model text DEFAULT NULL, seed bigint DEFAULT 0, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_predictor_wrapper';
COMMENT ON FUNCTION reco.train_predictor IS 'train a model that predicts a column of a query from its others; returns its version';

CREATE FUNCTION reco.predict_query(model text, source text, id text DEFAULT NULL)
    RETURNS TABLE (id text, prediction text, probability double precision, probabilities jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 1000
    AS 'MODULE_PATHNAME', 'predict_query_wrapper';
COMMENT ON FUNCTION reco.predict_query IS 'predictions for the rows of a query';

CREATE FUNCTION reco_internal.ranked_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ranked_combine_wrapper';
COMMENT ON FUNCTION reco_internal.ranked_combine(internal, internal) IS 'aggregate combine function';

CREATE FUNCTION reco_internal.ranked_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ranked_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.ranked_serialize(internal) IS 'aggregate serial function';

CREATE FUNCTION reco_internal.ranked_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ranked_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.ranked_deserialize(bytea, internal) IS 'aggregate deserial function';

CREATE FUNCTION reco_internal.errors_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'errors_combine_wrapper';
COMMENT ON FUNCTION reco_internal.errors_combine(internal, internal) IS 'aggregate combine function';

CREATE FUNCTION reco_internal.errors_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'errors_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.errors_serialize(internal) IS 'aggregate serial function';

CREATE FUNCTION reco_internal.errors_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'errors_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.errors_deserialize(bytea, internal) IS 'aggregate deserial function';

CREATE FUNCTION reco_internal.confusion_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_combine_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_combine(internal, internal) IS 'aggregate combine function';

CREATE FUNCTION reco_internal.confusion_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_serialize(internal) IS 'aggregate serial function';

CREATE FUNCTION reco_internal.confusion_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_deserialize(bytea, internal) IS 'aggregate deserial function';

CREATE FUNCTION reco_internal.ranked_accum(internal, double precision, boolean)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ranked_accum_wrapper';
COMMENT ON FUNCTION reco_internal.ranked_accum(internal, double precision, boolean) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.lift_accum(internal, double precision, boolean, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'lift_accum_wrapper';
COMMENT ON FUNCTION reco_internal.lift_accum(internal, double precision, boolean, double precision) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.ndcg_accum(internal, double precision, double precision, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ndcg_accum_wrapper';
COMMENT ON FUNCTION reco_internal.ndcg_accum(internal, double precision, double precision, integer) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.calibration_accum(internal, double precision, boolean, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'calibration_accum_wrapper';
COMMENT ON FUNCTION reco_internal.calibration_accum(internal, double precision, boolean, integer) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.probability_errors_accum(internal, double precision, boolean)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'probability_errors_accum_wrapper';
COMMENT ON FUNCTION reco_internal.probability_errors_accum(internal, double precision, boolean) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.errors_accum(internal, double precision, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'errors_accum_wrapper';
COMMENT ON FUNCTION reco_internal.errors_accum(internal, double precision, double precision) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.rate_accum(internal, boolean, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'rate_accum_wrapper';
COMMENT ON FUNCTION reco_internal.rate_accum(internal, boolean, double precision) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.confusion_accum(internal, anycompatible, anycompatible)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_accum_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_accum(internal, anycompatible, anycompatible) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.confusion_average_accum(internal, anycompatible, anycompatible, text)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_average_accum_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_average_accum(internal, anycompatible, anycompatible, text) IS 'aggregate transition function';

CREATE FUNCTION reco_internal.boolean_confusion_accum(internal, boolean, boolean)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'boolean_confusion_accum_wrapper';
COMMENT ON FUNCTION reco_internal.boolean_confusion_accum(internal, boolean, boolean) IS 'aggregate transition function';


CREATE FUNCTION reco_internal.auc_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'auc_final_wrapper';
COMMENT ON FUNCTION reco_internal.auc_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.auc(score double precision, label boolean) (
    SFUNC = reco_internal.ranked_accum, STYPE = internal, FINALFUNC = reco_internal.auc_final,
    COMBINEFUNC = reco_internal.ranked_combine, SERIALFUNC = reco_internal.ranked_serialize,
    DESERIALFUNC = reco_internal.ranked_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.auc(double precision, boolean) IS 'probability that a true row scores above a false one: area under the ROC curve';

CREATE FUNCTION reco_internal.average_precision_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'average_precision_final_wrapper';
COMMENT ON FUNCTION reco_internal.average_precision_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.average_precision(score double precision, label boolean) (
    SFUNC = reco_internal.ranked_accum, STYPE = internal, FINALFUNC = reco_internal.average_precision_final,
    COMBINEFUNC = reco_internal.ranked_combine, SERIALFUNC = reco_internal.ranked_serialize,
    DESERIALFUNC = reco_internal.ranked_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.average_precision(double precision, boolean) IS 'area below the steps of precision by recall';

CREATE FUNCTION reco_internal.lift_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'lift_final_wrapper';
COMMENT ON FUNCTION reco_internal.lift_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.lift(score double precision, label boolean, share double precision) (
    SFUNC = reco_internal.lift_accum, STYPE = internal, FINALFUNC = reco_internal.lift_final,
    COMBINEFUNC = reco_internal.ranked_combine, SERIALFUNC = reco_internal.ranked_serialize,
    DESERIALFUNC = reco_internal.ranked_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.lift(double precision, boolean, double precision) IS 'rate of true rows among the share that score highest, over that of all';

CREATE FUNCTION reco_internal.ndcg_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'ndcg_final_wrapper';
COMMENT ON FUNCTION reco_internal.ndcg_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.ndcg(score double precision, gain double precision, k integer) (
    SFUNC = reco_internal.ndcg_accum, STYPE = internal, FINALFUNC = reco_internal.ndcg_final,
    COMBINEFUNC = reco_internal.ranked_combine, SERIALFUNC = reco_internal.ranked_serialize,
    DESERIALFUNC = reco_internal.ranked_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.ndcg(double precision, double precision, integer) IS 'discounted cumulative gain of the k rows that score highest, over that of the best order';

CREATE FUNCTION reco_internal.calibration_final(internal)
    RETURNS jsonb LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'calibration_final_wrapper';
COMMENT ON FUNCTION reco_internal.calibration_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.calibration(probability double precision, label boolean, bins integer) (
    SFUNC = reco_internal.calibration_accum, STYPE = internal, FINALFUNC = reco_internal.calibration_final,
    COMBINEFUNC = reco_internal.ranked_combine, SERIALFUNC = reco_internal.ranked_serialize,
    DESERIALFUNC = reco_internal.ranked_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.calibration(double precision, boolean, integer) IS 'rates of true rows by predicted probability, and their mean distance';

CREATE FUNCTION reco_internal.log_loss_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'log_loss_final_wrapper';
COMMENT ON FUNCTION reco_internal.log_loss_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.log_loss(probability double precision, label boolean) (
    SFUNC = reco_internal.probability_errors_accum, STYPE = internal, FINALFUNC = reco_internal.log_loss_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.log_loss(double precision, boolean) IS 'mean negative logarithm of the probability of the label';

CREATE FUNCTION reco_internal.brier_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'brier_final_wrapper';
COMMENT ON FUNCTION reco_internal.brier_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.brier(probability double precision, label boolean) (
    SFUNC = reco_internal.probability_errors_accum, STYPE = internal, FINALFUNC = reco_internal.brier_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.brier(double precision, boolean) IS 'mean squared error of probabilities';

CREATE FUNCTION reco_internal.rmse_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'rmse_final_wrapper';
COMMENT ON FUNCTION reco_internal.rmse_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.rmse(prediction double precision, label double precision) (
    SFUNC = reco_internal.errors_accum, STYPE = internal, FINALFUNC = reco_internal.rmse_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.rmse(double precision, double precision) IS 'root of the mean squared error';

CREATE FUNCTION reco_internal.mae_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mae_final_wrapper';
COMMENT ON FUNCTION reco_internal.mae_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.mae(prediction double precision, label double precision) (
    SFUNC = reco_internal.errors_accum, STYPE = internal, FINALFUNC = reco_internal.mae_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mae(double precision, double precision) IS 'mean absolute error';

CREATE FUNCTION reco_internal.r2_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'r2_final_wrapper';
COMMENT ON FUNCTION reco_internal.r2_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.r2(prediction double precision, label double precision) (
    SFUNC = reco_internal.errors_accum, STYPE = internal, FINALFUNC = reco_internal.r2_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.r2(double precision, double precision) IS 'share of the variance of labels that predictions explain';

CREATE FUNCTION reco_internal.rate_final(internal)
    RETURNS jsonb LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'rate_final_wrapper';
COMMENT ON FUNCTION reco_internal.rate_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.rate(outcome boolean, confidence double precision) (
    SFUNC = reco_internal.rate_accum, STYPE = internal, FINALFUNC = reco_internal.rate_final,
    COMBINEFUNC = reco_internal.errors_combine, SERIALFUNC = reco_internal.errors_serialize,
    DESERIALFUNC = reco_internal.errors_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.rate(boolean, double precision) IS 'share of true rows with its Wilson interval';

CREATE FUNCTION reco_internal.accuracy_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'accuracy_final_wrapper';
COMMENT ON FUNCTION reco_internal.accuracy_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.accuracy(prediction anycompatible, label anycompatible) (
    SFUNC = reco_internal.confusion_accum, STYPE = internal, FINALFUNC = reco_internal.accuracy_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.accuracy(anycompatible, anycompatible) IS 'share of rows whose label was predicted';

CREATE FUNCTION reco_internal.confusion_final(internal)
    RETURNS jsonb LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'confusion_final_wrapper';
COMMENT ON FUNCTION reco_internal.confusion_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.confusion(prediction anycompatible, label anycompatible) (
    SFUNC = reco_internal.confusion_accum, STYPE = internal, FINALFUNC = reco_internal.confusion_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.confusion(anycompatible, anycompatible) IS 'rows by label and prediction';

CREATE FUNCTION reco_internal.precision_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'precision_final_wrapper';
COMMENT ON FUNCTION reco_internal.precision_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.precision_score(prediction boolean, label boolean) (
    SFUNC = reco_internal.boolean_confusion_accum, STYPE = internal, FINALFUNC = reco_internal.precision_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.precision_score(boolean, boolean) IS 'share of rows predicted true that are';

CREATE FUNCTION reco_internal.precision_average_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'precision_average_final_wrapper';
COMMENT ON FUNCTION reco_internal.precision_average_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.precision_score(prediction anycompatible, label anycompatible, average text) (
    SFUNC = reco_internal.confusion_average_accum, STYPE = internal, FINALFUNC = reco_internal.precision_average_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.precision_score(anycompatible, anycompatible, text) IS 'precision over classes';

CREATE FUNCTION reco_internal.recall_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'recall_final_wrapper';
COMMENT ON FUNCTION reco_internal.recall_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.recall_score(prediction boolean, label boolean) (
    SFUNC = reco_internal.boolean_confusion_accum, STYPE = internal, FINALFUNC = reco_internal.recall_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.recall_score(boolean, boolean) IS 'share of true rows that are predicted true';

CREATE FUNCTION reco_internal.recall_average_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'recall_average_final_wrapper';
COMMENT ON FUNCTION reco_internal.recall_average_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.recall_score(prediction anycompatible, label anycompatible, average text) (
    SFUNC = reco_internal.confusion_average_accum, STYPE = internal, FINALFUNC = reco_internal.recall_average_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.recall_score(anycompatible, anycompatible, text) IS 'recall over classes';

CREATE FUNCTION reco_internal.f1_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'f1_final_wrapper';
COMMENT ON FUNCTION reco_internal.f1_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.f1(prediction boolean, label boolean) (
    SFUNC = reco_internal.boolean_confusion_accum, STYPE = internal, FINALFUNC = reco_internal.f1_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.f1(boolean, boolean) IS 'harmonic mean of precision and recall';

CREATE FUNCTION reco_internal.f1_average_final(internal)
    RETURNS double precision LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'f1_average_final_wrapper';
COMMENT ON FUNCTION reco_internal.f1_average_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.f1(prediction anycompatible, label anycompatible, average text) (
    SFUNC = reco_internal.confusion_average_accum, STYPE = internal, FINALFUNC = reco_internal.f1_average_final,
    COMBINEFUNC = reco_internal.confusion_combine, SERIALFUNC = reco_internal.confusion_serialize,
    DESERIALFUNC = reco_internal.confusion_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.f1(anycompatible, anycompatible, text) IS 'harmonic mean of precision and recall over classes';
