-- 0.3.0 → 0.4.0. tests/test_upgrade.py compares the result with a fresh install.

-- The schema, models, grants and roles.

-- As in a fresh install, no other role may be able to create objects in the schema: calls could resolve to them. All names here are
-- schema-qualified, since search_path may be hostile.
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
            HINT = 'Change its owner to the owner of the extension (ALTER SCHEMA reco OWNER TO …), and drop the objects of other roles in it.';
    END IF;
    SELECT COALESCE(r.rolname::pg_catalog.text, 'public') INTO there
      FROM pg_catalog.pg_namespace n
     CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
      LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
     WHERE n.oid OPERATOR(pg_catalog.=) home.oid AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
       AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner AND r.rolsuper IS NOT TRUE;
    IF there IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('role "%s" can create objects in schema "reco"', there),
            HINT = pg_catalog.format('Run REVOKE CREATE ON SCHEMA reco FROM %s, and drop the objects that the role created in it.',
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
            MESSAGE = pg_catalog.format('schema "reco" contains %s, which is owned by another role', there),
            HINT = 'Check the object, then move it to another schema or drop it.';
    END IF;
END $$;

-- Support functions of aggregates move to a schema of their own.
CREATE SCHEMA reco_internal;
COMMENT ON SCHEMA reco_internal IS 'support functions of pg_reco, not to be called directly';

-- Functions with changed arguments are new objects, which get the privileges of the old functions of the same name.
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
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[]) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.mean_embedding_combine(internal, internal) IS 'aggregate combine function';
COMMENT ON FUNCTION reco_internal.mean_embedding_serialize(internal) IS 'aggregate serial function';
COMMENT ON FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal) IS 'aggregate deserial function';
COMMENT ON FUNCTION reco_internal.mean_embedding_final(internal) IS 'aggregate final function';
COMMENT ON FUNCTION reco_internal.top_k_accum(internal, anyelement, real, integer) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.top_k_combine(internal, internal) IS 'aggregate combine function';
COMMENT ON FUNCTION reco_internal.top_k_serialize(internal) IS 'aggregate serial function';
COMMENT ON FUNCTION reco_internal.top_k_deserialize(bytea, internal) IS 'aggregate deserial function';
COMMENT ON FUNCTION reco_internal.top_k_final(internal) IS 'aggregate final function';
COMMENT ON FUNCTION reco_internal.loss_stats_accum(internal, double precision) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.loss_stats_combine(internal, internal) IS 'aggregate combine function';
COMMENT ON FUNCTION reco_internal.loss_stats_serialize(internal) IS 'aggregate serial function';
COMMENT ON FUNCTION reco_internal.loss_stats_deserialize(bytea, internal) IS 'aggregate deserial function';
COMMENT ON FUNCTION reco_internal.loss_stats_final(internal) IS 'aggregate final function';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision, integer) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.importance_histogram_accum(internal, double precision, double precision, double precision) IS 'aggregate transition function';
COMMENT ON FUNCTION reco_internal.importance_histogram_combine(internal, internal) IS 'aggregate combine function';
COMMENT ON FUNCTION reco_internal.importance_histogram_serialize(internal) IS 'aggregate serial function';
COMMENT ON FUNCTION reco_internal.importance_histogram_deserialize(bytea, internal) IS 'aggregate deserial function';
COMMENT ON FUNCTION reco_internal.importance_histogram_final(internal) IS 'aggregate final function';

