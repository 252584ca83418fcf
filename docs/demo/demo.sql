-- # The data
--
-- Complete Journey: a year of purchases at a grocer, by 2,469 households. The data set is public and made for teaching.
-- Everything below lives in the schema demo and in models whose names begin with demo_.
DROP SCHEMA IF EXISTS demo CASCADE;

SELECT reco.drop_model(name) FROM reco.models WHERE name IN ('demo_ials', 'demo_popularity', 'demo_search') AND in_use;

CREATE SCHEMA demo;

-- The catalogue shouts in capitals. Language models read lower case better, so a product's name is made of its type and
-- its category in lower case: "ice cream sandwiches, frzn novelties/wtr ice".
CREATE TABLE demo.product (
    product_id bigint PRIMARY KEY,
    department text,
    category   text,
    type       text,
    brand      text,
    size       text,
    name       text GENERATED ALWAYS AS (lower(coalesce(type || ', ' || category, category, department))) STORED
);

CREATE TABLE demo.purchase (
    household_id bigint NOT NULL,
    product_id   bigint NOT NULL,
    basket_id    bigint NOT NULL,
    quantity     integer NOT NULL,
    sales_value  numeric(8, 2) NOT NULL,
    week         integer NOT NULL,
    bought_at    timestamp NOT NULL
);

CREATE TABLE demo.household (
    household_id   bigint PRIMARY KEY,
    age            text,
    income         text,
    household_size text,
    kids           text
);

-- Which household was sent the coupons of which campaign, and which coupons were redeemed: docs/importance.md asks which
-- of these rows mislead.
CREATE TABLE demo.campaign (
    campaign_id bigint PRIMARY KEY,
    kind        text NOT NULL,
    starts      date NOT NULL,
    ends        date NOT NULL
);

CREATE TABLE demo.mailing (
    campaign_id  bigint NOT NULL,
    household_id bigint NOT NULL
);

CREATE TABLE demo.redemption (
    household_id bigint NOT NULL,
    campaign_id  bigint NOT NULL,
    coupon_id    bigint NOT NULL,
    redeemed_on  date NOT NULL
);

COPY demo.product (product_id, department, category, type, brand, size) FROM STDIN (FORMAT csv);

COPY demo.purchase (household_id, product_id, basket_id, quantity, sales_value, week, bought_at) FROM STDIN (FORMAT csv);

COPY demo.household (household_id, age, income, household_size, kids) FROM STDIN (FORMAT csv);

COPY demo.campaign (campaign_id, kind, starts, ends) FROM STDIN (FORMAT csv);

COPY demo.mailing (campaign_id, household_id) FROM STDIN (FORMAT csv);

COPY demo.redemption (household_id, campaign_id, coupon_id, redeemed_on) FROM STDIN (FORMAT csv);

-- An index on the household: recommending looks up what a household has bought by now.
CREATE INDEX ON demo.purchase (household_id);

ANALYZE demo.product, demo.purchase, demo.household, demo.campaign, demo.mailing, demo.redemption;

-- # Search by meaning
--
-- Each product's name becomes a vector of 512 numbers, made by a language model for 16 languages, English and Chinese
-- among them. The query gives an id and a text; a text that occurs again is not computed again.
CREATE TABLE demo.product_embedding AS
SELECT id::bigint AS product_id, embedding
  FROM reco.embed_query('SELECT product_id AS id, name AS text FROM demo.product ORDER BY name',
                        'use-multilingual-v3');

SELECT count(*) AS products, count(DISTINCT name) AS different_names FROM demo.product;

-- A search is an ORDER BY. The phrase stands in a sub-query of its own, so that it is embedded once and not for each
-- row. Products of the same name are shown as one row.
SELECT name, count(*) AS products,
       max(reco.cosine_similarity(
           embedding, (SELECT reco.embed('something for a cold', 'use-multilingual-v3')))) AS similarity
  FROM demo.product JOIN demo.product_embedding USING (product_id)
 GROUP BY name
 ORDER BY similarity DESC
 LIMIT 5;

-- The same in Chinese, on the same English catalogue: "baby diapers".
SELECT name, count(*) AS products,
       max(reco.cosine_similarity(
           embedding, (SELECT reco.embed('婴儿纸尿裤', 'use-multilingual-v3')))) AS similarity
  FROM demo.product JOIN demo.product_embedding USING (product_id)
 GROUP BY name
 ORDER BY similarity DESC
 LIMIT 5;

