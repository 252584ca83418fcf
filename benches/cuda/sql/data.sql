-- Titles of 6 to 12 words of the tokenizer's vocabulary, and images.
SELECT setseed(0.5) \g /dev/null

CREATE TABLE word AS
SELECT row_number() OVER (ORDER BY word) AS n, word
  FROM jsonb_object_keys(pg_read_file(:'tokenizer')::jsonb #> '{model,vocab}') AS word
 WHERE word ~ '^[a-z]{3,}$';
SELECT count(*) AS words FROM word \gset

-- The numbers of the words first: a row for each place in a title.
CREATE TABLE title AS
SELECT id, string_agg(word, ' ' ORDER BY place) AS text
  FROM (SELECT id, place, 1 + floor(random() * :words)::bigint AS n
          FROM (SELECT id, 6 + floor(random() * 7)::integer AS length FROM generate_series(1, :titles) AS id) AS lengths,
               generate_series(1, length) AS place) AS places
  JOIN word USING (n)
 GROUP BY id;
ALTER TABLE title ADD PRIMARY KEY (id);

CREATE TABLE image AS
SELECT row_number() OVER (ORDER BY name) AS id, pg_read_binary_file(:'images' || '/' || name) AS image
  FROM pg_ls_dir(:'images') AS name;

-- An embed whose error is a row of the table failure, so that its client goes on.
CREATE TABLE failure (at timestamptz DEFAULT clock_timestamp(), sqlstate text, message text);
CREATE FUNCTION embed_or_note(text text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN reco.embed(text) IS NOT NULL;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO failure (sqlstate, message) VALUES (SQLSTATE, SQLERRM);
    RETURN false;
END $$;

-- What the workers of the device have done since they started: seconds that a lane ran, on average of all lanes, runs and rows.
CREATE VIEW worked AS
SELECT coalesce(sum(busy * extract(epoch FROM clock_timestamp() - started)), 0) AS busy, sum(runs) AS runs, sum(rows) AS rows
  FROM reco.stat_workers
 WHERE provider = :'device';
VACUUM ANALYZE title, image;
