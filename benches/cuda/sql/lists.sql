-- The lists of both providers beside each other. Equal scores may come in another order, so scores of a rank are compared.
SELECT format('| lists of CPU and %s | %s: largest difference of a score at a rank %s, the same item in %s %% of %s places |', upper(:'device'),
              CASE WHEN count(*) = count(a.score) AND count(*) = count(b.score) AND max(abs(a.score - b.score)) <= 1e-4 THEN 'the same within 1e-4' ELSE 'failed: not the same' END,
              btrim(to_char(max(abs(a.score - b.score)), '9.9EEEE')), round(100.0 * count(*) FILTER (WHERE a.item_id = b.item_id) / count(*), 3), count(*))
  FROM lists_of_cpu AS a FULL JOIN lists_of_device AS b USING (user_id, rank);
