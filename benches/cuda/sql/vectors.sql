-- Vectors of the device beside the CPU's. That different titles differ says that the comparison means something.
SET reco.execution_provider = 'cpu';
CREATE TEMP TABLE from_cpu AS SELECT id::integer, embedding FROM reco.embed_query('SELECT id, text FROM title WHERE id <= 1000');
CREATE TEMP TABLE image_from_cpu AS SELECT id::integer, embedding FROM reco.embed_images('TABLE image');
SET reco.execution_provider = :'device';
CREATE TEMP TABLE from_device AS SELECT id::integer, embedding FROM reco.embed_query('SELECT id, text FROM title WHERE id <= 1000');
CREATE TEMP TABLE image_from_device AS SELECT id::integer, embedding FROM reco.embed_images('TABLE image');

-- In double precision, so that the comparison has no error of its own.
CREATE FUNCTION pg_temp.compared(a real[], b real[], OUT cosine float8, OUT difference float8) LANGUAGE sql AS $$
    SELECT sum(x::float8 * y) / sqrt(sum(x::float8 * x) * sum(y::float8 * y)), max(abs(x::float8 - y))
      FROM unnest(a, b) AS pair (x, y)
$$;

SELECT format('| %s of %s and of the CPU | least cosine %s, largest difference of a number %s; cosine of different ones %s on average |',
              what, upper(:'device'), round(min(cosine)::numeric, 9), btrim(to_char(max(difference), '9.9EEEE')), round(avg(other)::numeric, 3))
  FROM (SELECT format('vectors of %s titles', count(*) OVER ()) AS what, same.*, other.cosine AS other
          FROM from_cpu JOIN from_device USING (id), pg_temp.compared(from_cpu.embedding, from_device.embedding) AS same,
               LATERAL (SELECT embedding FROM from_device AS next WHERE next.id = from_cpu.id % 1000 + 1) AS next,
               pg_temp.compared(from_cpu.embedding, next.embedding) AS other
        UNION ALL
        SELECT format('vectors of %s images', count(*) OVER ()), same.*, other.cosine
          FROM image_from_cpu JOIN image_from_device USING (id),
               pg_temp.compared(image_from_cpu.embedding, image_from_device.embedding) AS same,
               LATERAL (SELECT embedding FROM image_from_device AS next WHERE next.id <> image_from_cpu.id ORDER BY id LIMIT 1) AS next,
               pg_temp.compared(image_from_cpu.embedding, next.embedding) AS other) AS compared
 GROUP BY what
 ORDER BY count(*) DESC;
