-- 0.1.0 → 0.2.0: roles that a dump may name without their being there, no foreign keys in the way of a parallel pg_restore,
-- statistics of models, progress of long calls. A test holds the result against a fresh install.

-- A role as rows name it. Unlike regrole, a dump with a role that is not there can be restored, and the number of a role that was
-- dropped never becomes another's.
CREATE TYPE reco.role;
CREATE FUNCTION reco.role_in(cstring)
    RETURNS reco.role LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'role_in_wrapper';
COMMENT ON FUNCTION reco.role_in IS 'the role of this name; public is everybody; nobody, with a warning, where there is none';
CREATE FUNCTION reco.role_out(reco.role)
    RETURNS cstring LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'role_out_wrapper';
COMMENT ON FUNCTION reco.role_out IS 'the name of a role; empty where there is no such role any more';
CREATE TYPE reco.role (INPUT = reco.role_in, OUTPUT = reco.role_out, LIKE = oid);
COMMENT ON TYPE reco.role IS 'a role by name, also one that is not there';
CREATE CAST (reco.role AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS reco.role) WITHOUT FUNCTION AS ASSIGNMENT;

DROP VIEW reco.models;
ALTER TABLE reco.model ALTER COLUMN owner TYPE reco.role USING owner::oid::reco.role;
ALTER TABLE reco.model_grant ALTER COLUMN grantee TYPE reco.role USING grantee::oid::reco.role;
COMMENT ON TABLE reco.model_grant IS 'who besides its owner may use a model; grantee public is everybody';
ALTER TABLE reco.model_version DROP CONSTRAINT model_version_name_fkey;
ALTER TABLE reco.model_file DROP CONSTRAINT model_file_name_version_fkey;
ALTER TABLE reco.model_part DROP CONSTRAINT model_part_name_version_file_fkey;
ALTER TABLE reco.model_grant DROP CONSTRAINT model_grant_name_fkey;

CREATE VIEW reco.models WITH (security_barrier) AS
SELECT v.name,
       v.version,
       v.version = m.version_in_use AS in_use,
       v.task,
       v.algorithm,
       (SELECT pg_catalog.sum(f.size)::bigint FROM reco.model_file f
         WHERE f.name = v.name AND f.version = v.version) AS size,
       v.sha256,
       m.owner::text AS owner,
       v.created,
       v.source,
       v.config,
       v.metrics
  FROM reco.model_version v
  JOIN reco.model m ON m.name = v.name
 WHERE pg_catalog.pg_has_role(current_user, m.owner, 'USAGE')
    OR EXISTS (SELECT FROM reco.model_grant g
                WHERE g.name = m.name
                  AND CASE WHEN g.grantee = 0::oid THEN true
                           ELSE pg_catalog.pg_has_role(current_user, g.grantee, 'USAGE') END);
COMMENT ON VIEW reco.models IS 'the models the current role may use: every version, and which one is in use';
GRANT SELECT ON reco.models TO PUBLIC;

-- What the server's processes know of each other. The functions choose the rows that their caller may see: a function in a
-- view runs with the rights of whoever reads the view.

