-- Search by words and by structure; documented in docs/sql.md. As everywhere, what a role may not read is not compared:
-- whoever may read everything searches the tables and their indexes, anybody else the views.

CREATE VIEW mkmed.fingerprints WITH (security_barrier) AS
SELECT f.drug_id, d.name, d.smiles, f.morgan, f.pattern
FROM mkmed.fingerprint f JOIN mkmed.readable_drug d ON d.drug_id = f.drug_id
WHERE f.input = sha256(convert_to(d.smiles, 'UTF8'));
COMMENT ON VIEW mkmed.fingerprints IS
    'Bits of every drug with a structure: Morgan (radius 2) for similarity, RDKit''s pattern for screening substructures.';

CREATE FUNCTION mkmed.similar_to_bits(bits bit, k int DEFAULT 10, at_least real DEFAULT 0, leave_out bigint DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, smiles text, atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 200
AS $$
DECLARE
    everything boolean := mkmed.may_read_closed();
    many boolean := false;
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF bits IS NULL OR length(bits) <> 2048 THEN
        RAISE EXCEPTION 'a structure is asked for by 2048 bits, not %', coalesce(length(bits)::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Morgan, radius 2, of RDKit';
    END IF;
    IF everything THEN
        SELECT count(*) > 50000 INTO many FROM (SELECT FROM mkmed.fingerprint LIMIT 50001) counted;
    END IF;
    -- Up to 50,000 are compared one by one, which is exact (adding 0 keeps the index out); more walk the index.
    RETURN QUERY EXECUTE format(
        'SELECT near.drug_id, d.name, (1 - near.distance)::real, d.smiles,
                (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = near.drug_id)
         FROM (SELECT f.drug_id, f.morgan <%%> $1 AS distance FROM mkmed.%1$s f
               WHERE f.drug_id IS DISTINCT FROM $2 ORDER BY (f.morgan <%%> $1) %2$s LIMIT $3) near
         CROSS JOIN LATERAL (SELECT v.name, v.smiles FROM mkmed.drugs v WHERE v.drug_id = near.drug_id) d
         WHERE 1 - near.distance >= $4 ORDER BY near.distance, near.drug_id',
        CASE WHEN everything THEN 'fingerprint' ELSE 'fingerprints' END,
        CASE WHEN many THEN '' ELSE '+ 0, f.drug_id' END)
    USING bits::bit(2048), leave_out, k, at_least;
END
$$;
COMMENT ON FUNCTION mkmed.similar_to_bits IS
    'The k drugs whose Morgan bits have the largest Tanimoto similarity to the given ones, at least at_least.';

CREATE FUNCTION mkmed.similar_structures(drug text, k int DEFAULT 10, at_least real DEFAULT 0)
RETURNS TABLE (drug_id bigint, name text, similarity real, smiles text, atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
DECLARE
    wanted bigint := mkmed.find_drug(drug);
    own bit(2048);
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'no drug % in the knowledge base', quote_literal(drug)
            USING HINT = 'find it by a part of its name: mkmed kb find TEXT', ERRCODE = 'no_data_found';
    END IF;
    SELECT f.morgan INTO own FROM mkmed.fingerprints f WHERE f.drug_id = wanted;
    IF own IS NULL THEN
        RAISE EXCEPTION '% has no structure to compare', quote_literal(drug)
            USING HINT = 'similar_drugs compares what else is known of it', ERRCODE = 'no_data_found';
    END IF;
    RETURN QUERY SELECT * FROM mkmed.similar_to_bits(own, k, at_least, wanted);
END
$$;
COMMENT ON FUNCTION mkmed.similar_structures IS
    'The k drugs whose structure is most like a drug''s: Tanimoto similarity of Morgan bits, radius 2.';

-- One row a drug, by the best of its names and texts. 3 and more: the name itself; 2 to 3: a name that begins so;
-- 1 to 2: a name with these words; below 1: a text, by its cover density. Highlights stand between « and ».
CREATE FUNCTION mkmed.search_text(query text, k int DEFAULT 20)
RETURNS TABLE (drug_id bigint, name text, score real, how text, found text, provider text, licence_id text)
LANGUAGE plpgsql STABLE
SET search_path = mkmed, pg_temp
AS $$
DECLARE
    called text := lower(regexp_replace(trim(normalize(query, NFC)), '\s+', ' ', 'g'));
    words tsquery := websearch_to_tsquery('simple', query);
    meant tsquery := websearch_to_tsquery('english', query);
    everything boolean := mkmed.may_read_closed();
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF called IS NULL OR called = '' THEN
        RAISE EXCEPTION 'an empty text finds nothing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY EXECUTE format($sql$
        WITH named AS (
            SELECT n.drug_id, n.name AS said,
                   CASE WHEN n.name_key = $1 THEN 3 + (n.kind = 'preferred')::int
                        WHEN starts_with(n.name_key, $1) THEN 2 + length($1)::real / greatest(length(n.name_key), 1)
                        ELSE 1 + ts_rank_cd(to_tsvector('simple', n.name), $2, 33) END::real AS score
            FROM mkmed.%1$s n
            WHERE n.name_key = $1 OR starts_with(n.name_key, $1) OR to_tsvector('simple', n.name) @@ $2
        ), one_name AS (
            SELECT DISTINCT ON (n.drug_id) n.drug_id, n.said, n.score FROM named n
            ORDER BY n.drug_id, n.score DESC, length(n.said), n.said
        ), written AS (
            SELECT t.drug_id, t.content, t.provider, t.licence_id,
                   ts_rank_cd(to_tsvector('english', left(t.content, 250000)), $3, 33) AS score
            FROM mkmed.%2$s t WHERE to_tsvector('english', left(t.content, 250000)) @@ $3 AND NOT t.is_note
        ), one_text AS (
            SELECT DISTINCT ON (w.drug_id) w.* FROM written w
            ORDER BY w.drug_id, w.score DESC, length(w.content), w.content
        ), hit AS (
            SELECT coalesce(n.drug_id, w.drug_id) AS id, coalesce(n.score, 0) + coalesce(w.score, 0) AS score, n.score AS by_name,
                   n.said, w.content, w.provider, w.licence_id
            FROM one_name n FULL JOIN one_text w ON w.drug_id = n.drug_id
            ORDER BY 2 DESC, 1 LIMIT $4
        )
        SELECT h.id, d.name, h.score::real,
               CASE WHEN h.by_name >= 3 THEN 'name' WHEN h.by_name >= 2 THEN 'name begins' WHEN h.by_name >= 1 THEN 'words of a name'
                    ELSE 'text' END,
               CASE WHEN h.by_name IS NOT NULL
                    THEN ts_headline('simple', h.said, $2, 'StartSel=«, StopSel=», HighlightAll=true')
                    ELSE ts_headline('english', left(h.content, 20000), $3,
                                     'StartSel=«, StopSel=», MaxFragments=2, MaxWords=24, MinWords=8') END,
               CASE WHEN h.by_name IS NULL THEN h.provider END, CASE WHEN h.by_name IS NULL THEN h.licence_id END
        FROM hit h CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = h.id) d
        ORDER BY h.score DESC, h.id
        $sql$, CASE WHEN everything THEN 'drug_name' ELSE 'names' END, CASE WHEN everything THEN 'text' ELSE 'texts' END)
    USING called, words, meant, k;
END
$$;
COMMENT ON FUNCTION mkmed.search_text IS
    'Drugs by words in their names and texts, the best first, with what was found in «marks», and who wrote it.';