-- Every column has a comment.
COMMENT ON COLUMN reco.model.name IS 'model name';
COMMENT ON COLUMN reco.model.owner IS 'owner of the model';
COMMENT ON COLUMN reco.model.version_in_use IS 'version used by default';
COMMENT ON COLUMN reco.model_version.name IS 'model name';
COMMENT ON COLUMN reco.model_version.version IS 'version number, from 1 for each model';
COMMENT ON COLUMN reco.model_version.task IS 'purpose of the model';
COMMENT ON COLUMN reco.model_version.algorithm IS 'training algorithm; NULL for an imported model';
COMMENT ON COLUMN reco.model_version.config IS 'configuration of inputs and queries';
COMMENT ON COLUMN reco.model_version.source IS 'query that it was trained on';
COMMENT ON COLUMN reco.model_version.metrics IS 'training metrics and options';
COMMENT ON COLUMN reco.model_version.sha256 IS 'SHA-256 of the ONNX file';
COMMENT ON COLUMN reco.model_version.size IS 'size of the ONNX file in bytes';
COMMENT ON COLUMN reco.model_version.created IS 'creation time';
COMMENT ON COLUMN reco.model_file.name IS 'model name';
COMMENT ON COLUMN reco.model_file.version IS 'version number';
COMMENT ON COLUMN reco.model_file.file IS 'file name';
COMMENT ON COLUMN reco.model_file.sha256 IS 'SHA-256 of the file';
COMMENT ON COLUMN reco.model_file.size IS 'size in bytes';
COMMENT ON COLUMN reco.model_part.name IS 'model name';
COMMENT ON COLUMN reco.model_part.version IS 'version number';
COMMENT ON COLUMN reco.model_part.file IS 'file name';
COMMENT ON COLUMN reco.model_part.part IS 'part number, from 0';
COMMENT ON COLUMN reco.model_part.data IS 'contents of the part';
COMMENT ON COLUMN reco.model_grant.name IS 'model name';
COMMENT ON COLUMN reco.model_grant.grantee IS 'role that has the privilege, or public';
COMMENT ON COLUMN reco.models.name IS 'model name';
COMMENT ON COLUMN reco.models.version IS 'version number, from 1 for each model';
COMMENT ON COLUMN reco.models.in_use IS 'whether the version is used by default';
COMMENT ON COLUMN reco.models.task IS 'purpose of the model';
COMMENT ON COLUMN reco.models.algorithm IS 'training algorithm; NULL for an imported model';
COMMENT ON COLUMN reco.models.size IS 'total size of its files in bytes';
COMMENT ON COLUMN reco.models.sha256 IS 'SHA-256 of the ONNX file';
COMMENT ON COLUMN reco.models.owner IS 'owner of the model; empty if the role no longer exists';
COMMENT ON COLUMN reco.models.created IS 'creation time';
COMMENT ON COLUMN reco.models.source IS 'query that it was trained on';
COMMENT ON COLUMN reco.models.config IS 'configuration of inputs and queries';
COMMENT ON COLUMN reco.models.metrics IS 'training metrics and options';
COMMENT ON COLUMN reco.stat_models.model IS 'model name';
COMMENT ON COLUMN reco.stat_models.provider IS 'cpu or cuda for ONNX Runtime, scan for recommenders';
COMMENT ON COLUMN reco.stat_models.loads IS 'number of loads';
COMMENT ON COLUMN reco.stat_models.load_time IS 'total load time in milliseconds';
COMMENT ON COLUMN reco.stat_models.runs IS 'number of runs';
COMMENT ON COLUMN reco.stat_models.rows IS 'number of inputs of all runs, such as texts, images or users';
COMMENT ON COLUMN reco.stat_models.tokens IS 'number of input tokens; NULL for models without tokens';
COMMENT ON COLUMN reco.stat_models.mean_latency IS 'mean time of a run in milliseconds';
COMMENT ON COLUMN reco.stat_models.p99_latency IS '99th percentile of the time of a run in milliseconds';
COMMENT ON COLUMN reco.stat_models.bytes IS 'size of its files at the last load in bytes';
COMMENT ON COLUMN reco.stat_models.stats_reset IS 'time of the last reset';
COMMENT ON COLUMN reco.stat_progress.pid IS 'process ID of the backend';
COMMENT ON COLUMN reco.stat_progress.datname IS 'name of the database';
COMMENT ON COLUMN reco.stat_progress.usename IS 'name of the session user';
COMMENT ON COLUMN reco.stat_progress.function IS 'function that was called';
COMMENT ON COLUMN reco.stat_progress.model IS 'model that it uses or creates';
COMMENT ON COLUMN reco.stat_progress.phase IS 'current phase';
COMMENT ON COLUMN reco.stat_progress.done IS 'units of the phase that are done';
COMMENT ON COLUMN reco.stat_progress.total IS 'total units of the phase; NULL if unknown';
COMMENT ON COLUMN reco.stat_progress.started IS 'start time of the call';
COMMENT ON COLUMN reco.scored_item.item_id IS 'item id as text';
COMMENT ON COLUMN reco.scored_item.score IS 'score, higher is better';
COMMENT ON COLUMN reco.loss_summary.count IS 'number of non-null values';
COMMENT ON COLUMN reco.loss_summary.mean IS 'mean';
COMMENT ON COLUMN reco.loss_summary.deviation IS 'population standard deviation';
COMMENT ON COLUMN reco.loss_summary.least IS 'minimum';
COMMENT ON COLUMN reco.loss_summary.greatest IS 'maximum';

