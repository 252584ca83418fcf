-- The catalog of models: transactional, dumped by pg_dump, replicated by WAL. Only the extension's own functions write it.

-- A role that can create objects in this schema could add functions that a superuser's call resolves to. So the schema must be new, or
-- empty and closed to all roles but superusers. All names here are schema-qualified, since search_path may be hostile.
DO $$
DECLARE
    home record;
    there pg_catalog.text;
BEGIN
    SELECT n.oid, r.rolname, r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) current_user AS trusted INTO home
      FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
     WHERE n.nspname OPERATOR(pg_catalog.=) 'reco';
    IF NOT home.trusted THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('schema "reco" is owned by role "%s"', home.rolname),
            HINT = 'Drop or rename the schema. CREATE EXTENSION creates a new one.';
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
            HINT = pg_catalog.format('Run REVOKE CREATE ON SCHEMA reco FROM %s.',
                                     CASE there WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(there) END);
    END IF;
    -- Extensions, default privileges and publications also depend on a schema, but are not objects in it.
    SELECT pg_catalog.format('%s %s', o.type, o.identity) INTO there
      FROM pg_catalog.pg_depend d
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS o
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.classid
     WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
       AND d.refobjid OPERATOR(pg_catalog.=) home.oid
       AND c.relname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_extension', 'pg_default_acl', 'pg_publication_namespace']::pg_catalog.name[])
     LIMIT 1;
    IF there IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_schema',
            MESSAGE = pg_catalog.format('schema "reco" is not empty: it contains %s', there),
            HINT = 'Move its objects to another schema, or drop the schema. CREATE EXTENSION creates a new one.';
    END IF;
END $$;

GRANT USAGE ON SCHEMA reco TO PUBLIC;

-- Support functions. No role has USAGE on the schema: running an aggregate does not require it.
CREATE SCHEMA reco_internal;
COMMENT ON SCHEMA reco_internal IS 'support functions of pg_reco, not to be called directly';

-- A reference to a role. Unlike with regrole, a dump with a missing role can be restored, and the oid of a dropped role never refers to
-- another role.
CREATE TYPE reco.role;
CREATE FUNCTION reco.role_in(cstring)
    RETURNS reco.role LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'role_in_wrapper';
COMMENT ON FUNCTION reco.role_in IS 'I/O';
CREATE FUNCTION reco.role_out(reco.role)
    RETURNS cstring LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'role_out_wrapper';
COMMENT ON FUNCTION reco.role_out IS 'I/O';
CREATE TYPE reco.role (INPUT = reco.role_in, OUTPUT = reco.role_out, LIKE = oid);
COMMENT ON TYPE reco.role IS 'role, stored as oid; displayed by name';
CREATE CAST (reco.role AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS reco.role) WITHOUT FUNCTION AS ASSIGNMENT;

CREATE TABLE reco.model (
    name text PRIMARY KEY CHECK (name <> ''),
    owner reco.role NOT NULL,
    version_in_use integer NOT NULL,
    -- Views and functions over a model refer to it by this id: a later model of the same name has another one.
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE
);
COMMENT ON TABLE reco.model IS 'models';
COMMENT ON COLUMN reco.model.name IS 'model name';
COMMENT ON COLUMN reco.model.owner IS 'owner of the model';
COMMENT ON COLUMN reco.model.version_in_use IS 'version used by default';
COMMENT ON COLUMN reco.model.id IS 'unique identifier of the model';

-- There are no foreign keys between these tables: a parallel pg_restore could load rows before those that they refer to. Only functions of
-- this extension write to them.

