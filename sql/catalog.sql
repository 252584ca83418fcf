-- The catalog of models: transactional, dumped by pg_dump, replicated by WAL. Only the extension's own functions write it.

-- Whoever may make objects in this schema could put functions beside those of the extension that a call of a superuser then finds
-- first. So it must be new, or empty and closed to all but superusers. Nothing here is looked up by a path that another may have set.
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
            HINT = 'Drop or rename that schema: CREATE EXTENSION makes one of its own.';
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
            HINT = pg_catalog.format('Take that back: REVOKE CREATE ON SCHEMA reco FROM %s.',
                                     CASE there WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(there) END);
    END IF;
    -- Another extension's row, default privileges and publications depend on a schema too: nothing in it can be called for that.
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
            MESSAGE = pg_catalog.format('schema "reco" is not empty: it holds %s', there),
            HINT = 'Move what it holds to another schema, or drop the schema: CREATE EXTENSION makes one of its own.';
    END IF;
END $$;

GRANT USAGE ON SCHEMA reco TO PUBLIC;

-- What nobody calls by name. PostgreSQL needs no right on it to run an aggregate's parts.
CREATE SCHEMA reco_internal;
COMMENT ON SCHEMA reco_internal IS 'parts of reco''s aggregates, to be called by PostgreSQL alone';

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

CREATE TABLE reco.model (
    name text PRIMARY KEY CHECK (name <> ''),
    owner reco.role NOT NULL,
    version_in_use integer NOT NULL,
    -- What views and functions over a model name it by: a model made later under the same name is another.
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE
);
COMMENT ON TABLE reco.model IS 'a row for each model name';
COMMENT ON COLUMN reco.model.name IS 'the model''s name';
COMMENT ON COLUMN reco.model.owner IS 'the role that may add versions, promote, grant and drop';
COMMENT ON COLUMN reco.model.version_in_use IS 'the version that calls without a version take';
COMMENT ON COLUMN reco.model.id IS 'tells it from a model made later under the same name';

-- No foreign keys between these tables: a parallel pg_restore would load rows before those that they refer to. Only functions of
-- this extension write them.

CREATE TABLE reco.model_version (
    name text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    task text NOT NULL CHECK (task IN ('text_embedding', 'image_embedding', 'recommendation', 'synthesis', 'predict')),
    algorithm text,
    config jsonb NOT NULL,
    source text,
    metrics jsonb,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    created timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE reco.model_version IS 'a row for each version of a model; sha256 and size are those of its ONNX file';
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

CREATE TABLE reco.model_file (
    name text NOT NULL,
    version integer NOT NULL,
    file text NOT NULL,
    sha256 text NOT NULL,
    size bigint NOT NULL,
    PRIMARY KEY (name, version, file)
);
COMMENT ON TABLE reco.model_file IS 'the files of a version: the ONNX graph, a tokenizer, a recommender''s data';
COMMENT ON COLUMN reco.model_file.name IS 'of the model';
COMMENT ON COLUMN reco.model_file.version IS 'of the model';
COMMENT ON COLUMN reco.model_file.file IS 'the file''s name in the cache';
COMMENT ON COLUMN reco.model_file.sha256 IS 'of the whole file';
COMMENT ON COLUMN reco.model_file.size IS 'in bytes';

CREATE TABLE reco.model_part (
    name text NOT NULL,
    version integer NOT NULL,
    file text NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (name, version, file, part)
);
COMMENT ON TABLE reco.model_part IS 'the bytes of a file, in parts of 4 MiB';
COMMENT ON COLUMN reco.model_part.name IS 'of the model';
COMMENT ON COLUMN reco.model_part.version IS 'of the model';
COMMENT ON COLUMN reco.model_part.file IS 'the file''s name in the cache';
COMMENT ON COLUMN reco.model_part.part IS 'the place in the file, from 0';
COMMENT ON COLUMN reco.model_part.data IS 'up to 4 MiB of the file';
-- Weights do not compress: trying would only cost time, and a slice could not be read without the whole.
ALTER TABLE reco.model_part ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE reco.model_grant (
    name text NOT NULL,
    grantee reco.role NOT NULL,
    -- The default is for rows of dumps from before there were two: what was granted then came to both.
    privilege text NOT NULL DEFAULT 'read' CHECK (privilege IN ('serve', 'read')),
    PRIMARY KEY (name, grantee)
);
COMMENT ON TABLE reco.model_grant IS
    'who besides its owner may use a model: serve for its answers, read also for what it was trained on; grantee public is everybody';
COMMENT ON COLUMN reco.model_grant.name IS 'of the model';
COMMENT ON COLUMN reco.model_grant.grantee IS 'who may use it; public is everybody';
COMMENT ON COLUMN reco.model_grant.privilege IS 'serve for answers alone, read also for what it was trained on';

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
COMMENT ON VIEW reco.models IS
    'the models the current role may use: every version, and which one is in use; source, config and metrics with the privilege read';
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
COMMENT ON COLUMN reco.models.id IS 'tells it from a model made later under the same name';
GRANT SELECT ON reco.models TO PUBLIC;

CREATE TYPE reco.scored_item AS (item_id text, score real);
COMMENT ON TYPE reco.scored_item IS 'an item and its score, as reco.top_k gives them';
COMMENT ON COLUMN reco.scored_item.item_id IS 'the item, as text';
COMMENT ON COLUMN reco.scored_item.score IS 'the greater, the better';
