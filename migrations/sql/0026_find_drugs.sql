-- What a role that may read everything asks of the tables themselves: the views' five looks for who may read which drug cost
-- twenty times what the answer does, in planning alone.

CREATE VIEW mkmed.settled_identifier AS
SELECT i.* FROM mkmed.identifier i
-- What a record of another substance lists with the structure that its source drew for it names the structure's drug.
-- Two subplans, not a join: few records are parted, and whoever reads every identifier shall not join for them.
WHERE (i.source, i.key) NOT IN (SELECT c.source, c.key FROM mkmed.drug_conflict c WHERE c.kind = 'structure')
   OR NOT EXISTS (
    SELECT FROM mkmed.drug_conflict c JOIN mkmed.drug o ON o.identity = c.identifier
    JOIN mkmed.identifier s ON s.drug_id = o.id
    WHERE c.kind = 'structure' AND c.source = i.source AND c.key = i.key AND o.id <> i.drug_id
      AND s.namespace = i.namespace AND s.value = i.value);
COMMENT ON VIEW mkmed.settled_identifier IS 'The identifiers without what a parted record shares with the structure''s drug.';

CREATE OR REPLACE VIEW mkmed.identifiers WITH (security_barrier) AS
SELECT i.drug_id, i.namespace, i.value, i.source, i.key, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.settled_identifier i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id
JOIN mkmed.readable_artifact a ON a.id = i.artifact;

CREATE OR REPLACE FUNCTION mkmed.find_drugs(wanted text)
RETURNS TABLE (drug_id bigint, name text, matched text, how text, rank int, is_parent boolean)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
DECLARE
    called text := regexp_replace(trim(normalize(wanted, NFC)), '\s+', ' ', 'g');
    high text := upper(called);
    space text := lower(split_part(called, ':', 1));
    rest text := substr(called, strpos(called, ':') + 1);
    everything boolean := mkmed.may_read_closed() AND has_table_privilege('mkmed.settled_identifier', 'SELECT')
        AND has_table_privilege('mkmed.drug_name', 'SELECT') AND has_table_privilege('mkmed.drug', 'SELECT')
        AND has_table_privilege('mkmed.substance_relation', 'SELECT');
BEGIN
    -- The values are computed beforehand: only then may PostgreSQL use an index below a view's security barrier.
    RETURN QUERY EXECUTE format($sql$
        WITH hits AS (
            SELECT d.%4$s AS id, d.inchikey AS matched, 'InChIKey' AS how, 0 AS rank FROM mkmed.%1$s d WHERE d.inchikey = $1
            UNION ALL
            SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 1 FROM mkmed.%2$s i
            WHERE i.namespace = $2 AND i.value = ANY ($3)
            UNION ALL
            SELECT i.drug_id, i.namespace || ':' || i.value, 'key of a user''s table', 1 FROM mkmed.%2$s i
            WHERE i.value = $4 AND i.namespace LIKE 'user.%%'
            UNION ALL
            SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 2 FROM mkmed.%2$s i
            WHERE i.namespace = ANY ($5) AND i.value = $6
            UNION ALL
            SELECT n.drug_id, n.name, CASE n.kind WHEN 'preferred' THEN 'name' ELSE n.kind END,
                   CASE n.kind WHEN 'preferred' THEN 3 ELSE 4 END FROM mkmed.%3$s n WHERE n.name_key = $7
        ), best AS (
            SELECT DISTINCT ON (h.id) h.id, h.matched, h.how, h.rank FROM hits h ORDER BY h.id, h.rank, h.matched
        )
        SELECT b.id, d.name, b.matched, b.how, b.rank,
               d.inchikey IS NOT NULL AND NOT EXISTS (
                   SELECT FROM best o WHERE o.rank = b.rank AND o.id <> b.id AND NOT EXISTS (
                       SELECT FROM mkmed.%5$s r WHERE r.drug_id = o.id AND r.inchikey = d.inchikey))
        FROM best b JOIN LATERAL (SELECT v.name, v.inchikey FROM mkmed.%1$s v WHERE v.%4$s = b.id OFFSET 0) d ON true
        ORDER BY 5, 6 DESC, 1
        $sql$,
        CASE WHEN everything THEN 'drug' ELSE 'drugs' END,
        CASE WHEN everything THEN 'settled_identifier' ELSE 'identifiers' END,
        CASE WHEN everything THEN 'drug_name' ELSE 'names' END,
        CASE WHEN everything THEN 'id' ELSE 'drug_id' END,
        CASE WHEN everything THEN 'substance_relation' ELSE 'readable_relation' END)
    USING regexp_replace(high, '^INCHIKEY[:=]', ''), space, ARRAY[upper(rest), rest],
          CASE WHEN space = 'user' THEN substr(called, 6) END, ARRAY['drugbank', 'cas'], high, lower(called);
END
$$;
