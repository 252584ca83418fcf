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
    reco.create_search_function, reco.tune_search, reco.train_predictor,
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
