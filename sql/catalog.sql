-- The catalog of models: transactional, dumped by pg_dump, replicated by WAL. Only the extension's own functions write it.

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
    version_in_use integer NOT NULL
);
COMMENT ON TABLE reco.model IS 'a row for each model name';
COMMENT ON COLUMN reco.model.name IS 'the model''s name';
COMMENT ON COLUMN reco.model.owner IS 'the role that may add versions, promote, grant and drop';
COMMENT ON COLUMN reco.model.version_in_use IS 'the version that calls without a version take';

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
    PRIMARY KEY (name, grantee)
);
COMMENT ON TABLE reco.model_grant IS 'who besides its owner may use a model; grantee public is everybody';
COMMENT ON COLUMN reco.model_grant.name IS 'of the model';
COMMENT ON COLUMN reco.model_grant.grantee IS 'who may use it; public is everybody';

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
GRANT SELECT ON reco.models TO PUBLIC;

CREATE TYPE reco.scored_item AS (item_id text, score real);
COMMENT ON TYPE reco.scored_item IS 'an item and its score, as reco.top_k gives them';
COMMENT ON COLUMN reco.scored_item.item_id IS 'the item, as text';
COMMENT ON COLUMN reco.scored_item.score IS 'the greater, the better';
