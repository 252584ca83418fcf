-- How long :call takes for the :rows rows of a table, and for what share of that time the device's worker was busy. With :store the vectors
-- become rows of a table, otherwise they are counted.
SELECT * FROM worked \gset before_
SELECT clock_timestamp() AS began \gset
\if :store
CREATE UNLOGGED TABLE vector AS SELECT id::bigint, embedding FROM :call;
\else
SELECT count(embedding) AS vectors FROM :call \gset
\endif
SELECT extract(epoch FROM clock_timestamp() - :'began') AS took \gset
\if :store
SELECT count(embedding) AS vectors FROM vector \gset
DROP TABLE vector;
\endif
-- What the worker counts lags by a tenth of a second.
SELECT pg_sleep(0.3) \g /dev/null
SELECT format('| %s | %s |', :'what', CASE
       WHEN :vectors <> :rows THEN format('failed: %s vectors of %s', :vectors, :rows)
       WHEN runs = :before_runs THEN format('%s a second; the worker of the device ran nothing', to_char(:rows / :took, 'FM999,999,990'))
       ELSE format('%s a second; %s in a run on average, the worker was busy for %s %% of the time',
                   to_char(:rows / :took, 'FM999,999,990'), round((rows - :before_rows) / (runs - :before_runs), 1),
                   round((100 * (busy - :before_busy) / :took)::numeric)) END)
  FROM worked;
