-- 0.3.0 → 0.4.0: safe in hostile hands. A test holds the result against a fresh install.

-- The parts of aggregates go where nobody calls them by name.
CREATE SCHEMA reco_internal;
COMMENT ON SCHEMA reco_internal IS 'parts of reco''s aggregates, to be called by PostgreSQL alone';
ALTER FUNCTION reco.mean_embedding_accum(internal, real[]) SET SCHEMA reco_internal;
ALTER FUNCTION reco.mean_embedding_accum(internal, real[], double precision) SET SCHEMA reco_internal;
ALTER FUNCTION reco.mean_embedding_combine(internal, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.mean_embedding_serialize(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.mean_embedding_deserialize(bytea, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.mean_embedding_final(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.top_k_accum(internal, anyelement, real, integer) SET SCHEMA reco_internal;
ALTER FUNCTION reco.top_k_combine(internal, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.top_k_serialize(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.top_k_deserialize(bytea, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.top_k_final(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.loss_stats_accum(internal, double precision) SET SCHEMA reco_internal;
ALTER FUNCTION reco.loss_stats_combine(internal, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.loss_stats_serialize(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.loss_stats_deserialize(bytea, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.loss_stats_final(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_accum(internal, double precision, double precision, double precision, integer) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_accum(internal, double precision, double precision, double precision) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_combine(internal, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_serialize(internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_deserialize(bytea, internal) SET SCHEMA reco_internal;
ALTER FUNCTION reco.importance_histogram_final(internal) SET SCHEMA reco_internal;
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[]) IS 'takes a row into a state of reco.mean_embedding';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision) IS 'takes a row into a state of reco.mean_embedding';
COMMENT ON FUNCTION reco_internal.mean_embedding_combine(internal, internal) IS 'joins two states of reco.mean_embedding';
COMMENT ON FUNCTION reco_internal.mean_embedding_serialize(internal) IS 'a state of reco.mean_embedding as bytes';
COMMENT ON FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal) IS 'a state of reco.mean_embedding out of bytes';
COMMENT ON FUNCTION reco_internal.mean_embedding_final(internal) IS 'what a state of reco.mean_embedding comes to';
COMMENT ON FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer) IS 'takes a row into a state of reco.top_k';
COMMENT ON FUNCTION reco_internal.top_k_combine(internal, internal) IS 'joins two states of reco.top_k';
COMMENT ON FUNCTION reco_internal.top_k_serialize(internal) IS 'a state of reco.top_k as bytes';
COMMENT ON FUNCTION reco_internal.top_k_deserialize(bytea, internal) IS 'a state of reco.top_k out of bytes';
COMMENT ON FUNCTION reco_internal.top_k_final(internal) IS 'what a state of reco.top_k comes to';
COMMENT ON FUNCTION reco_internal.loss_stats_accum(internal, double precision) IS 'takes a row into a state of reco.loss_stats';
COMMENT ON FUNCTION reco_internal.loss_stats_combine(internal, internal) IS 'joins two states of reco.loss_stats';
COMMENT ON FUNCTION reco_internal.loss_stats_serialize(internal) IS 'a state of reco.loss_stats as bytes';
COMMENT ON FUNCTION reco_internal.loss_stats_deserialize(bytea, internal) IS 'a state of reco.loss_stats out of bytes';
COMMENT ON FUNCTION reco_internal.loss_stats_final(internal) IS 'what a state of reco.loss_stats comes to';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer) IS 'takes a row into a state of reco.importance_histogram';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision) IS 'takes a row into a state of reco.importance_histogram';
COMMENT ON FUNCTION reco_internal.importance_histogram_combine(internal, internal) IS 'joins two states of reco.importance_histogram';
COMMENT ON FUNCTION reco_internal.importance_histogram_serialize(internal) IS 'a state of reco.importance_histogram as bytes';
COMMENT ON FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal) IS 'a state of reco.importance_histogram out of bytes';
COMMENT ON FUNCTION reco_internal.importance_histogram_final(internal) IS 'what a state of reco.importance_histogram comes to';

-- Every column has a comment.
COMMENT ON COLUMN reco.model.name IS 'the model''s name';
COMMENT ON COLUMN reco.model.owner IS 'the role that may add versions, promote, grant and drop';
COMMENT ON COLUMN reco.model.version_in_use IS 'the version that calls without a version take';
COMMENT ON COLUMN reco.model_version.name IS 'of the model';
COMMENT ON COLUMN reco.model_version.version IS 'counted from 1 within the model';
COMMENT ON COLUMN reco.model_version.task IS 'what the model is for';
COMMENT ON COLUMN reco.model_version.algorithm IS 'how a recommender or a synthesizer was trained; NULL for an imported graph';
COMMENT ON COLUMN reco.model_version.config IS 'what a load must know: of the inputs, of the queries';
COMMENT ON COLUMN reco.model_version.source IS 'the query that it was trained on';
COMMENT ON COLUMN reco.model_version.metrics IS 'what training measured, with the options';
COMMENT ON COLUMN reco.model_version.sha256 IS 'of the ONNX file';
COMMENT ON COLUMN reco.model_version.size IS 'of the ONNX file, in bytes';
COMMENT ON COLUMN reco.model_version.created IS 'when it was stored';
COMMENT ON COLUMN reco.model_file.name IS 'of the model';
COMMENT ON COLUMN reco.model_file.version IS 'of the model';
COMMENT ON COLUMN reco.model_file.file IS 'the file''s name in the cache';
COMMENT ON COLUMN reco.model_file.sha256 IS 'of the whole file';
COMMENT ON COLUMN reco.model_file.size IS 'in bytes';
COMMENT ON COLUMN reco.model_part.name IS 'of the model';
COMMENT ON COLUMN reco.model_part.version IS 'of the model';
COMMENT ON COLUMN reco.model_part.file IS 'the file''s name in the cache';
COMMENT ON COLUMN reco.model_part.part IS 'the place in the file, from 0';
COMMENT ON COLUMN reco.model_part.data IS 'up to 4 MiB of the file';
COMMENT ON COLUMN reco.model_grant.name IS 'of the model';
COMMENT ON COLUMN reco.model_grant.grantee IS 'who may use it; public is everybody';
COMMENT ON COLUMN reco.models.name IS 'the model''s name';
COMMENT ON COLUMN reco.models.version IS 'counted from 1 within the model';
COMMENT ON COLUMN reco.models.in_use IS 'whether calls take this version';
COMMENT ON COLUMN reco.models.task IS 'what the model is for';
COMMENT ON COLUMN reco.models.algorithm IS 'how it was trained; NULL for an imported graph';
COMMENT ON COLUMN reco.models.size IS 'of all its files, in bytes';
COMMENT ON COLUMN reco.models.sha256 IS 'of its ONNX file';
COMMENT ON COLUMN reco.models.owner IS 'the role that may add versions, promote, grant and drop; empty where it is gone';
COMMENT ON COLUMN reco.models.created IS 'when it was stored';
COMMENT ON COLUMN reco.models.source IS 'the query that it was trained on';
COMMENT ON COLUMN reco.models.config IS 'what a load must know: of the inputs, of the queries';
COMMENT ON COLUMN reco.models.metrics IS 'what training measured, with the options';
COMMENT ON COLUMN reco.stat_models.model IS 'the model''s name';
COMMENT ON COLUMN reco.stat_models.provider IS 'cpu or cuda, where ONNX Runtime ran it; scan for the lists of a recommender';
COMMENT ON COLUMN reco.stat_models.loads IS 'how often a connection loaded it';
COMMENT ON COLUMN reco.stat_models.load_time IS 'of all loads, in milliseconds';
COMMENT ON COLUMN reco.stat_models.runs IS 'how often it ran';
COMMENT ON COLUMN reco.stat_models.rows IS 'texts, images, rows of a first input; users, baskets and items that got a list';
COMMENT ON COLUMN reco.stat_models.tokens IS 'of texts; NULL for other models';
COMMENT ON COLUMN reco.stat_models.mean_latency IS 'of a run, in milliseconds';
COMMENT ON COLUMN reco.stat_models.p99_latency IS '99 of 100 runs took at most this, in milliseconds';
COMMENT ON COLUMN reco.stat_models.bytes IS 'of the files that the last load took';
COMMENT ON COLUMN reco.stat_models.stats_reset IS 'since when it is counted';
COMMENT ON COLUMN reco.stat_progress.pid IS 'the process of the call';
COMMENT ON COLUMN reco.stat_progress.datname IS 'the database of the call';
COMMENT ON COLUMN reco.stat_progress.usename IS 'the role that logged in';
COMMENT ON COLUMN reco.stat_progress.function IS 'the function that was called';
COMMENT ON COLUMN reco.stat_progress.model IS 'the model that it uses or makes';
COMMENT ON COLUMN reco.stat_progress.phase IS 'what it is doing';
COMMENT ON COLUMN reco.stat_progress.done IS 'how much of the phase is done';
COMMENT ON COLUMN reco.stat_progress.total IS 'how much there is; NULL where that is not known';
COMMENT ON COLUMN reco.stat_progress.started IS 'when the call began';
COMMENT ON COLUMN reco.scored_item.item_id IS 'the item, as text';
COMMENT ON COLUMN reco.scored_item.score IS 'the greater, the better';
COMMENT ON COLUMN reco.loss_summary.count IS 'how many there were';
COMMENT ON COLUMN reco.loss_summary.mean IS 'their mean';
COMMENT ON COLUMN reco.loss_summary.deviation IS 'their standard deviation';
COMMENT ON COLUMN reco.loss_summary.least IS 'the smallest';
COMMENT ON COLUMN reco.loss_summary.greatest IS 'the largest';

-- Vectors of other numbers: drivers send float8[], and integers for whole numbers. A call is resolved to real[] where that fits exactly,
-- and else to this type, the preferred one of its category, into which every array of numbers goes by itself. It is stored as real[].
CREATE TYPE reco.numbers;
CREATE FUNCTION reco_internal.numbers_in(cstring)
    RETURNS reco.numbers LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'numbers_in_wrapper';
CREATE FUNCTION reco_internal.numbers_out(reco.numbers)
    RETURNS cstring LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'array_out';
CREATE TYPE reco.numbers (
    INPUT = reco_internal.numbers_in, OUTPUT = reco_internal.numbers_out,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended, CATEGORY = 'A', PREFERRED = true);
COMMENT ON TYPE reco.numbers IS 'a vector given in any type of number, stored as real[]';
COMMENT ON FUNCTION reco_internal.numbers_in IS 'input of reco.numbers';
COMMENT ON FUNCTION reco_internal.numbers_out IS 'output of reco.numbers';
CREATE FUNCTION reco_internal.numbers(real[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(real[]) IS 'the cast to reco.numbers';
CREATE CAST (real[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(real[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(double precision[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(double precision[]) IS 'the cast to reco.numbers';
CREATE CAST (double precision[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(double precision[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(numeric[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(numeric[]) IS 'the cast to reco.numbers';
CREATE CAST (numeric[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(numeric[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(smallint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(smallint[]) IS 'the cast to reco.numbers';
CREATE CAST (smallint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(smallint[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(integer[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(integer[]) IS 'the cast to reco.numbers';
CREATE CAST (integer[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(integer[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(bigint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(bigint[]) IS 'the cast to reco.numbers';
CREATE CAST (bigint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(bigint[]) AS IMPLICIT;

CREATE FUNCTION reco.cosine_similarity(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity(reco.numbers, reco.numbers) IS 'cosine of the angle between two vectors, −1 to 1';

CREATE FUNCTION reco.dot_product(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product(reco.numbers, reco.numbers) IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, weights reco.numbers DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, text) IS 'one vector for two modalities: each normalised and weighed, then concatenated or added';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, c reco.numbers, weights reco.numbers DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, reco.numbers, text) IS 'one vector for three modalities: each normalised and weighed, then concatenated or added';

CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers) IS 'takes a row into a state of reco.mean_embedding';
CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision) IS 'takes a row into a state of reco.mean_embedding';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers) IS 'the mean of vectors; rows with NULL are left out';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers, weight double precision) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers, double precision) IS 'the weighted mean of vectors; rows with NULL are left out';
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

-- Lists of ids of every type: functions with other arguments are other functions. Where a view of a user's needs an old one, that stays,
-- under another name and the user's own, and calls the new one.
CREATE FUNCTION reco_internal.retire(signature text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old regprocedure := signature;
BEGIN
    EXECUTE format('DROP FUNCTION %s', old);
EXCEPTION WHEN dependent_objects_still_exist THEN
    EXECUTE format('ALTER FUNCTION %s RENAME TO %I', old, (SELECT proname || '_before_0_4' FROM pg_proc WHERE oid = old));
END $$;
SELECT reco_internal.retire(signature)
  FROM pg_catalog.unnest(ARRAY[
       'reco.recommend(text,text,integer,boolean,text,text,text[],double precision,text,integer)',
       'reco.recommend(text,bigint,integer,boolean,text,text,text[],double precision,text,integer)',
       'reco.recommend(text,uuid,integer,boolean,text,text,text[],double precision,text,integer)',
       'reco.recommend_for_items(text,bigint[],real[],integer,boolean,text,text[],double precision,text,integer)',
       'reco.recommend_for_items(text,uuid[],real[],integer,boolean,text,text[],double precision,text,integer)',
       'reco.recommend_for_items(text,text[],real[],integer,boolean,text,text[],double precision,text,integer)',
       'reco.recommend_all(text,integer,boolean,text,text[],double precision,text,integer)']) AS signature;
DROP FUNCTION reco_internal.retire(text);

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
    AS 'SELECT rank, item_id, score, reason FROM reco.recommend_for_items($1, $2::text[], $3, $4, $5, $6, $7, $8, $9, $10)';
COMMENT ON FUNCTION reco.recommend_for_items(text, anyarray, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a basket or a session, without a stored user';
COMMENT ON FUNCTION reco.recommend_for_items(text, text, double precision[], integer, boolean, text, anycompatiblearray, double precision, text, integer) IS 'the best k items for a basket or a session, given as an array''s text';

CREATE FUNCTION reco.recommend_all(model text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true, filter text DEFAULT NULL, deny anycompatiblearray DEFAULT NULL::text[],
        diversity double precision DEFAULT 0, group_by text DEFAULT NULL, max_per_group integer DEFAULT NULL)
    RETURNS TABLE (user_id text, rank integer, item_id text, score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'recommend_all_wrapper';
COMMENT ON FUNCTION reco.recommend_all IS 'the best k items for every user the model was trained on, in batches';

DO $$
DECLARE
    old record;
BEGIN
    FOR old IN SELECT p.oid::pg_catalog.regprocedure AS signature, p.proname,
                      pg_catalog.pg_get_function_arguments(p.oid) AS declared, pg_catalog.pg_get_function_result(p.oid) AS result,
                      (SELECT pg_catalog.string_agg(name, ', ') FROM unnest(p.proargnames, p.proargmodes) AS a (name, mode)
                        WHERE mode = 't') AS columns,
                      (SELECT pg_catalog.string_agg('$' || n, ', ') FROM pg_catalog.generate_series(1, p.pronargs) AS n) AS given
                 FROM pg_catalog.pg_proc p
                WHERE p.pronamespace = 'reco'::pg_catalog.regnamespace AND p.proname LIKE '%\_before\_0\_4' LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE FUNCTION reco.%I(%s) RETURNS %s LANGUAGE sql STABLE PARALLEL RESTRICTED COST 10000 ROWS 10 AS %L',
                                  old.proname, old.declared, old.result,
                                  pg_catalog.format('SELECT %s FROM reco.%I(%s)', old.columns, pg_catalog.replace(old.proname, '_before_0_4', ''), old.given));
        -- A dump then has it, beside the view that needs it.
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_reco DROP FUNCTION %s', old.signature);
    END LOOP;
END $$;

-- Versions that are kept, and the cache of models' files.

DROP FUNCTION reco.train(text, text, text, jsonb, bigint, text, text, jsonb, interval, text);
CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'trains a recommender on a query with columns user_id, item_id and perhaps weight, ts and event, and gives its version';

DROP FUNCTION reco.refresh(text, text);
CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'refresh_wrapper';
COMMENT ON FUNCTION reco.refresh IS 'a new version of a recommender, with what its queries hold by now';

DROP FUNCTION reco.train_synthesizer(text, text, text, jsonb, text, bigint);
CREATE FUNCTION reco.train_synthesizer(name text, source text, method text DEFAULT 'cart', options jsonb DEFAULT '{}', label text DEFAULT NULL,
                                       seed bigint DEFAULT NULL, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_synthesizer_wrapper';
COMMENT ON FUNCTION reco.train_synthesizer IS 'learns what the rows of a query are like, and keeps it as a version of a model that makes more of them';

CREATE FUNCTION reco.prune_versions(name text, keep integer)
    RETURNS SETOF integer LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'prune_versions_wrapper';
COMMENT ON FUNCTION reco.prune_versions IS 'removes all versions of a model but the newest and the one in use, and gives those that went';

CREATE FUNCTION reco.cache_folders()
    RETURNS TABLE (folder text, bytes bigint, model text, version integer, databases oid[], prepared_here boolean, prepared_elsewhere integer)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'cache_folders_wrapper';
-- The cache is that of all databases: what another has is not for everybody's eyes.
REVOKE ALL ON FUNCTION reco.cache_folders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.cache_folders TO pg_read_all_stats;
COMMENT ON FUNCTION reco.cache_folders IS 'the rows of the view reco.cache';

CREATE VIEW reco.cache AS
SELECT c.folder,
       c.bytes,
       c.model,
       c.version,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = ANY (c.databases) ORDER BY d.datname) AS databases,
       c.prepared_here,
       c.prepared_elsewhere
  FROM reco.cache_folders() c;
COMMENT ON VIEW reco.cache IS 'the folders of models'' files in the data directory: the version of this database in each, and the databases that need it';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'removes what no database needs from the cache of models'' files, and says what that was';