-- Several phrases in one statement, embedded in one run; the best two names for each.
WITH phrase AS (
    SELECT phrase, ordinal
      FROM unnest(ARRAY['food for my cat', '猫粮', 'coffee', '咖啡', 'shampoo', '洗发水',
                        'red wine', '红酒', 'seafood', '海鲜']) WITH ORDINALITY AS p(phrase, ordinal)
), named AS MATERIALIZED (
    SELECT DISTINCT ON (name) name, embedding
      FROM demo.product JOIN demo.product_embedding USING (product_id)
)
SELECT phrase, found.name, found.similarity
  FROM phrase
  JOIN reco.embed((SELECT array_agg(phrase ORDER BY ordinal) FROM phrase), 'use-multilingual-v3') AS vector
    ON vector.ordinal = phrase.ordinal
 CROSS JOIN LATERAL (
    SELECT name, reco.cosine_similarity(vector.embedding, named.embedding) AS similarity
      FROM named
     ORDER BY similarity DESC
     LIMIT 2) AS found
 ORDER BY phrase.ordinal, found.similarity DESC;

-- # Search by words and meaning
--
-- An index holds the words of the products and their vectors. One call searches both, and fuses the rankings: brands and sizes are found by
-- their words, what has no word of the query by its meaning.
SELECT reco.train_search('demo_search',
    'SELECT product_id AS id, name, brand, size, embedding
       FROM demo.product JOIN demo.product_embedding USING (product_id)',
    '{"fields": {"name": 3, "brand": 1, "size": 1}}', 'use-multilingual-v3');

-- Typing errors, sizes, Chinese; the best two of each.
SELECT phrase, found.rank, name, brand, size, found.lexical_score, found.vector_score
  FROM unnest(ARRAY['shampo for dry hair', 'ice cream 56 oz', '猫粮', 'private peanut buter']) AS phrase
 CROSS JOIN LATERAL reco.search('demo_search', phrase, 2) AS found
  JOIN demo.product ON product_id = found.id::bigint
 ORDER BY phrase, found.rank;

-- A filter is answered when the search runs. All products that have words of a phrase, by department:
SELECT department, count(*) AS products
  FROM reco.search_matches('demo_search', 'chocolate') AS id JOIN demo.product ON product_id = id::bigint
 GROUP BY department
 ORDER BY products DESC, department
 LIMIT 5;

-- The table changes, and the index follows: only what has changed is written.
UPDATE demo.product SET brand = 'National' WHERE product_id IN (SELECT product_id FROM demo.product ORDER BY product_id LIMIT 10);

SELECT reco.refresh('demo_search');

SELECT version, metrics ->> 'written' AS written, metrics ->> 'segments' AS segments
  FROM reco.models WHERE name = 'demo_search' AND in_use;

-- # Learn from behaviour
--
-- What counts as behaviour is a view: a line of a purchase is an interaction, fuel and bookkeeping articles are none.
-- Lines of the same household and product add up, so a product bought in ten baskets weighs 10; by default training
-- takes the logarithm of that.
CREATE VIEW demo.interaction AS
SELECT household_id AS user_id, product_id AS item_id, week
  FROM demo.purchase JOIN demo.product USING (product_id)
 WHERE quantity > 0
   AND department NOT IN ('FUEL', 'MISCELLANEOUS', 'COUPON', 'CNTRL/STORE SUP', 'POSTAL CENTER', 'TRAVEL & LEISURE')
   AND category IS DISTINCT FROM 'COUPON/MISC ITEMS';

-- To see what a model is worth, it learns from the weeks up to 42 and is asked about the eleven weeks after.
CREATE VIEW demo.earlier AS SELECT user_id, item_id FROM demo.interaction WHERE week <= 42;

CREATE VIEW demo.later AS SELECT user_id, item_id FROM demo.interaction WHERE week > 42;

-- Factors for every household and product (implicit alternating least squares), and the most popular products as the
-- baseline to beat. What is returned is the model's version.
SELECT reco.train('demo_ials', 'TABLE demo.earlier', 'ials', '{"factors": 128}');

SELECT reco.train('demo_popularity', 'TABLE demo.earlier', 'popularity');

-- First question: of 20 products that a household has not bought before, which does it buy in the weeks held out? The
-- last lines count what was asked: purchases of what was bought before (rows_seen_in_training) are no answer to this
-- question.
SELECT metric, ials.value AS ials, popularity.value AS popularity,
       ials.value / nullif(popularity.value, 0) AS ratio
  FROM reco.evaluate('demo_ials', 'TABLE demo.later', k => 20) WITH ORDINALITY AS ials
  JOIN reco.evaluate('demo_popularity', 'TABLE demo.later', k => 20) AS popularity USING (metric)
 ORDER BY ials.ordinality;

