-- The lists of all users by :provider, kept in the table :lists, and once more when everything is loaded.
SET reco.execution_provider = :'provider';
SELECT clock_timestamp() AS began \gset
CREATE UNLOGGED TABLE :lists AS SELECT * FROM reco.recommend_all('taken', 10);
SELECT extract(epoch FROM clock_timestamp() - :'began') AS first \gset
SELECT clock_timestamp() AS began \gset
CREATE TEMP TABLE again AS SELECT * FROM reco.recommend_all('taken', 10);
SELECT extract(epoch FROM clock_timestamp() - :'began') AS took \gset
SELECT format('| recommend_all of %s items, %s | %s users a second: %s s, the first time in a connection %s s |',
              to_char(:items, 'FM999,999,999'), upper(:'provider'), to_char(count(DISTINCT user_id) / :took, 'FM999,999,990'),
              round(:took, 2), round(:first, 2))
  FROM :lists;
