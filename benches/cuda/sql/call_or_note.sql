-- pgbench: one call of a client, which survives an error.
\set id random(1, :titles)
SELECT embed_or_note(text) FROM title WHERE id = :id;