CREATE TABLE reco.model_version (
    name text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    task text NOT NULL CHECK (task IN ('text_embedding', 'image_embedding', 'text_pair', 'recommendation', 'synthesis', 'search', 'predict')),
    algorithm text,
    config jsonb NOT NULL,
    source text,
    metrics jsonb,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    created timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE reco.model_version IS 'versions of models';
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

CREATE TABLE reco.model_file (
    name text NOT NULL,
    version integer NOT NULL,
    file text NOT NULL,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    -- Versions of a model may share a file.
    stored_in integer,
    PRIMARY KEY (name, version, file)
);
COMMENT ON TABLE reco.model_file IS 'files of model versions';
COMMENT ON COLUMN reco.model_file.name IS 'model name';
COMMENT ON COLUMN reco.model_file.version IS 'version number';
COMMENT ON COLUMN reco.model_file.file IS 'file name';
COMMENT ON COLUMN reco.model_file.sha256 IS 'SHA-256 of the file';
COMMENT ON COLUMN reco.model_file.size IS 'size in bytes';
COMMENT ON COLUMN reco.model_file.stored_in IS 'version that has its parts; NULL for its own';

CREATE TABLE reco.model_part (
    name text NOT NULL,
    version integer NOT NULL,
    file text NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (name, version, file, part)
);
COMMENT ON TABLE reco.model_part IS 'contents of files, in parts of 4 MiB';
COMMENT ON COLUMN reco.model_part.name IS 'model name';
COMMENT ON COLUMN reco.model_part.version IS 'version number';
COMMENT ON COLUMN reco.model_part.file IS 'file name';
COMMENT ON COLUMN reco.model_part.part IS 'part number, from 0';
COMMENT ON COLUMN reco.model_part.data IS 'contents of the part';
-- Weights do not compress well, and slices of uncompressed values can be read without the rest.
ALTER TABLE reco.model_part ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE reco.model_grant (
    name text NOT NULL,
    grantee reco.role NOT NULL,
    -- The default is for dumps of older versions, in which a grant included both privileges.
    privilege text NOT NULL DEFAULT 'read' CHECK (privilege IN ('serve', 'read')),
    PRIMARY KEY (name, grantee)
);
COMMENT ON TABLE reco.model_grant IS 'privileges on models granted to roles';
COMMENT ON COLUMN reco.model_grant.name IS 'model name';
COMMENT ON COLUMN reco.model_grant.grantee IS 'role that has the privilege, or public';
COMMENT ON COLUMN reco.model_grant.privilege IS 'serve, or read to also see the training data';

SELECT pg_catalog.pg_extension_config_dump('reco.model', '');
SELECT pg_catalog.pg_extension_config_dump('reco.model_version', '');
SELECT pg_catalog.pg_extension_config_dump('reco.model_file', '');
SELECT pg_catalog.pg_extension_config_dump('reco.model_part', '');
SELECT pg_catalog.pg_extension_config_dump('reco.model_grant', '');

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
COMMENT ON COLUMN reco.models.id IS 'unique identifier of the model';
GRANT SELECT ON reco.models TO PUBLIC;

CREATE TYPE reco.scored_item AS (item_id text, score real);
COMMENT ON TYPE reco.scored_item IS 'element of the result of reco.top_k';
COMMENT ON COLUMN reco.scored_item.item_id IS 'item id as text';
COMMENT ON COLUMN reco.scored_item.score IS 'score, higher is better';
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
-- Evaluation of recommenders.

CREATE FUNCTION reco.split(source text, method text DEFAULT 'by_time', ratio double precision DEFAULT 0.8, seed bigint DEFAULT 0)
    RETURNS TABLE (part text, user_id text, item_id text, weight real, ts timestamptz)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 1000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'split_wrapper';
COMMENT ON FUNCTION reco.split IS 'split the interactions of a query into train and test';

CREATE FUNCTION reco.evaluate(model text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                              metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                              negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                              bootstrap integer DEFAULT 0, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, value double precision, low double precision, high double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 20
    AS 'MODULE_PATHNAME', 'evaluate_wrapper';
COMMENT ON FUNCTION reco.evaluate IS 'ranking metrics at k of a recommender for held-out interactions';

CREATE FUNCTION reco.compare_models(model_a text, model_b text, test text, k integer DEFAULT 10, exclude_seen boolean DEFAULT true,
                                    metrics text[] DEFAULT NULL, segments text[] DEFAULT NULL, history text DEFAULT NULL,
                                    negatives text DEFAULT NULL, sampled_negatives integer DEFAULT NULL,
                                    bootstrap integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, a double precision, b double precision, difference double precision,
                   low double precision, high double precision, p_value double precision, segment text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 20000000 ROWS 20
    AS 'MODULE_PATHNAME', 'compare_models_wrapper';
COMMENT ON FUNCTION reco.compare_models IS 'compare ranking metrics of two recommenders, with confidence intervals and p-values';

CREATE FUNCTION reco.cross_validate(source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', folds integer DEFAULT 5,
                                    k integer DEFAULT 10, metrics text[] DEFAULT NULL, seed bigint DEFAULT 0,
                                    items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL,
                                    half_life interval DEFAULT NULL)
    RETURNS TABLE (fold integer, metric text, value double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 500000000 ROWS 84
    AS 'MODULE_PATHNAME', 'cross_validate_wrapper';
COMMENT ON FUNCTION reco.cross_validate IS 'cross-validated ranking metrics at k of an algorithm; fold NULL is the mean';
-- Synthetic rows.

CREATE FUNCTION reco.train_synthesizer(name text, source text, method text DEFAULT 'cart', options jsonb DEFAULT '{}', label text DEFAULT NULL,
                                       seed bigint DEFAULT NULL, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_synthesizer_wrapper';
COMMENT ON FUNCTION reco.train_synthesizer IS 'train a synthesizer on the rows of a query';

CREATE FUNCTION reco.synthesize(name text, n bigint DEFAULT 1, conditions jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF jsonb LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
    AS 'MODULE_PATHNAME', 'synthesize_wrapper';
COMMENT ON FUNCTION reco.synthesize(text, bigint, jsonb, bigint) IS 'generate synthetic rows as JSON';

CREATE FUNCTION reco.synthesize(target anyelement, name text, n bigint DEFAULT 1, conditions jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF anyelement LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
    AS 'MODULE_PATHNAME', 'synthesize_typed_wrapper';
COMMENT ON FUNCTION reco.synthesize(anyelement, text, bigint, jsonb, bigint) IS 'generate synthetic rows of a row type';


CREATE FUNCTION reco.synthesize_related(name text, n bigint DEFAULT 1, conditions jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (table_name text, data jsonb) LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
    AS 'MODULE_PATHNAME', 'synthesize_related_wrapper';
COMMENT ON FUNCTION reco.synthesize_related IS 'generate synthetic rows of related tables as JSON';

CREATE FUNCTION reco.augment(source text, method text DEFAULT 'smote_nc', n bigint DEFAULT NULL, label text DEFAULT NULL,
                             balance boolean DEFAULT false, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'augment_wrapper';
COMMENT ON FUNCTION reco.augment(text, text, bigint, text, boolean, jsonb, bigint) IS 'generate rows from the rows of a query without training, as JSON';

CREATE FUNCTION reco.augment(target anyelement, source text, method text DEFAULT 'smote_nc', n bigint DEFAULT NULL, label text DEFAULT NULL,
                             balance boolean DEFAULT false, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF anyelement LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'augment_typed_wrapper';
COMMENT ON FUNCTION reco.augment(anyelement, text, text, bigint, text, boolean, jsonb, bigint) IS 'generate rows from the rows of a query without training, of a row type';

CREATE FUNCTION reco.alignment_weights(real_source text, synthetic_source text, id text DEFAULT NULL, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (id text, weight double precision) LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'alignment_weights_wrapper';
COMMENT ON FUNCTION reco.alignment_weights IS 'weights that align synthetic rows with the distribution of real rows';

CREATE FUNCTION reco.resample_aligned(real_source text, synthetic_source text, n bigint, id text DEFAULT NULL, options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (ordinal bigint, id text) LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'resample_aligned_wrapper';
COMMENT ON FUNCTION reco.resample_aligned IS 'sample ids of synthetic rows by their alignment weights, with replacement';

CREATE FUNCTION reco.synthetic_report(real_source text, synthetic_source text, holdout text DEFAULT NULL, label text DEFAULT NULL,
                                      options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'synthetic_report_wrapper';
COMMENT ON FUNCTION reco.synthetic_report IS 'report on the quality and privacy of synthetic rows';

CREATE FUNCTION reco.synthetic_report_html(real_source text, synthetic_source text, holdout text DEFAULT NULL, label text DEFAULT NULL,
                                           options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'synthetic_report_html_wrapper';
COMMENT ON FUNCTION reco.synthetic_report_html IS 'report on the quality and privacy of synthetic rows, as HTML';
-- Synthetic interactions.

CREATE FUNCTION reco.augment_interactions(source text, n bigint, method text DEFAULT 'mult_vae', model text DEFAULT NULL,
                                          options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (user_id text, item_id text, weight real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'augment_interactions_wrapper';
COMMENT ON FUNCTION reco.augment_interactions IS 'generate likely interactions for users and items with few of them';
-- Statistics. The functions return only rows that the caller may see: a function in a view runs with the privileges of the role that queries
-- the view.

CREATE FUNCTION reco.stat_models()
    RETURNS TABLE (model text, provider text, loads bigint, load_time double precision, runs bigint, rows bigint, tokens bigint,
                   mean_latency double precision, p99_latency double precision, bytes bigint, stats_reset timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_models_wrapper';
COMMENT ON FUNCTION reco.stat_models IS 'statistics: information about loads and runs of models';

CREATE VIEW reco.stat_models AS
SELECT model, provider, loads, load_time, runs, rows, tokens, mean_latency, p99_latency, bytes, stats_reset
  FROM reco.stat_models();
COMMENT ON VIEW reco.stat_models IS 'statistics about loads and runs of models, over all sessions';
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
GRANT SELECT ON reco.stat_models TO PUBLIC;

CREATE FUNCTION reco.reset_stat_models(model text DEFAULT NULL)
    RETURNS bigint LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'reset_stat_models_wrapper';
-- Statistics are shared by all roles.
REVOKE ALL ON FUNCTION reco.reset_stat_models FROM PUBLIC;
COMMENT ON FUNCTION reco.reset_stat_models IS 'statistics: reset the counters of a model, or of all models in the current database';

CREATE FUNCTION reco.stat_progress()
    RETURNS TABLE (pid integer, datid oid, usesysid oid, function text, model text, phase text, done bigint, total bigint,
                   started timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_progress_wrapper';
COMMENT ON FUNCTION reco.stat_progress IS 'statistics: information about progress of running calls';

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
COMMENT ON VIEW reco.stat_progress IS 'progress of running calls that the current role may see';
COMMENT ON COLUMN reco.stat_progress.pid IS 'process ID of the backend';
COMMENT ON COLUMN reco.stat_progress.datname IS 'name of the database';
COMMENT ON COLUMN reco.stat_progress.usename IS 'name of the session user';
COMMENT ON COLUMN reco.stat_progress.function IS 'function that was called';
COMMENT ON COLUMN reco.stat_progress.model IS 'model that it uses or creates';
COMMENT ON COLUMN reco.stat_progress.phase IS 'current phase';
COMMENT ON COLUMN reco.stat_progress.done IS 'units of the phase that are done';
COMMENT ON COLUMN reco.stat_progress.total IS 'total units of the phase; NULL if unknown';
COMMENT ON COLUMN reco.stat_progress.started IS 'start time of the call';
GRANT SELECT ON reco.stat_progress TO PUBLIC;

CREATE FUNCTION reco.stat_workers()
    RETURNS TABLE (worker integer, provider text, device_id integer, pid integer, started timestamptz, restarts bigint, lanes integer,
                   models bigint, bytes bigint, requests bigint, waiting bigint, running bigint, failed bigint, withdrawn bigint, runs bigint,
                   rows bigint, mean_batch double precision, max_batch bigint, mean_wait double precision, busy double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100 ROWS 2
    AS 'MODULE_PATHNAME', 'stat_workers_wrapper';
COMMENT ON FUNCTION reco.stat_workers IS 'statistics: information about model workers';

CREATE VIEW reco.stat_workers AS
SELECT worker, provider, device_id, pid, started, restarts, lanes, models, bytes, requests, waiting, running, failed, withdrawn, runs, rows,
       mean_batch, max_batch, mean_wait, busy
  FROM reco.stat_workers();
COMMENT ON VIEW reco.stat_workers IS 'statistics about model workers, each since its start';
COMMENT ON COLUMN reco.stat_workers.worker IS 'number of the worker';
COMMENT ON COLUMN reco.stat_workers.provider IS 'cpu or cuda';
COMMENT ON COLUMN reco.stat_workers.device_id IS 'number of the CUDA device; NULL for the CPU';
COMMENT ON COLUMN reco.stat_workers.pid IS 'process ID; NULL while the worker does not run';
COMMENT ON COLUMN reco.stat_workers.started IS 'time of the last start';
COMMENT ON COLUMN reco.stat_workers.restarts IS 'number of starts after the first, since the server started';
COMMENT ON COLUMN reco.stat_workers.lanes IS 'number of lanes';
COMMENT ON COLUMN reco.stat_workers.models IS 'number of graphs that are loaded';
COMMENT ON COLUMN reco.stat_workers.bytes IS 'size of the loaded graphs in bytes';
COMMENT ON COLUMN reco.stat_workers.requests IS 'number of requests';
COMMENT ON COLUMN reco.stat_workers.waiting IS 'requests that currently wait for a lane';
COMMENT ON COLUMN reco.stat_workers.running IS 'requests that currently run';
COMMENT ON COLUMN reco.stat_workers.failed IS 'number of requests that failed';
COMMENT ON COLUMN reco.stat_workers.withdrawn IS 'number of requests that were canceled';
COMMENT ON COLUMN reco.stat_workers.runs IS 'number of runs';
COMMENT ON COLUMN reco.stat_workers.rows IS 'number of inputs of all runs, such as texts or images';
COMMENT ON COLUMN reco.stat_workers.mean_batch IS 'mean number of inputs of a run';
COMMENT ON COLUMN reco.stat_workers.max_batch IS 'largest number of inputs of a run';
COMMENT ON COLUMN reco.stat_workers.mean_wait IS 'mean time that a request waited for a lane, in milliseconds';
COMMENT ON COLUMN reco.stat_workers.busy IS 'share of the time that a lane was running, from 0 to 1';
GRANT SELECT ON reco.stat_workers TO PUBLIC;

-- The cache of model files in the data directory.

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
-- Variants of texts.

CREATE FUNCTION reco.augment_text(original text, n integer DEFAULT 1, method text DEFAULT 'mixed', options jsonb DEFAULT '{}',
                                  seed bigint DEFAULT 0)
    RETURNS TABLE (ordinal integer, text text, similarity real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10
    AS 'MODULE_PATHNAME', 'augment_text_wrapper';
COMMENT ON FUNCTION reco.augment_text(text, integer, text, jsonb, bigint) IS 'generate variants of a short text';

CREATE FUNCTION reco.augment_text(texts text[], n integer DEFAULT 1, method text DEFAULT 'mixed', options jsonb DEFAULT '{}',
                                  seed bigint DEFAULT 0)
    RETURNS TABLE (ordinal integer, text text, similarity real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 1000
    AS 'MODULE_PATHNAME', 'augment_texts_wrapper';
COMMENT ON FUNCTION reco.augment_text(text[], integer, text, jsonb, bigint) IS 'generate variants of short texts';
-- Vectors.

CREATE FUNCTION reco.embed(text text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION reco.embed(text, text, text) IS 'embedding of a text';

CREATE FUNCTION reco.embed(texts text[], model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (ordinal bigint, embedding real[])
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'embed_array_wrapper';
COMMENT ON FUNCTION reco.embed(text[], text, text) IS 'embeddings of an array of texts, computed in batches';

CREATE FUNCTION reco.embed_query(source text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_query_wrapper';
COMMENT ON FUNCTION reco.embed_query IS 'embeddings of the rows of a query with columns id and text';

CREATE FUNCTION reco.embed_image(image bytea, model text DEFAULT NULL)
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_image_wrapper';
COMMENT ON FUNCTION reco.embed_image IS 'embedding of a PNG, JPEG or WebP image';

CREATE FUNCTION reco.embed_images(source text, model text DEFAULT NULL)
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_images_wrapper';
COMMENT ON FUNCTION reco.embed_images IS 'embeddings of the rows of a query with columns id and image';

CREATE FUNCTION reco.rerank(query text, texts text[], model text)
    RETURNS TABLE (rank integer, ordinal bigint, score real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'rerank_wrapper';
COMMENT ON FUNCTION reco.rerank IS 'texts ordered by the score that a cross-encoder gives each with a query';

CREATE FUNCTION reco.cosine_similarity(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity(real[], real[]) IS 'cosine similarity of two vectors';

CREATE FUNCTION reco.dot_product(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product(real[], real[]) IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a real[], b real[], weights real[] DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], text) IS 'combine two normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco.fuse(a real[], b real[], c real[], weights real[] DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], real[], text) IS 'combine three normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco_internal.mean_embedding_accum(internal, real[])
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[]) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_combine_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION reco_internal.mean_embedding_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_serialize(internal) IS 'aggregate serial function';
CREATE FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION reco_internal.mean_embedding_final(internal)
    RETURNS real[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_final_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.mean_embedding(embedding real[]) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[]) IS 'mean of all non-null vectors';

CREATE AGGREGATE reco.mean_embedding(embedding real[], weight double precision) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[], double precision) IS 'weighted mean of all non-null vectors';

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
-- Models.

CREATE FUNCTION reco.import_model(name text, onnx bytea, task text DEFAULT 'predict', tokenizer bytea DEFAULT NULL, config jsonb DEFAULT '{}')
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'import_model_wrapper';
COMMENT ON FUNCTION reco.import_model IS 'import an ONNX graph as a new version of a model';

CREATE FUNCTION reco.export_model(name text, version integer DEFAULT NULL)
    RETURNS bytea LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000
    AS 'MODULE_PATHNAME', 'export_model_wrapper';
COMMENT ON FUNCTION reco.export_model IS 'ONNX file of a model';

CREATE FUNCTION reco.describe_model(name text, version integer DEFAULT NULL)
    RETURNS TABLE (kind text, name text, type text, value text)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 20
    AS 'MODULE_PATHNAME', 'describe_model_wrapper';
COMMENT ON FUNCTION reco.describe_model IS 'inputs, outputs, properties and metadata of a model';

CREATE FUNCTION reco.promote_model(name text, version integer)
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'promote_model_wrapper';
COMMENT ON FUNCTION reco.promote_model IS 'set the version of a model that is in use';

CREATE FUNCTION reco.drop_model(name text, version integer DEFAULT NULL)
    RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'drop_model_wrapper';
COMMENT ON FUNCTION reco.drop_model IS 'drop a model, or one of its versions that is not in use';

CREATE FUNCTION reco.prune_versions(name text, keep integer)
    RETURNS SETOF integer LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'prune_versions_wrapper';
COMMENT ON FUNCTION reco.prune_versions IS 'drop all versions of a model except the newest ones and the one in use';

CREATE FUNCTION reco.grant_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'grant_model_wrapper';
COMMENT ON FUNCTION reco.grant_model IS 'grant a privilege on a model (serve or read) to a role';

CREATE FUNCTION reco.revoke_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'revoke_model_wrapper';
COMMENT ON FUNCTION reco.revoke_model IS 'revoke a privilege on a model (serve or read) from a role';

CREATE FUNCTION reco.model_name(id uuid)
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000
    AS 'MODULE_PATHNAME', 'model_name_wrapper';
COMMENT ON FUNCTION reco.model_name IS 'name of the model with an id';

CREATE FUNCTION reco.warm(name text)
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100000
    AS 'MODULE_PATHNAME', 'warm_wrapper';
COMMENT ON FUNCTION reco.warm IS 'load a model into the current session';

CREATE FUNCTION reco.unload(name text)
    RETURNS boolean LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'unload_wrapper';
COMMENT ON FUNCTION reco.unload IS 'unload a model from the current session; false if it was not loaded';

CREATE FUNCTION reco.predict(model text, inputs jsonb)
    RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100000
    AS 'MODULE_PATHNAME', 'predict_wrapper';
COMMENT ON FUNCTION reco.predict IS 'run a model on inputs given as JSON arrays';
-- Search.

CREATE FUNCTION reco.train_search(name text, source text, options jsonb DEFAULT '{}', embedding_model text DEFAULT NULL,
        recommender text DEFAULT NULL, judgements text DEFAULT NULL, events text DEFAULT NULL, seed bigint DEFAULT 0,
        keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_search_wrapper';
COMMENT ON FUNCTION reco.train_search IS 'make a search index of the rows of a query';

CREATE FUNCTION reco.search(model text, query text, k integer DEFAULT 10, filter text DEFAULT NULL, user_id text DEFAULT NULL,
        personalize double precision DEFAULT 0.2, rerank text DEFAULT NULL, "offset" integer DEFAULT 0)
    RETURNS TABLE (rank integer, id text, score real, lexical_score real, vector_score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'search_wrapper';
COMMENT ON FUNCTION reco.search IS 'top k rows of a search index for a text, by words and meaning';

CREATE FUNCTION reco.search_matches(model text, query text, filter text DEFAULT NULL)
    RETURNS SETOF text
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 1000
    AS 'MODULE_PATHNAME', 'search_matches_wrapper';
COMMENT ON FUNCTION reco.search_matches IS 'ids of all rows of a search index that have words of a text';

CREATE FUNCTION reco.suggest(model text, prefix text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, suggestion text, count bigint, kind text)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'suggest_wrapper';
COMMENT ON FUNCTION reco.suggest IS 'past queries and words of a search index that begin with a prefix, most frequent first';

CREATE FUNCTION reco.related_queries(model text, query text, k integer DEFAULT 10)
    RETURNS TABLE (rank integer, related text, similarity real, count bigint)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'related_queries_wrapper';
COMMENT ON FUNCTION reco.related_queries IS 'past queries that are like a text, most similar first';

CREATE FUNCTION reco.highlight(model text, query text, text text, before text DEFAULT '<b>', after text DEFAULT '</b>')
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'highlight_wrapper';
COMMENT ON FUNCTION reco.highlight IS 'text with the words marked that match a query of a search index';

CREATE FUNCTION reco.evaluate_search(model text, judgements text, k integer DEFAULT 10, relevant double precision DEFAULT 1,
        metrics text[] DEFAULT NULL, segments text DEFAULT NULL, bootstrap integer DEFAULT 0,
        confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, value double precision, low double precision, high double precision, segment text, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 6
    AS 'MODULE_PATHNAME', 'evaluate_search_wrapper';
COMMENT ON FUNCTION reco.evaluate_search IS 'metrics of a search index on graded results of queries';

CREATE FUNCTION reco.compare_search(model_a text, model_b text, judgements text, k integer DEFAULT 10,
        relevant double precision DEFAULT 1, metrics text[] DEFAULT NULL, segments text DEFAULT NULL,
        bootstrap integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0)
    RETURNS TABLE (metric text, a double precision, b double precision, difference double precision,
                   low double precision, high double precision, p_value double precision, segment text, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 200000000 ROWS 6
    AS 'MODULE_PATHNAME', 'compare_search_wrapper';
COMMENT ON FUNCTION reco.compare_search IS 'compare metrics of two search indexes, with confidence intervals and p-values';

CREATE FUNCTION reco.tune_search(source text, judgements text, grid jsonb DEFAULT '{"lexical_weight": [0, 0.2, 0.4, 0.6, 0.8, 1]}',
        embedding_model text DEFAULT NULL, k integer DEFAULT 10, metric text DEFAULT 'ndcg', relevant double precision DEFAULT 1)
    RETURNS TABLE (rank integer, options jsonb, value double precision, queries bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 500000000 ROWS 6
    AS 'MODULE_PATHNAME', 'tune_search_wrapper';
COMMENT ON FUNCTION reco.tune_search IS 'try options of a search index on graded results of queries, best first';

CREATE FUNCTION reco.create_search_function(model text, function text, k integer DEFAULT 10)
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'create_search_function_wrapper';
COMMENT ON FUNCTION reco.create_search_function IS 'create a function that searches an index, with ids in their own type';
-- Privileges. Every role can use models that it has privileges on, evaluate its own rows, and manage its own models. Functions that train,
-- import, refresh or create are for members of these roles, which exist once for the cluster.

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
    reco.train, reco.refresh, reco.tune, reco.cross_validate, reco.create_view, reco.create_function, reco.train_search,
    reco.create_search_function, reco.tune_search,
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
CALL reco.revoke_from_public();
