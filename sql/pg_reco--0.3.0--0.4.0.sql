-- 0.3.0 → 0.4.0: safe in hostile hands. A test holds the result against a fresh install.

-- The schema, models, grants and roles.

-- A fresh install refuses a schema in which others may make objects: what they made beside the extension's functions might be called
-- in their place. Nothing here is looked up by a path that another may have set.
DO $$
DECLARE
    home record;
    there pg_catalog.text;
BEGIN
    SELECT n.oid, r.rolname, r.rolsuper OR n.nspowner OPERATOR(pg_catalog.=) e.extowner AS trusted INTO home
      FROM pg_catalog.pg_extension e
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
      JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
     WHERE e.extname OPERATOR(pg_catalog.=) 'pg_reco';
    IF NOT home.trusted THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('schema "reco" is owned by role "%s"', home.rolname),
            HINT = 'Give it to the owner of the extension (ALTER SCHEMA reco OWNER TO …), and drop what others made in it.';
    END IF;
    SELECT COALESCE(r.rolname::pg_catalog.text, 'public') INTO there
      FROM pg_catalog.pg_namespace n
     CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
      LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
     WHERE n.oid OPERATOR(pg_catalog.=) home.oid AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
       AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner AND r.rolsuper IS NOT TRUE;
    IF there IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('role "%s" may create objects in schema "reco"', there),
            HINT = pg_catalog.format('Take that back: REVOKE CREATE ON SCHEMA reco FROM %s; and drop what was made in it.',
                                     CASE there WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(there) END);
    END IF;
    SELECT pg_catalog.format('%s %s', o.type, o.identity) INTO there
      FROM pg_catalog.pg_depend d
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS o
      JOIN pg_catalog.pg_shdepend s ON s.classid OPERATOR(pg_catalog.=) d.classid AND s.objid OPERATOR(pg_catalog.=) d.objid
                                   AND s.deptype OPERATOR(pg_catalog.=) 'o'
      JOIN pg_catalog.pg_database b ON b.oid OPERATOR(pg_catalog.=) s.dbid
                                   AND b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
      JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.refobjid AND NOT r.rolsuper
      JOIN pg_catalog.pg_extension e ON e.extname OPERATOR(pg_catalog.=) 'pg_reco'
                                    AND e.extowner OPERATOR(pg_catalog.<>) s.refobjid
     WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
       AND d.refobjid OPERATOR(pg_catalog.=) home.oid
     LIMIT 1;
    IF there IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('schema "reco" holds %s, which another role owns', there),
            HINT = 'Look at what it is, then move it to another schema or drop it.';
    END IF;
END $$;

-- The parts of aggregates go where nobody calls them by name.
CREATE SCHEMA reco_internal;
COMMENT ON SCHEMA reco_internal IS 'parts of reco''s aggregates, to be called by PostgreSQL alone';

-- Functions with other arguments are other functions: who may call those of the same name is kept for them.
CREATE TABLE reco_internal.rights AS SELECT p.oid, p.proname, p.proacl FROM pg_catalog.pg_proc p
 WHERE p.pronamespace OPERATOR(pg_catalog.=) 'reco'::pg_catalog.regnamespace;

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
    AS 'SELECT rank, item_id, score, reason FROM reco.recommend_for_items($1, $2::pg_catalog.text[], $3, $4, $5, $6, $7, $8, $9, $10)';
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
COMMENT ON COLUMN reco.cache.folder IS 'its name below pg_reco in the data directory';
COMMENT ON COLUMN reco.cache.bytes IS 'of all files in it';
COMMENT ON COLUMN reco.cache.model IS 'a model of this database whose files these are; NULL where there is none';
COMMENT ON COLUMN reco.cache.version IS 'its version';
COMMENT ON COLUMN reco.cache.databases IS 'that need the folder';
COMMENT ON COLUMN reco.cache.prepared_here IS 'whether the graph is prepared for the ONNX Runtime and the processor of this connection';
COMMENT ON COLUMN reco.cache.prepared_elsewhere IS 'how often the graph is prepared for others';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'removes what no database needs from the cache of models'' files, and says what that was';

