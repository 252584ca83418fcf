-- pgbench: one call of a client.
\set id random(1, :titles)
SELECT reco.embed(text) FROM title WHERE id = :id;
