-- Recommenders.

CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'train a recommender on the interactions of a query';

CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'refresh_wrapper';
COMMENT ON FUNCTION reco.refresh IS 'train a new version of a recommender on the current data of its queries';

CREATE FUNCTION reco.tune(source text, algorithm text DEFAULT 'ials', grid jsonb DEFAULT '{}', k integer DEFAULT 20, metric text DEFAULT 'ndcg',
        budget interval DEFAULT '10 minutes', holdout double precision DEFAULT 0.2, seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL)
    RETURNS TABLE (rank integer, options jsonb, ndcg double precision, recall double precision, seconds double precision,
                   share double precision, failure text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10
    AS 'MODULE_PATHNAME', 'tune_wrapper';
COMMENT ON FUNCTION reco.tune IS 'search training options within a time budget, best first';

-- One implementation for all id types. The default of deny has a type, since an untyped NULL would leave the polymorphic type undetermined.
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
COMMENT ON FUNCTION reco.recommend(text, text, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'top k items for a user';
COMMENT ON FUNCTION reco.recommend(text, bigint, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'top k items for a user';
COMMENT ON FUNCTION reco.recommend(text, uuid, integer, boolean, text, text, anycompatiblearray, double precision, text, integer) IS 'top k items for a user';

-- Ids of every type. A list that a client sends without a type resolves to text.
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
COMMENT ON FUNCTION reco.recommend_for_items(text, anyarray, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'top k items for a list of items';
COMMENT ON FUNCTION reco.recommend_for_items(text, text, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'top k items for a list of items';

CREATE FUNCTION reco.recommend_all(model text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (user_id text, rank integer, item_id text, score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'recommend_all_wrapper';
COMMENT ON FUNCTION reco.recommend_all IS 'top k items for every user of a recommender';

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
COMMENT ON FUNCTION reco.similar_items(text, text, integer) IS 'k most similar items to an item';
COMMENT ON FUNCTION reco.similar_items(text, bigint, integer) IS 'k most similar items to an item';
COMMENT ON FUNCTION reco.similar_items(text, uuid, integer) IS 'k most similar items to an item';

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
COMMENT ON FUNCTION reco.explain(text, text, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, text, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, text, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';

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
COMMENT ON FUNCTION reco.similar_users(text, text, integer) IS 'k most similar users to a user';
COMMENT ON FUNCTION reco.similar_users(text, bigint, integer) IS 'k most similar users to a user';
COMMENT ON FUNCTION reco.similar_users(text, uuid, integer) IS 'k most similar users to a user';

CREATE FUNCTION reco.model_users(model text)
    RETURNS SETOF text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000 ROWS 1000
    AS 'MODULE_PATHNAME', 'model_users_wrapper';
COMMENT ON FUNCTION reco.model_users IS 'users of a recommender';

CREATE FUNCTION reco.create_view(model text, view text, k integer DEFAULT 10, history text DEFAULT 'live')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_view_wrapper';
COMMENT ON FUNCTION reco.create_view IS 'create a view of the top k items for every user';

CREATE FUNCTION reco.create_function(model text, function text, k integer DEFAULT 10, history text DEFAULT 'live')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_function_wrapper';
COMMENT ON FUNCTION reco.create_function IS 'create a function that returns the top k items for a user';

CREATE FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_accum_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.top_k_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_combine_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION reco_internal.top_k_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_serialize(internal) IS 'aggregate serial function';
CREATE FUNCTION reco_internal.top_k_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_deserialize(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION reco_internal.top_k_final(internal)
    RETURNS reco.scored_item[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'top_k_final_wrapper';
COMMENT ON FUNCTION reco_internal.top_k_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.top_k(item anyelement, score real, k integer) (
    SFUNC = reco_internal.top_k_accum, STYPE = internal, FINALFUNC = reco_internal.top_k_final,
    COMBINEFUNC = reco_internal.top_k_combine, SERIALFUNC = reco_internal.top_k_serialize,
    DESERIALFUNC = reco_internal.top_k_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.top_k(anyelement, real, integer) IS 'k items with the highest scores, as an array, best first';
