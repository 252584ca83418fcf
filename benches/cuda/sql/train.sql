-- A recommender of :items items, each taken twice, by users that a hash draws.
CREATE UNLOGGED TABLE taken AS
SELECT 1 + abs(hashint8(2 * item + round)::bigint) % :users AS user_id, item AS item_id
  FROM generate_series(1, :items) AS item, generate_series(0, 1) AS round;
SELECT clock_timestamp() AS began \gset
SELECT reco.train('taken', 'TABLE taken', 'ials', '{"factors": 64, "iterations": 2}') \g /dev/null
SELECT format('| ials trained on the CPU, %s items, %s users, 64 factors, 2 sweeps | %s s |', to_char(:items, 'FM999,999,999'), to_char(:users, 'FM999,999,999'),
              round(extract(epoch FROM clock_timestamp() - :'began'), 1));
