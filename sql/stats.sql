-- Statistics. The functions return only rows that the caller may see: a function in a view runs with the privileges of the role that queries
-- the view.

CREATE FUNCTION reco.stat_models()
    RETURNS TABLE (model text, provider text, loads bigint, load_time double precision, runs bigint, rows bigint, tokens bigint,
                   mean_latency double precision, p99_latency double precision, bytes bigint, stats_reset timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_models_wrapper';
COMMENT ON FUNCTION reco.stat_models IS 'statistics: information about loads and runs of models';

CREATE VIEW reco.stat_models AS
SELECT model, provider, loads, load_time, runs, rows, tokens, mean_latency, p99_latency, bytes, stats_reset
  FROM reco.stat_models();
COMMENT ON VIEW reco.stat_models IS 'statistics about loads and runs of models, over all sessions';
COMMENT ON COLUMN reco.stat_models.model IS 'model name';
COMMENT ON COLUMN reco.stat_models.provider IS 'cpu or cuda for ONNX Runtime, scan for recommenders';
COMMENT ON COLUMN reco.stat_models.loads IS 'number of loads';
COMMENT ON COLUMN reco.stat_models.load_time IS 'total load time in milliseconds';
COMMENT ON COLUMN reco.stat_models.runs IS 'number of runs';
COMMENT ON COLUMN reco.stat_models.rows IS 'number of inputs of all runs, such as texts, images or users';
COMMENT ON COLUMN reco.stat_models.tokens IS 'number of input tokens; NULL for models without tokens';
COMMENT ON COLUMN reco.stat_models.mean_latency IS 'mean time of a run in milliseconds';
COMMENT ON COLUMN reco.stat_models.p99_latency IS '99th percentile of the time of a run in milliseconds';
COMMENT ON COLUMN reco.stat_models.bytes IS 'size of its files at the last load in bytes';
COMMENT ON COLUMN reco.stat_models.stats_reset IS 'time of the last reset';
GRANT SELECT ON reco.stat_models TO PUBLIC;

CREATE FUNCTION reco.reset_stat_models(model text DEFAULT NULL)
    RETURNS bigint LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'reset_stat_models_wrapper';
-- Statistics are shared by all roles.
REVOKE ALL ON FUNCTION reco.reset_stat_models FROM PUBLIC;
COMMENT ON FUNCTION reco.reset_stat_models IS 'statistics: reset the counters of a model, or of all models in the current database';

CREATE FUNCTION reco.stat_progress()
    RETURNS TABLE (pid integer, datid oid, usesysid oid, function text, model text, phase text, done bigint, total bigint,
                   started timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10
    AS 'MODULE_PATHNAME', 'stat_progress_wrapper';
COMMENT ON FUNCTION reco.stat_progress IS 'statistics: information about progress of running calls';

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
COMMENT ON VIEW reco.stat_progress IS 'progress of running calls that the current role may see';
COMMENT ON COLUMN reco.stat_progress.pid IS 'process ID of the backend';
COMMENT ON COLUMN reco.stat_progress.datname IS 'name of the database';
COMMENT ON COLUMN reco.stat_progress.usename IS 'name of the session user';
COMMENT ON COLUMN reco.stat_progress.function IS 'function that was called';
COMMENT ON COLUMN reco.stat_progress.model IS 'model that it uses or creates';
COMMENT ON COLUMN reco.stat_progress.phase IS 'current phase';
COMMENT ON COLUMN reco.stat_progress.done IS 'units of the phase that are done';
COMMENT ON COLUMN reco.stat_progress.total IS 'total units of the phase; NULL if unknown';
COMMENT ON COLUMN reco.stat_progress.started IS 'start time of the call';
GRANT SELECT ON reco.stat_progress TO PUBLIC;

CREATE FUNCTION reco.stat_workers()
    RETURNS TABLE (worker integer, provider text, device_id integer, pid integer, started timestamptz, restarts bigint, lanes integer,
                   models bigint, bytes bigint, requests bigint, waiting bigint, running bigint, failed bigint, withdrawn bigint, runs bigint,
                   rows bigint, mean_batch double precision, max_batch bigint, mean_wait double precision, busy double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100 ROWS 2
    AS 'MODULE_PATHNAME', 'stat_workers_wrapper';
COMMENT ON FUNCTION reco.stat_workers IS 'statistics: information about model workers';

CREATE VIEW reco.stat_workers AS
SELECT worker, provider, device_id, pid, started, restarts, lanes, models, bytes, requests, waiting, running, failed, withdrawn, runs, rows,
       mean_batch, max_batch, mean_wait, busy
  FROM reco.stat_workers();
COMMENT ON VIEW reco.stat_workers IS 'statistics about model workers, each since its start';
COMMENT ON COLUMN reco.stat_workers.worker IS 'number of the worker';
COMMENT ON COLUMN reco.stat_workers.provider IS 'cpu or cuda';
COMMENT ON COLUMN reco.stat_workers.device_id IS 'number of the CUDA device; NULL for the CPU';
COMMENT ON COLUMN reco.stat_workers.pid IS 'process ID; NULL while the worker does not run';
COMMENT ON COLUMN reco.stat_workers.started IS 'time of the last start';
COMMENT ON COLUMN reco.stat_workers.restarts IS 'number of starts after the first, since the server started';
COMMENT ON COLUMN reco.stat_workers.lanes IS 'number of lanes';
COMMENT ON COLUMN reco.stat_workers.models IS 'number of graphs that are loaded';
COMMENT ON COLUMN reco.stat_workers.bytes IS 'size of the loaded graphs in bytes';
COMMENT ON COLUMN reco.stat_workers.requests IS 'number of requests';
COMMENT ON COLUMN reco.stat_workers.waiting IS 'requests that currently wait for a lane';
COMMENT ON COLUMN reco.stat_workers.running IS 'requests that currently run';
COMMENT ON COLUMN reco.stat_workers.failed IS 'number of requests that failed';
COMMENT ON COLUMN reco.stat_workers.withdrawn IS 'number of requests that were canceled';
COMMENT ON COLUMN reco.stat_workers.runs IS 'number of runs';
COMMENT ON COLUMN reco.stat_workers.rows IS 'number of inputs of all runs, such as texts or images';
COMMENT ON COLUMN reco.stat_workers.mean_batch IS 'mean number of inputs of a run';
COMMENT ON COLUMN reco.stat_workers.max_batch IS 'largest number of inputs of a run';
COMMENT ON COLUMN reco.stat_workers.mean_wait IS 'mean time that a request waited for a lane, in milliseconds';
COMMENT ON COLUMN reco.stat_workers.busy IS 'share of the time that a lane was running, from 0 to 1';
GRANT SELECT ON reco.stat_workers TO PUBLIC;

-- The cache of model files in the data directory.

CREATE FUNCTION reco.cache_folders()
    RETURNS TABLE (folder text, bytes bigint, model text, version integer, databases oid[], prepared_here boolean, prepared_elsewhere integer)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'cache_folders_wrapper';
-- The cache is shared by all databases of the cluster, so its contents are not visible to every role.
REVOKE ALL ON FUNCTION reco.cache_folders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.cache_folders TO pg_read_all_stats;
COMMENT ON FUNCTION reco.cache_folders IS 'information about the cache of model files';

CREATE VIEW reco.cache AS
SELECT c.folder,
       c.bytes,
       c.model,
       c.version,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = ANY (c.databases) ORDER BY d.datname) AS databases,
       c.prepared_here,
       c.prepared_elsewhere
  FROM reco.cache_folders() c;
COMMENT ON VIEW reco.cache IS 'folders in the cache of model files';
COMMENT ON COLUMN reco.cache.folder IS 'name of the folder in the directory pg_reco of the data directory';
COMMENT ON COLUMN reco.cache.bytes IS 'total size of its files in bytes';
COMMENT ON COLUMN reco.cache.model IS 'model in the current database with these files, or NULL';
COMMENT ON COLUMN reco.cache.version IS 'version of the model';
COMMENT ON COLUMN reco.cache.databases IS 'databases that need the folder';
COMMENT ON COLUMN reco.cache.prepared_here IS 'whether the graph is prepared for the current ONNX Runtime and processor';
COMMENT ON COLUMN reco.cache.prepared_elsewhere IS 'number of graphs prepared for others';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'remove files that no database needs from the cache of model files';