CREATE FUNCTION reco.stat_models()
    RETURNS TABLE (model text, provider text, loads bigint, load_time double precision, runs bigint, rows bigint, tokens bigint,
                   mean_latency double precision, p99_latency double precision, bytes bigint, stats_reset timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_models_wrapper';
COMMENT ON FUNCTION reco.stat_models IS 'the rows of the view reco.stat_models';

CREATE VIEW reco.stat_models AS
SELECT model, provider, loads, load_time, runs, rows, tokens, mean_latency, p99_latency, bytes, stats_reset
  FROM reco.stat_models();
COMMENT ON VIEW reco.stat_models IS 'loads and runs of the models the current role may use, over all connections; times in milliseconds';
GRANT SELECT ON reco.stat_models TO PUBLIC;

CREATE FUNCTION reco.reset_stat_models(model text DEFAULT NULL)
    RETURNS bigint LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'reset_stat_models_wrapper';
-- What one role counts on, another must not set to 0.
REVOKE ALL ON FUNCTION reco.reset_stat_models FROM PUBLIC;
COMMENT ON FUNCTION reco.reset_stat_models IS 'sets the counts of one model of this database, or of all, to 0 and gives the number of rows';

CREATE FUNCTION reco.stat_progress()
    RETURNS TABLE (pid integer, datid oid, usesysid oid, function text, model text, phase text, done bigint, total bigint,
                   started timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_progress_wrapper';
COMMENT ON FUNCTION reco.stat_progress IS 'the rows of the view reco.stat_progress';

CREATE VIEW reco.stat_progress AS
SELECT p.pid,
       d.datname,
       pg_catalog.pg_get_userbyid(p.usesysid) AS usename,
       p.function,
       p.model,
       p.phase,
       p.done,
       p.total,
       p.started
  FROM reco.stat_progress() p
  LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid;
COMMENT ON VIEW reco.stat_progress IS 'the long calls under way in this server, and how far each is; those the current role may see';
GRANT SELECT ON reco.stat_progress TO PUBLIC;

-- Recommenders: what a request may ask for besides the number of items, features, signals, explanations.

-- A function with more arguments is another function. Where a view of a user's needs the old one, that stays, under another name
-- and the user's own, and calls the new one.
CREATE FUNCTION reco.retire(signature text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old regprocedure := signature;
BEGIN
    EXECUTE format('DROP FUNCTION %s', old);
EXCEPTION WHEN dependent_objects_still_exist THEN
    EXECUTE format('ALTER FUNCTION %s RENAME TO %I', old, (SELECT proname || '_before_0_2' FROM pg_proc WHERE oid = old));
END $$;
SELECT reco.retire(signature)
  FROM pg_catalog.unnest(ARRAY[
       'reco.recommend(text,text,integer,boolean,text)', 'reco.recommend(text,bigint,integer,boolean,text)',
       'reco.recommend(text,uuid,integer,boolean,text)', 'reco.recommend_for_items(text,bigint[],real[],integer,boolean)',
       'reco.recommend_for_items(text,uuid[],real[],integer,boolean)', 'reco.recommend_for_items(text,text[],real[],integer,boolean)',
       'reco.recommend_all(text,integer,boolean)', 'reco.evaluate(text,text,integer,boolean)']) AS signature;
DROP FUNCTION reco.retire(text);
DROP FUNCTION reco.train(text, text, text, jsonb, bigint);

CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always')
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'trains a recommender on a query with columns user_id, item_id and perhaps weight, ts and event, and gives its version';

CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always')
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'refresh_wrapper';
COMMENT ON FUNCTION reco.refresh IS 'a new version of a recommender, with what its queries hold by now';

CREATE FUNCTION reco.tune(source text, algorithm text DEFAULT 'ials', grid jsonb DEFAULT '{}', k integer DEFAULT 20, metric text DEFAULT 'ndcg',
        budget interval DEFAULT '10 minutes', holdout double precision DEFAULT 0.2, seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL)
    RETURNS TABLE (rank integer, options jsonb, ndcg double precision, recall double precision, seconds double precision,
                   share double precision, failure text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10
    AS 'MODULE_PATHNAME', 'tune_wrapper';
COMMENT ON FUNCTION reco.tune IS 'options tried on held-out interactions within a time budget, best first';

-- One implementation for every type of id.
CREATE FUNCTION reco.recommend(model text, user_id text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
CREATE FUNCTION reco.recommend(model text, user_id bigint, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
CREATE FUNCTION reco.recommend(model text, user_id uuid, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
COMMENT ON FUNCTION reco.recommend(text, text, integer, boolean, text, text, text[], double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';
COMMENT ON FUNCTION reco.recommend(text, bigint, integer, boolean, text, text, text[], double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';
COMMENT ON FUNCTION reco.recommend(text, uuid, integer, boolean, text, text, text[], double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';

CREATE FUNCTION reco.recommend_for_items(model text, item_ids text[], weights real[] DEFAULT NULL, k integer DEFAULT 10,
        exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_for_items_wrapper';
CREATE FUNCTION reco.recommend_for_items(model text, item_ids bigint[], weights real[] DEFAULT NULL, k integer DEFAULT 10,
        exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'SELECT rank, item_id, score, reason FROM reco.recommend_for_items($1, $2::text[], $3, $4, $5, $6, $7, $8, $9, $10)';
CREATE FUNCTION reco.recommend_for_items(model text, item_ids uuid[], weights real[] DEFAULT NULL, k integer DEFAULT 10,
        exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'SELECT rank, item_id, score, reason FROM reco.recommend_for_items($1, $2::text[], $3, $4, $5, $6, $7, $8, $9, $10)';
COMMENT ON FUNCTION reco.recommend_for_items(text, text[], real[], integer, boolean, text, text[], double precision, text, integer) IS 'the best k items for a basket or a session, without a stored user';
COMMENT ON FUNCTION reco.recommend_for_items(text, bigint[], real[], integer, boolean, text, text[], double precision, text, integer) IS 'the best k items for a basket or a session, without a stored user';
COMMENT ON FUNCTION reco.recommend_for_items(text, uuid[], real[], integer, boolean, text, text[], double precision, text, integer) IS 'the best k items for a basket or a session, without a stored user';

CREATE FUNCTION reco.recommend_all(model text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny text[] DEFAULT NULL,
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (user_id text, rank integer, item_id text, score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'recommend_all_wrapper';
COMMENT ON FUNCTION reco.recommend_all IS 'the best k items for every user the model was trained on, in batches';

CREATE FUNCTION reco.explain(model text, user_id text, item_id text, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id text, item_id bigint, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id text, item_id uuid, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id bigint, item_id text, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id bigint, item_id bigint, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id bigint, item_id uuid, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id uuid, item_id text, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id uuid, item_id bigint, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
CREATE FUNCTION reco.explain(model text, user_id uuid, item_id uuid, history text DEFAULT 'live')
    RETURNS TABLE (rank integer, history_item_id text, contribution real, weight real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 100
    AS 'MODULE_PATHNAME', 'explain_wrapper';
COMMENT ON FUNCTION reco.explain(text, text, text, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, text, bigint, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, text, uuid, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, bigint, text, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, bigint, bigint, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, bigint, uuid, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, uuid, text, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, uuid, bigint, text) IS 'what each of a user''s own interactions carried of an item''s score';
COMMENT ON FUNCTION reco.explain(text, uuid, uuid, text) IS 'what each of a user''s own interactions carried of an item''s score';

CREATE FUNCTION reco.similar_users(model text, user_id text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, similar_user_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_users_wrapper';
CREATE FUNCTION reco.similar_users(model text, user_id bigint, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, similar_user_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_users_wrapper';
CREATE FUNCTION reco.similar_users(model text, user_id uuid, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, similar_user_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_users_wrapper';
COMMENT ON FUNCTION reco.similar_users(text, text, integer) IS 'the k users most like a user, by what they took';
COMMENT ON FUNCTION reco.similar_users(text, bigint, integer) IS 'the k users most like a user, by what they took';
COMMENT ON FUNCTION reco.similar_users(text, uuid, integer) IS 'the k users most like a user, by what they took';

CREATE FUNCTION reco.evaluate(model text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                              metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                              negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                              bootstrap integer DEFAULT 0, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, value double precision, low double precision, high double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 20
    AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION reco.evaluate IS 'metrics at k of a model''s lists for the users of a test query, all items ranked or some candidates';

CREATE FUNCTION reco.compare_models(model_a text, model_b text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                                    metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                                    negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                                    bootstrap integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, a double precision, b double precision, difference double precision,
                   low double precision, high double precision, p_value double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 20000000 ROWS 20
    AS 'MODULE_PATHNAME', 'compare_models_wrapper';
COMMENT ON FUNCTION reco.compare_models IS 'metrics of two models for the same users of a test query, with the interval and the p-value of their differences';

CREATE FUNCTION reco.cross_validate(source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', folds integer DEFAULT 5,
                                    k integer DEFAULT 10, metrics text[] DEFAULT NULL, seed bigint DEFAULT 0,
                                    items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL,
                                    half_life interval DEFAULT NULL)
    RETURNS TABLE (fold integer, metric text, value double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 500000000 ROWS 84
    AS 'MODULE_PATHNAME', 'cross_validate_wrapper';
COMMENT ON FUNCTION reco.cross_validate IS 'metrics at k of an algorithm, each interaction of a query held out once; the rows without a fold are the means';

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

-- Which interactions of a recommender's source matter.

CREATE FUNCTION reco.interaction_importance(model text DEFAULT NULL, method text DEFAULT 'auto', validation text DEFAULT NULL,
                                            source text DEFAULT NULL, options jsonb DEFAULT '{}')
    RETURNS TABLE (user_id text, item_id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'interaction_importance_wrapper';
COMMENT ON FUNCTION reco.interaction_importance IS 'a score for each pair of a user and an item that a model is trained on, or that a query gives: higher is more valuable';

DO $$
DECLARE
    old record;
BEGIN
    FOR old IN SELECT p.oid::regprocedure AS signature, p.proname,
                      pg_catalog.pg_get_function_arguments(p.oid) AS declared, pg_catalog.pg_get_function_result(p.oid) AS result,
                      (SELECT pg_catalog.string_agg(name, ', ') FROM unnest(p.proargnames, p.proargmodes) AS a (name, mode) WHERE mode = 't') AS columns,
                      (SELECT pg_catalog.string_agg('$' || n, ', ') FROM pg_catalog.generate_series(1, p.pronargs) AS n) AS given
                 FROM pg_catalog.pg_proc p
                WHERE p.pronamespace = 'reco'::regnamespace AND p.proname LIKE '%\_before\_0\_2' LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE FUNCTION reco.%I(%s) RETURNS %s LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS %L',
                                  old.proname, old.declared, old.result,
                                  pg_catalog.format('SELECT %s FROM reco.%I(%s)', old.columns, pg_catalog.replace(old.proname, '_before_0_2', ''), old.given));
        -- A dump then has it, beside the view that needs it.
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_reco DROP FUNCTION %s', old.signature);
    END LOOP;
END $$;
