-- Synthetic rows: models of a table's rows, and the rows that they make.

CREATE FUNCTION reco.train_synthesizer(name text, source text, method text DEFAULT 'cart', options jsonb DEFAULT '{}', label text DEFAULT NULL,
                                       seed bigint DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_synthesizer_wrapper';
COMMENT ON FUNCTION reco.train_synthesizer IS 'learns what the rows of a query are like, and keeps it as a version of a model that makes more of them';

CREATE FUNCTION reco.synthesize(name text, n bigint DEFAULT 1, conditions jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF jsonb LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
    AS 'MODULE_PATHNAME', 'synthesize_wrapper';
COMMENT ON FUNCTION reco.synthesize(text, bigint, jsonb, bigint) IS 'new rows like those that a model learned, as JSON; the same seed gives the same rows';

CREATE FUNCTION reco.synthesize(target anyelement, name text, n bigint DEFAULT 1, conditions jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS SETOF anyelement LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
    AS 'MODULE_PATHNAME', 'synthesize_typed_wrapper';
COMMENT ON FUNCTION reco.synthesize(anyelement, text, bigint, jsonb, bigint) IS 'new rows like those that a model learned, of a table''s own type: reco.synthesize(NULL::orders, …)';
