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