-- Models have an identity, grants say what for.

ALTER TABLE reco.model ADD COLUMN id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE;

-- What was granted before came to both privileges, and stays.
ALTER TABLE reco.model_grant ADD COLUMN privilege text NOT NULL DEFAULT 'read' CHECK (privilege IN ('serve', 'read'));
COMMENT ON TABLE reco.model_grant IS
    'who besides its owner may use a model: serve for its answers, read also for what it was trained on; grantee public is everybody';

CREATE OR REPLACE VIEW reco.models WITH (security_barrier) AS
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
       CASE WHEN p.read THEN v.source END AS source,
       CASE WHEN p.read THEN v.config END AS config,
       CASE WHEN p.read THEN v.metrics END AS metrics,
       m.id
  FROM reco.model_version v
  JOIN reco.model m ON m.name = v.name
 -- The strongest privilege that the current role has on the model.
 CROSS JOIN LATERAL (
       SELECT pg_catalog.bool_or(held.privilege = 'read') AS read
         FROM (SELECT 'read' AS privilege
                WHERE pg_catalog.pg_has_role(current_user, m.owner, 'USAGE')
                   OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                               WHERE r.rolname = 'reco_reader' AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE'))
                UNION ALL
               SELECT g.privilege FROM reco.model_grant g
                WHERE g.name = m.name
                  AND CASE WHEN g.grantee = 0::oid THEN true
                           ELSE pg_catalog.pg_has_role(current_user, g.grantee, 'USAGE') END) AS held) AS p
 WHERE p.read IS NOT NULL;
COMMENT ON VIEW reco.models IS
    'the models the current role may use: every version, and which one is in use; source, config and metrics with the privilege read';

COMMENT ON COLUMN reco.model.id IS 'tells it from a model made later under the same name';
COMMENT ON COLUMN reco.model_grant.privilege IS 'serve for answers alone, read also for what it was trained on';
COMMENT ON COLUMN reco.models.id IS 'tells it from a model made later under the same name';

DROP FUNCTION reco.grant_model(text, text);
CREATE FUNCTION reco.grant_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'grant_model_wrapper';
DROP FUNCTION reco.revoke_model(text, text);
CREATE FUNCTION reco.revoke_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'revoke_model_wrapper';
COMMENT ON FUNCTION reco.grant_model IS 'lets a role, or public, have a model''s answers (serve), or also see what it was trained on (read)';
COMMENT ON FUNCTION reco.revoke_model IS 'takes back what reco.grant_model gave: all of it, or read alone';

CREATE FUNCTION reco.model_name(id uuid)
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000
    AS 'MODULE_PATHNAME', 'model_name_wrapper';
COMMENT ON FUNCTION reco.model_name IS 'the name of the model with this id, for who may use it; an error where it was dropped';

-- Who might call a function before may call the one in its place.
DO $$
DECLARE
    made record;
    held record;
BEGIN
    FOR made IN SELECT p.oid::pg_catalog.regprocedure AS signature, o.proacl AS rights
                  FROM pg_catalog.pg_proc p
                 CROSS JOIN LATERAL (
                       SELECT r.proacl FROM reco_internal.rights r
                        WHERE r.proname OPERATOR(pg_catalog.=) p.proname AND r.proacl IS NOT NULL
                        -- Of several, one that not everybody may call.
                        ORDER BY EXISTS (SELECT FROM pg_catalog.aclexplode(r.proacl) a WHERE a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid)
                        LIMIT 1) AS o
                 WHERE p.pronamespace OPERATOR(pg_catalog.=) 'reco'::pg_catalog.regnamespace
                   AND NOT EXISTS (SELECT FROM reco_internal.rights r WHERE r.oid OPERATOR(pg_catalog.=) p.oid) LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made.signature);
        FOR held IN SELECT COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC') AS grantee, a.is_grantable
                      FROM pg_catalog.aclexplode(made.rights) AS a
                      LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee LOOP
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s%s', made.signature, held.grantee,
                                      CASE WHEN held.is_grantable THEN ' WITH GRANT OPTION' END);
        END LOOP;
    END LOOP;