-- Second question: the same with products it buys again, which is most of what a household takes home from a grocer.
SELECT metric, ials.value AS ials, popularity.value AS popularity,
       ials.value / nullif(popularity.value, 0) AS ratio
  FROM reco.evaluate('demo_ials', 'TABLE demo.later', k => 20, exclude_seen => false)
       WITH ORDINALITY AS ials
  JOIN reco.evaluate('demo_popularity', 'TABLE demo.later', k => 20, exclude_seen => false) AS popularity
 USING (metric)
 WHERE metric IN ('precision', 'recall', 'ndcg', 'map', 'hit_rate', 'coverage')
 ORDER BY ials.ordinality;

-- The model is good enough to serve: train it again on the whole year. The new version is in use at once; the old one
-- stays, and reco.promote_model would bring it back.
SELECT reco.train('demo_ials', 'SELECT user_id, item_id FROM demo.interaction', 'ials', '{"factors": 128}');

SELECT name, version, in_use, algorithm, pg_size_pretty(size) AS size,
       metrics->'users' AS users, metrics->'items' AS items, metrics->'interactions' AS interactions
  FROM reco.models WHERE name LIKE 'demo%' ORDER BY name, version;

-- # Recommend
--
-- What household 2176 buys most often ...
SELECT category, count(*) AS purchases
  FROM demo.purchase JOIN demo.product USING (product_id)
 WHERE household_id = 2176
 GROUP BY category
 ORDER BY purchases DESC
 LIMIT 6;

-- ... and what it has never bought and would probably like. (The catalogue has an entry for each packaging and
-- supplier, so the same name can come twice.)
SELECT rank, name, brand, size, score
  FROM reco.recommend('demo_ials', 2176, k => 8) JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

-- What it will probably put into its next basket, products that it knows included.
SELECT rank, name, brand, size, score
  FROM reco.recommend('demo_ials', 2176, k => 8, exclude_seen => false)
  JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

-- A household of which nothing is known gets what is popular ...
BEGIN;

SELECT rank, name, brand, size, reason
  FROM reco.recommend('demo_ials', 999999, k => 3) JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

-- ... and what suits it as soon as it has bought something. An order placed a second ago counts; nothing is trained
-- again.
INSERT INTO demo.purchase
SELECT 999999, product_id, 1, 1, 9.99, 53, now()
  FROM demo.product
 WHERE product_id IN (7147145, 7410335, 1135959)
RETURNING (SELECT name FROM demo.product AS p WHERE p.product_id = purchase.product_id);

SELECT rank, name, brand, size, reason
  FROM reco.recommend('demo_ials', 999999, k => 5) JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

ROLLBACK;

-- Products that the same households buy as this one: ice cream sandwiches.
SELECT rank, name, brand, size, similarity
  FROM reco.similar_items('demo_ials', 991948, k => 6) JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

-- A shopper without an account: three products lie in the basket ...
SELECT name, brand, size FROM demo.product WHERE product_id IN (5568378, 907652, 985427);

-- ... and what goes with them.
SELECT rank, name, brand, size, score
  FROM reco.recommend_for_items('demo_ials', ARRAY[5568378, 907652, 985427]::bigint[], k => 8)
  JOIN demo.product ON product_id = item_id::bigint
 ORDER BY rank;

-- # Give it to others
--
-- A view for a BI tool: one row for each household and rank, ids in their own types.
SELECT reco.create_view('demo_ials', 'demo.recommended', k => 20);

SELECT * FROM demo.recommended WHERE user_id = 2176 LIMIT 3;

-- What a dashboard would ask: which categories are recommended to an age group more often than to all households? It
-- goes over the lists of the 801 households with demographics.
WITH place AS (
    SELECT h.age, p.category
      FROM demo.recommended AS r
      JOIN demo.household AS h ON h.household_id = r.user_id
      JOIN demo.product AS p ON p.product_id = r.item_id
), share AS (
    SELECT age, category, count(*) AS places,
           100.0 * count(*) / sum(count(*)) OVER (PARTITION BY age) AS percent,
           100.0 * sum(count(*)) OVER (PARTITION BY category) / sum(count(*)) OVER () AS percent_of_all
      FROM place
     GROUP BY age, category
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY age ORDER BY percent / percent_of_all DESC) AS line
      FROM share
     WHERE places >= 20
)
SELECT age, category, places, round(percent, 1) AS percent, round(percent_of_all, 1) AS percent_of_all
  FROM ranked
 WHERE line <= 2
 ORDER BY age, line;

-- A function for a service that holds a connection: it takes and gives ids in their own types.
SELECT reco.create_function('demo_ials', 'demo.recommend', k => 5);

SELECT * FROM demo.recommend(2176);
