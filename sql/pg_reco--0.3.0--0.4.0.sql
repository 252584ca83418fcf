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

-- A function with more arguments is another function. Who may call it stays as it was set.
CREATE FUNCTION reco.replaced(old text, new text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rights aclitem[] := (SELECT proacl FROM pg_proc WHERE oid = old::regprocedure);
    held record;
BEGIN
    EXECUTE format('DROP FUNCTION %s', old::regprocedure);
    EXECUTE new;
    IF rights IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON FUNCTION %s(text, text, text) FROM PUBLIC', split_part(old, '(', 1));
        FOR held IN SELECT COALESCE(quote_ident(r.rolname), 'PUBLIC') AS grantee, a.is_grantable
                      FROM aclexplode(rights) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s(text, text, text) TO %s%s', split_part(old, '(', 1), held.grantee,
                           CASE WHEN held.is_grantable THEN ' WITH GRANT OPTION' END);
        END LOOP;
    END IF;
END $$;
SELECT reco.replaced('reco.grant_model(text, text)', $$
CREATE FUNCTION reco.grant_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'grant_model_wrapper'
$$);
SELECT reco.replaced('reco.revoke_model(text, text)', $$
CREATE FUNCTION reco.revoke_model(name text, role text, privilege text DEFAULT 'serve')
    RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'revoke_model_wrapper'
$$);
DROP FUNCTION reco.replaced(text, text);
COMMENT ON FUNCTION reco.grant_model IS 'lets a role, or public, have a model''s answers (serve), or also see what it was trained on (read)';
COMMENT ON FUNCTION reco.revoke_model IS 'takes back what reco.grant_model gave: all of it, or read alone';

CREATE FUNCTION reco.model_name(id uuid)
    RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000
    AS 'MODULE_PATHNAME', 'model_name_wrapper';
COMMENT ON FUNCTION reco.model_name IS 'the name of the model with this id, for who may use it; an error where it was dropped';

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
