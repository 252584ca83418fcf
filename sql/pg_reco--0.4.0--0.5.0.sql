-- 0.4.0 → 0.5.0. tests/test_upgrade.py compares the result with a fresh install.

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