-- Vectors of other numeric types: drivers send float8[], or integer arrays. Calls resolve to real[] if the type matches exactly, and otherwise
-- to this type, the preferred one of its category, to which arrays of numbers are cast implicitly. It is stored as real[].
CREATE TYPE reco.numbers;
CREATE FUNCTION reco_internal.numbers_in(cstring)
    RETURNS reco.numbers LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'numbers_in_wrapper';
CREATE FUNCTION reco_internal.numbers_out(reco.numbers)
    RETURNS cstring LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'array_out';
CREATE TYPE reco.numbers (
    INPUT = reco_internal.numbers_in, OUTPUT = reco_internal.numbers_out,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended, CATEGORY = 'A', PREFERRED = true);
COMMENT ON TYPE reco.numbers IS 'array of numbers of any type, stored as real[]';
COMMENT ON FUNCTION reco_internal.numbers_in IS 'I/O';
COMMENT ON FUNCTION reco_internal.numbers_out IS 'I/O';
CREATE FUNCTION reco_internal.numbers(real[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(real[]) IS 'convert array to reco.numbers';
CREATE CAST (real[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(real[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(double precision[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(double precision[]) IS 'convert array to reco.numbers';
CREATE CAST (double precision[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(double precision[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(numeric[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(numeric[]) IS 'convert array to reco.numbers';
CREATE CAST (numeric[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(numeric[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(smallint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(smallint[]) IS 'convert array to reco.numbers';
CREATE CAST (smallint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(smallint[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(integer[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(integer[]) IS 'convert array to reco.numbers';
CREATE CAST (integer[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(integer[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(bigint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(bigint[]) IS 'convert array to reco.numbers';
CREATE CAST (bigint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(bigint[]) AS IMPLICIT;

CREATE FUNCTION reco.cosine_similarity(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity(reco.numbers, reco.numbers) IS 'cosine similarity of two vectors';

CREATE FUNCTION reco.dot_product(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product(reco.numbers, reco.numbers) IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, weights reco.numbers DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, text) IS 'combine two normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, c reco.numbers, weights reco.numbers DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, reco.numbers, text) IS 'combine three normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision) IS 'aggregate transition function';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers) IS 'mean of all non-null vectors';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers, weight double precision) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers, double precision) IS 'weighted mean of all non-null vectors';
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

-- Embedding a query of images.
CREATE FUNCTION reco.embed_images(source text, model text DEFAULT NULL)
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_images_wrapper';
COMMENT ON FUNCTION reco.embed_images IS 'embeddings of the rows of a query with columns id and image';

-- Lists of ids of every type. These are functions with changed arguments. An old function that a user's view depends on is kept under another
-- name, no longer belongs to the extension, and calls the new one.
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
        -- pg_dump then includes it, with the view that depends on it.
        EXECUTE pg_catalog.format('ALTER EXTENSION pg_reco DROP FUNCTION %s', old.signature);
    END LOOP;
END $$;

-- Pruning of versions, and the cache of model files.

DROP FUNCTION reco.train(text, text, text, jsonb, bigint, text, text, jsonb, interval, text);
CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'train a recommender on the interactions of a query';

DROP FUNCTION reco.refresh(text, text);
CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'refresh_wrapper';
COMMENT ON FUNCTION reco.refresh IS 'train a new version of a recommender on the current data of its queries';

DROP FUNCTION reco.train_synthesizer(text, text, text, jsonb, text, bigint);
CREATE FUNCTION reco.train_synthesizer(name text, source text, method text DEFAULT 'cart', options jsonb DEFAULT '{}', label text DEFAULT NULL,
                                       seed bigint DEFAULT NULL, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_synthesizer_wrapper';
COMMENT ON FUNCTION reco.train_synthesizer IS 'train a synthesizer on the rows of a query';

CREATE FUNCTION reco.prune_versions(name text, keep integer)
    RETURNS SETOF integer LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'prune_versions_wrapper';
COMMENT ON FUNCTION reco.prune_versions IS 'drop all versions of a model except the newest ones and the one in use';

CREATE FUNCTION reco.cache_folders()
    RETURNS TABLE (folder text, bytes bigint, model text, version integer, databases oid[], prepared_here boolean, prepared_elsewhere integer)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'cache_folders_wrapper';
-- The cache is shared by all databases of the cluster, so its contents are not visible to every role.
REVOKE ALL ON FUNCTION reco.cache_folders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.cache_folders TO pg_read_all_stats;
COMMENT ON FUNCTION reco.cache_folders IS 'information about the cache of model files';

CREATE VIEW reco.cache AS
SELECT c.folder,
       c.bytes,
       c.model,
       c.version,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = ANY (c.databases) ORDER BY d.datname) AS databases,
       c.prepared_here,
       c.prepared_elsewhere
  FROM reco.cache_folders() c;
COMMENT ON VIEW reco.cache IS 'folders in the cache of model files';
COMMENT ON COLUMN reco.cache.folder IS 'name of the folder in the directory pg_reco of the data directory';
COMMENT ON COLUMN reco.cache.bytes IS 'total size of its files in bytes';
COMMENT ON COLUMN reco.cache.model IS 'model in the current database with these files, or NULL';
COMMENT ON COLUMN reco.cache.version IS 'version of the model';
COMMENT ON COLUMN reco.cache.databases IS 'databases that need the folder';
COMMENT ON COLUMN reco.cache.prepared_here IS 'whether the graph is prepared for the current ONNX Runtime and processor';
COMMENT ON COLUMN reco.cache.prepared_elsewhere IS 'number of graphs prepared for others';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'remove files that no database needs from the cache of model files';

-- Ids of models, and privileges in grants.

ALTER TABLE reco.model ADD COLUMN id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE;

-- Existing grants include both privileges.
ALTER TABLE reco.model_grant ADD COLUMN privilege text NOT NULL DEFAULT 'read' CHECK (privilege IN ('serve', 'read'));
COMMENT ON TABLE reco.model_grant IS 'privileges on models granted to roles';

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
COMMENT ON VIEW reco.models IS 'models that the current role has privileges on; source, config and metrics require the privilege read';

COMMENT ON COLUMN reco.model.id IS 'unique identifier of the model';
COMMENT ON COLUMN reco.model_grant.privilege IS 'serve, or read to also see the training data';
COMMENT ON COLUMN reco.models.id IS 'unique identifier of the model';

DROP FUNCTION reco.grant_model(text, text);
CREATE FUNCTION reco.grant_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'grant_model_wrapper';
DROP FUNCTION reco.revoke_model(text, text);
CREATE FUNCTION reco.revoke_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'revoke_model_wrapper';
COMMENT ON FUNCTION reco.grant_model IS 'grant a privilege on a model (serve or read) to a role';
COMMENT ON FUNCTION reco.revoke_model IS 'revoke a privilege on a model (serve or read) from a role';

CREATE FUNCTION reco.model_name(id uuid)
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000
    AS 'MODULE_PATHNAME', 'model_name_wrapper';
COMMENT ON FUNCTION reco.model_name IS 'name of the model with an id';

-- New functions get the privileges of those that they replace.
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
                        -- Of several, prefer one without EXECUTE for PUBLIC.
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

-- Roles. EXECUTE privileges of PUBLIC are kept until a superuser runs CALL reco.revoke_from_public().

DO $$
DECLARE
    predefined pg_catalog.text[] := ARRAY[
        ['reco_trainer', 'can train, tune and refresh models with pg_reco, and create views and functions over them'],
        ['reco_importer', 'can import ONNX graphs with pg_reco, which run inside the server'],
        ['reco_reader', 'can use all models of pg_reco, and see their training data'],
        ['reco_dumper', 'can dump the tables of pg_reco, with the contents of all models']];
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
                MESSAGE = pg_catalog.format('role "%s" already exists and can log in or has attributes', predefined[place][1]),
                DETAIL = pg_catalog.format('The extension grants privileges to a role of this name, which %s.', predefined[place][2]),
                HINT = pg_catalog.format('Rename the role (ALTER ROLE %1$I RENAME TO …), or remove its attributes: ALTER ROLE %1$I NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.',
                                         predefined[place][1]);
        END IF;
    END LOOP;
END $$;

-- Arguments are given only for overloaded functions.
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
COMMENT ON PROCEDURE reco.revoke_from_public IS 'revoke execution from PUBLIC on functions granted to reco_trainer and reco_importer';

-- The comments of a fresh install, on objects that this update does not create.
COMMENT ON FUNCTION reco.importance(text, text, text, text, text, jsonb, text, bigint) IS 'importance of the rows of a query for learning its label';
COMMENT ON FUNCTION reco.importance(text, text[], text, text, text, jsonb, text, bigint) IS 'importance of the rows of a query for learning its label, by several methods';
COMMENT ON FUNCTION reco.prune IS 'rows of a query without the fraction of least importance';
COMMENT ON FUNCTION reco.find_label_errors IS 'rows of a query whose label is likely wrong, with a suggested label';
COMMENT ON FUNCTION reco.compare_training IS 'compare training with and without weights on the same held-out rows';
COMMENT ON FUNCTION reco.importance(real[], text, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(real[], double precision, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance(real[], boolean, text) IS 'importance of the rows of a partition for learning the label';
COMMENT ON FUNCTION reco.importance_weights IS 'convert importance scores of a partition to training weights from 0 to 1';
COMMENT ON TYPE reco.loss_summary IS 'result of reco.loss_stats';
COMMENT ON AGGREGATE reco.loss_stats(double precision) IS 'count, mean, standard deviation, minimum and maximum; independent of row order';
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision) IS 'histogram of scores with ten buckets, plus counts below low and from high up';
COMMENT ON AGGREGATE reco.importance_histogram(double precision, double precision, double precision, integer) IS 'histogram of scores, plus counts below low and from high up';
COMMENT ON FUNCTION reco.interaction_importance IS 'importance of the interactions of a recommender or a query for training';
COMMENT ON FUNCTION reco.split IS 'split the interactions of a query into train and test';
COMMENT ON FUNCTION reco.evaluate IS 'ranking metrics at k of a recommender for held-out interactions';
COMMENT ON FUNCTION reco.compare_models IS 'compare ranking metrics of two recommenders, with confidence intervals and p-values';
COMMENT ON FUNCTION reco.cross_validate IS 'cross-validated ranking metrics at k of an algorithm; fold NULL is the mean';
COMMENT ON FUNCTION reco.role_in IS 'I/O';
COMMENT ON FUNCTION reco.role_out IS 'I/O';
COMMENT ON TYPE reco.role IS 'role, stored as oid; displayed by name';
COMMENT ON TABLE reco.model IS 'models';
COMMENT ON TABLE reco.model_version IS 'versions of models';
COMMENT ON TABLE reco.model_file IS 'files of model versions';
COMMENT ON TABLE reco.model_part IS 'contents of files, in parts of 4 MiB';
COMMENT ON TYPE reco.scored_item IS 'element of the result of reco.top_k';
COMMENT ON FUNCTION reco.augment_text(text, integer, text, jsonb, bigint) IS 'generate variants of a short text';
COMMENT ON FUNCTION reco.augment_text(text[], integer, text, jsonb, bigint) IS 'generate variants of short texts';
COMMENT ON FUNCTION reco.import_model IS 'import an ONNX graph as a new version of a model';
COMMENT ON FUNCTION reco.export_model IS 'ONNX file of a model';
COMMENT ON FUNCTION reco.promote_model IS 'set the version of a model that is in use';
COMMENT ON FUNCTION reco.drop_model IS 'drop a model, or one of its versions that is not in use';
COMMENT ON FUNCTION reco.warm IS 'load a model into the current session';
COMMENT ON FUNCTION reco.unload IS 'unload a model from the current session; false if it was not loaded';
COMMENT ON FUNCTION reco.predict IS 'run a model on inputs given as JSON arrays';
COMMENT ON VIEW reco.stat_models IS 'statistics about loads and runs of models, over all sessions';
COMMENT ON FUNCTION reco.reset_stat_models IS 'statistics: reset the counters of a model, or of all models in the current database';
COMMENT ON VIEW reco.stat_progress IS 'progress of running calls that the current role may see';
COMMENT ON FUNCTION reco.embed(text, text, text) IS 'embedding of a text';
COMMENT ON FUNCTION reco.embed(text[], text, text) IS 'embeddings of an array of texts, computed in batches';
COMMENT ON FUNCTION reco.embed_query IS 'embeddings of the rows of a query with columns id and text';
COMMENT ON FUNCTION reco.embed_image IS 'embedding of a PNG, JPEG or WebP image';
COMMENT ON FUNCTION reco.cosine_similarity(real[], real[]) IS 'cosine similarity of two vectors';
COMMENT ON FUNCTION reco.dot_product(real[], real[]) IS 'inner product of two vectors';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], text) IS 'combine two normalized, weighted vectors by concatenation or addition';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], real[], text) IS 'combine three normalized, weighted vectors by concatenation or addition';
COMMENT ON AGGREGATE reco.mean_embedding(real[]) IS 'mean of all non-null vectors';
COMMENT ON AGGREGATE reco.mean_embedding(real[], double precision) IS 'weighted mean of all non-null vectors';
COMMENT ON FUNCTION reco.augment_interactions IS 'generate likely interactions for users and items with few of them';
COMMENT ON FUNCTION reco.synthesize(text, bigint, jsonb, bigint) IS 'generate synthetic rows as JSON';
COMMENT ON FUNCTION reco.synthesize(anyelement, text, bigint, jsonb, bigint) IS 'generate synthetic rows of a row type';
COMMENT ON FUNCTION reco.synthesize_related IS 'generate synthetic rows of related tables as JSON';
COMMENT ON FUNCTION reco.augment(text, text, bigint, text, boolean, jsonb, bigint) IS 'generate rows from the rows of a query without training, as JSON';
COMMENT ON FUNCTION reco.augment(anyelement, text, text, bigint, text, boolean, jsonb, bigint) IS 'generate rows from the rows of a query without training, of a row type';
COMMENT ON FUNCTION reco.alignment_weights IS 'weights that align synthetic rows with the distribution of real rows';
COMMENT ON FUNCTION reco.resample_aligned IS 'sample ids of synthetic rows by their alignment weights, with replacement';
COMMENT ON FUNCTION reco.synthetic_report IS 'report on the quality and privacy of synthetic rows';
COMMENT ON FUNCTION reco.synthetic_report_html IS 'report on the quality and privacy of synthetic rows, as HTML';
COMMENT ON FUNCTION reco.tune IS 'search training options within a time budget, best first';
COMMENT ON FUNCTION reco.similar_items(text, text, integer) IS 'k most similar items to an item';
COMMENT ON FUNCTION reco.similar_items(text, bigint, integer) IS 'k most similar items to an item';
COMMENT ON FUNCTION reco.similar_items(text, uuid, integer) IS 'k most similar items to an item';
COMMENT ON FUNCTION reco.explain(text, text, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, text, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, text, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, bigint, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, text, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, bigint, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.explain(text, uuid, uuid, text) IS 'contribution of each of a user''s interactions to the score of an item';
COMMENT ON FUNCTION reco.similar_users(text, text, integer) IS 'k most similar users to a user';
COMMENT ON FUNCTION reco.similar_users(text, bigint, integer) IS 'k most similar users to a user';
COMMENT ON FUNCTION reco.similar_users(text, uuid, integer) IS 'k most similar users to a user';
COMMENT ON FUNCTION reco.stat_models IS 'statistics: information about loads and runs of models';
COMMENT ON FUNCTION reco.stat_progress IS 'statistics: information about progress of running calls';
COMMENT ON FUNCTION reco.model_users IS 'users of a recommender';
COMMENT ON FUNCTION reco.create_view IS 'create a view of the top k items for every user';
COMMENT ON FUNCTION reco.create_function IS 'create a function that returns the top k items for a user';
COMMENT ON AGGREGATE reco.top_k(anyelement, real, integer) IS 'k items with the highest scores, as an array, best first';

DO $$
BEGIN
    RAISE WARNING USING
        MESSAGE = 'all roles can still train, refresh and create with pg_reco, as before this update',
        HINT = 'Run CALL reco.revoke_from_public() to allow it only to members of reco_trainer and reco_importer, as in a fresh install.';
END $$;
