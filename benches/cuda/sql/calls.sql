-- Calls a second and latencies, from pgbench's log: client, number, microseconds, script, and when the call ended.
CREATE TEMP TABLE call (client integer, n bigint, took float8, script integer, epoch bigint, microseconds bigint);
\copy call FROM pstdin WITH (DELIMITER ' ')
SELECT format('| calls of one text, %s | %s |', :'what', CASE
       WHEN count(*) < 2 THEN 'failed: no calls were made'
       ELSE format('%s a second; p50 %s ms, p99 %s ms',
                   to_char(count(*) / greatest(max(ended) - min(ended), 1e-6), 'FM999,990'),
                   round((percentile_cont(0.5) WITHIN GROUP (ORDER BY took) / 1000)::numeric, 2),
                   round((percentile_cont(0.99) WITHIN GROUP (ORDER BY took) / 1000)::numeric, 2)) END)
  FROM (SELECT took, epoch + microseconds / 1e6 AS ended FROM call) AS calls;
