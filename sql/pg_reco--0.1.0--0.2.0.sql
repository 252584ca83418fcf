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
