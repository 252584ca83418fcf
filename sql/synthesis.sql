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
