-- What calls met when the worker got SIGTERM at :killed, from pgbench's log as in calls.sql.
CREATE TEMP TABLE call (client integer, n bigint, took float8, script integer, epoch bigint, microseconds bigint);
\copy call FROM pstdin WITH (DELIMITER ' ')
SELECT format('| worker ended by SIGTERM, 16 clients | %s of %s calls failed%s; one that began after the signal had ended %s ms after it; longest pause between two %s ms; p50 %s ms before, %s ms in the last second |',
              (SELECT count(*) FROM failure), count(*),
              (SELECT ' (' || string_agg(DISTINCT sqlstate || ' ' || message, '; ') || ')' FROM failure),
              coalesce(round((1000 * (min(ended) FILTER (WHERE ended - took / 1e6 > :killed) - :killed))::numeric)::text, 'no'),
              round((1000 * max(pause))::numeric),
              round((percentile_cont(0.5) WITHIN GROUP (ORDER BY took) FILTER (WHERE ended < :killed) / 1000)::numeric, 2),
              round((percentile_cont(0.5) WITHIN GROUP (ORDER BY took) FILTER (WHERE ended > latest - 1) / 1000)::numeric, 2))
  FROM (SELECT took, ended, ended - lag(ended) OVER (ORDER BY ended) AS pause, max(ended) OVER () AS latest
          FROM (SELECT took, epoch + microseconds / 1e6 AS ended FROM call) AS calls) AS calls;
-- Started again, or not.
SELECT format('| workers of the device after that | %s running, %s restarts |', count(pid), sum(restarts)) FROM reco.stat_workers WHERE provider = :'device';
