-- How late embed_query ends when its time is up.
\set ON_ERROR_STOP off
SET statement_timeout = :'after';
SELECT clock_timestamp() AS began \gset
SELECT count(embedding) AS vectors FROM reco.embed_query('TABLE title') \gset
\set state :SQLSTATE
\set message :LAST_ERROR_MESSAGE
SELECT format('| embed_query canceled after %s | %s |', :'after', CASE :'state'
       WHEN '57014' THEN format('ended %s ms later', round((1000 * extract(epoch FROM clock_timestamp() - :'began' - :'after'::interval))::numeric, 1))
       WHEN '00000' THEN 'failed: it was done before'
       ELSE 'failed: ' || split_part(:'message', E'\n', 1) END);
