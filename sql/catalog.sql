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
    task text NOT NULL CHECK (task IN ('text_embedding', 'image_embedding', 'text_pair', 'recommendation', 'synthesis', 'search', 'prediction', 'predict')),
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
