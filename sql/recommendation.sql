-- Recommenders.

CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'trains a recommender on a query with columns user_id, item_id and perhaps weight, ts and event, and gives its version';

CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always', keep integer DEFAULT NULL)
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

-- One implementation for every type of id. What is denied is NULL of a type, since NULL alone would leave the type open.
CREATE FUNCTION reco.recommend(model text, user_id text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
CREATE FUNCTION reco.recommend(model text, user_id bigint, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
CREATE FUNCTION reco.recommend(model text, user_id uuid, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
        history text DEFAULT 'live', filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_wrapper';
COMMENT ON FUNCTION reco.recommend(text, text, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';
COMMENT ON FUNCTION reco.recommend(text, bigint, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';
COMMENT ON FUNCTION reco.recommend(text, uuid, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a user, by what the source holds of the user now';

-- Ids of every type. A list that comes without its type is a text to PostgreSQL.
CREATE FUNCTION reco.recommend_for_items(model text, item_ids anyarray, weights double precision[] DEFAULT NULL, k integer DEFAULT 10,
        exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'recommend_for_items_wrapper';
CREATE FUNCTION reco.recommend_for_items(model text, item_ids text, weights double precision[] DEFAULT NULL, k integer DEFAULT 10,
        exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (rank integer, item_id text, score real, reason text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'SELECT rank, item_id, score, reason FROM reco.recommend_for_items($1, $2::pg_catalog.text[], $3, $4, $5, $6, $7, $8, $9, $10)';
COMMENT ON FUNCTION reco.recommend_for_items(text, anyarray, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a basket or a session, without a stored user';
COMMENT ON FUNCTION reco.recommend_for_items(text, text, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a basket or a session, given as an array''s text';

CREATE FUNCTION reco.recommend_all(model text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (user_id text, rank integer, item_id text, score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'recommend_all_wrapper';
COMMENT ON FUNCTION reco.recommend_all IS 'the best k items for every user the model was trained on, in batches';

CREATE FUNCTION reco.similar_items(model text, item_id text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, item_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_items_wrapper';
CREATE FUNCTION reco.similar_items(model text, item_id bigint, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, item_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_items_wrapper';
CREATE FUNCTION reco.similar_items(model text, item_id uuid, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, item_id text, similarity real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'similar_items_wrapper';
COMMENT ON FUNCTION reco.similar_items(text, text, integer) IS 'the k items most like an item, by who took them';
COMMENT ON FUNCTION reco.similar_items(text, bigint, integer) IS 'the k items most like an item, by who took them';
COMMENT ON FUNCTION reco.similar_items(text, uuid, integer) IS 'the k items most like an item, by who took them';

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

CREATE FUNCTION reco.model_users(model text)
    RETURNS SETOF text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000 ROWS 1000
    AS 'MODULE_PATHNAME', 'model_users_wrapper';
COMMENT ON FUNCTION reco.model_users IS 'the users a recommender was trained on';

CREATE FUNCTION reco.create_view(model text, view text, k integer DEFAULT 10, history text DEFAULT 'live')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_view_wrapper';
COMMENT ON FUNCTION reco.create_view IS 'creates a view (user_id, rank, item_id, score) with ids in their own types';

CREATE FUNCTION reco.create_function(model text, function text, k integer DEFAULT 10, history text DEFAULT 'live')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_function_wrapper';
COMMENT ON FUNCTION reco.create_function IS 'creates a function (user_id, k) → (rank, item_id, score) with ids in their own types';

CREATE FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_accum_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer) IS 'takes a row into a state of reco.top_k';
CREATE FUNCTION reco_internal.top_k_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_combine_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_combine(internal, internal) IS 'joins two states of reco.top_k';
CREATE FUNCTION reco_internal.top_k_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_serialize(internal) IS 'a state of reco.top_k as bytes';
CREATE FUNCTION reco_internal.top_k_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_deserialize(bytea, internal) IS 'a state of reco.top_k out of bytes';
CREATE FUNCTION reco_internal.top_k_final(internal)
    RETURNS reco.scored_item[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_final_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_final(internal) IS 'what a state of reco.top_k comes to';

CREATE AGGREGATE reco.top_k(item anyelement, score real, k integer) (
    SFUNC = reco_internal.top_k_accum, STYPE = internal, FINALFUNC = reco_internal.top_k_final,
    COMBINEFUNC = reco_internal.top_k_combine, SERIALFUNC = reco_internal.top_k_serialize,
    DESERIALFUNC = reco_internal.top_k_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.top_k(anyelement, real, integer) IS 'the k items with the highest scores, best first; unnest gives rows';