END $$;
DROP TABLE reco_internal.rights;

-- Roles. What everybody may call stays callable by everybody, until a superuser says otherwise: CALL reco.revoke_from_public().

DO $$
DECLARE
    predefined pg_catalog.text[] := ARRAY[
        ['reco_trainer', 'may train, tune and refresh models with pg_reco, and create views and functions over them'],
        ['reco_importer', 'may import graphs with pg_reco, which run inside the server'],
        ['reco_reader', 'may use every model of pg_reco, and see what it was trained on'],
        ['reco_dumper', 'may dump the tables of pg_reco: every model with all that it holds']];
    place pg_catalog.int4;
    there record;
BEGIN
    FOR place IN 1 .. pg_catalog.array_length(predefined, 1) LOOP
        SELECT r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls INTO there
          FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) predefined[place][1]::pg_catalog.name;
        IF NOT FOUND THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', predefined[place][1]);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', predefined[place][1], predefined[place][2]);
        ELSIF there.rolcanlogin OR there.rolsuper OR there.rolcreaterole OR there.rolcreatedb OR there.rolreplication
              OR there.rolbypassrls THEN
            RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
                MESSAGE = pg_catalog.format('role "%s" exists, and may log in or has attributes', predefined[place][1]),
                DETAIL = pg_catalog.format('The extension grants to a role of this name, which %s.', predefined[place][2]),
                HINT = pg_catalog.format('Rename it (ALTER ROLE %1$I RENAME TO …), or make it a mere group: ALTER ROLE %1$I NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.',
                                         predefined[place][1]);
        END IF;
    END LOOP;
END $$;

-- By name alone where there is one function of it.
GRANT EXECUTE ON FUNCTION
    reco.train, reco.refresh, reco.tune, reco.cross_validate, reco.create_view, reco.create_function,
    reco.importance(text, text, text, text, text, jsonb, text, bigint),
    reco.importance(text, text[], text, text, text, jsonb, text, bigint),
    reco.importance(real[], text, text),
    reco.importance(real[], double precision, text),
    reco.importance(real[], boolean, text),
    reco.importance(reco.numbers, text, text),
    reco.importance(reco.numbers, double precision, text),
    reco.importance(reco.numbers, boolean, text),
    reco.prune, reco.find_label_errors, reco.compare_training, reco.interaction_importance,
    reco.train_synthesizer,
    reco.augment(text, text, bigint, text, boolean, jsonb, bigint),
    reco.augment(anyelement, text, text, bigint, text, boolean, jsonb, bigint),
    reco.augment_interactions,
    reco.augment_text(text, integer, text, jsonb, bigint),
    reco.augment_text(text[], integer, text, jsonb, bigint),
    reco.alignment_weights, reco.resample_aligned, reco.synthetic_report, reco.synthetic_report_html
    TO reco_trainer;

-- A graph is code that runs inside the server.
GRANT EXECUTE ON FUNCTION reco.import_model TO reco_importer;

GRANT SELECT ON reco.model, reco.model_version, reco.model_file, reco.model_part, reco.model_grant TO reco_dumper;

CREATE PROCEDURE reco.revoke_from_public() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signature regprocedure;
BEGIN
    FOR signature IN SELECT p.oid
                       FROM pg_proc p
                      CROSS JOIN LATERAL aclexplode(p.proacl) AS a
                       JOIN pg_roles r ON r.oid = a.grantee
                      WHERE p.pronamespace = 'reco'::regnamespace AND r.rolname IN ('reco_trainer', 'reco_importer') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
    END LOOP;
END $$;
REVOKE ALL ON PROCEDURE reco.revoke_from_public FROM PUBLIC;
COMMENT ON PROCEDURE reco.revoke_from_public IS
    'leaves what trains, imports, refreshes and creates to reco_trainer and reco_importer: for databases updated from before 0.4.0';

DO $$
BEGIN
    RAISE WARNING USING
        MESSAGE = 'all roles may go on training, refreshing and creating with pg_reco, as before this update',
        HINT = 'CALL reco.revoke_from_public() leaves that to members of reco_trainer and reco_importer, as a fresh install does.';
END $$;
