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
COMMENT ON COLUMN reco.stat_models.model IS 'the model''s name';
COMMENT ON COLUMN reco.stat_models.provider IS 'cpu or cuda, where ONNX Runtime ran it; scan for the lists of a recommender';
COMMENT ON COLUMN reco.stat_models.loads IS 'how often a connection loaded it';
COMMENT ON COLUMN reco.stat_models.load_time IS 'of all loads, in milliseconds';
COMMENT ON COLUMN reco.stat_models.runs IS 'how often it ran';
COMMENT ON COLUMN reco.stat_models.rows IS 'texts, images, rows of a first input; users, baskets and items that got a list';
COMMENT ON COLUMN reco.stat_models.tokens IS 'of texts; NULL for other models';
COMMENT ON COLUMN reco.stat_models.mean_latency IS 'of a run, in milliseconds';
COMMENT ON COLUMN reco.stat_models.p99_latency IS '99 of 100 runs took at most this, in milliseconds';
COMMENT ON COLUMN reco.stat_models.bytes IS 'of the files that the last load took';
COMMENT ON COLUMN reco.stat_models.stats_reset IS 'since when it is counted';
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
COMMENT ON COLUMN reco.stat_progress.pid IS 'the process of the call';
COMMENT ON COLUMN reco.stat_progress.datname IS 'the database of the call';
COMMENT ON COLUMN reco.stat_progress.usename IS 'the role that logged in';
COMMENT ON COLUMN reco.stat_progress.function IS 'the function that was called';
COMMENT ON COLUMN reco.stat_progress.model IS 'the model that it uses or makes';
COMMENT ON COLUMN reco.stat_progress.phase IS 'what it is doing';
COMMENT ON COLUMN reco.stat_progress.done IS 'how much of the phase is done';
COMMENT ON COLUMN reco.stat_progress.total IS 'how much there is; NULL where that is not known';
COMMENT ON COLUMN reco.stat_progress.started IS 'when the call began';
GRANT SELECT ON reco.stat_progress TO PUBLIC;

-- The cache of models' files in the data directory.

CREATE FUNCTION reco.cache_folders()
    RETURNS TABLE (folder text, bytes bigint, model text, version integer, databases oid[], prepared_here boolean, prepared_elsewhere integer)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'cache_folders_wrapper';
-- The cache is that of all databases: what another has is not for everybody's eyes.
REVOKE ALL ON FUNCTION reco.cache_folders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.cache_folders TO pg_read_all_stats;
COMMENT ON FUNCTION reco.cache_folders IS 'the rows of the view reco.cache';

CREATE VIEW reco.cache AS
SELECT c.folder,
       c.bytes,
       c.model,
       c.version,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = ANY (c.databases) ORDER BY d.datname) AS databases,
       c.prepared_here,
       c.prepared_elsewhere
  FROM reco.cache_folders() c;
COMMENT ON VIEW reco.cache IS 'the folders of models'' files in the data directory: the version of this database in each, and the databases that need it';
COMMENT ON COLUMN reco.cache.folder IS 'its name below pg_reco in the data directory';
COMMENT ON COLUMN reco.cache.bytes IS 'of all files in it';
COMMENT ON COLUMN reco.cache.model IS 'a model of this database whose files these are; NULL where there is none';
COMMENT ON COLUMN reco.cache.version IS 'its version';
COMMENT ON COLUMN reco.cache.databases IS 'that need the folder';
COMMENT ON COLUMN reco.cache.prepared_here IS 'whether the graph is prepared for the ONNX Runtime and the processor of this connection';
COMMENT ON COLUMN reco.cache.prepared_elsewhere IS 'how often the graph is prepared for others';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'removes what no database needs from the cache of models'' files, and says what that was';
