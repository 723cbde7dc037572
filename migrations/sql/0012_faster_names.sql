-- find_drugs asks views by values that are computed beforehand: only then may PostgreSQL use an index below a security
-- barrier. The others search the tables only for a role that may read tables: a reader that was also given mkmed_nc may not.

CREATE OR REPLACE FUNCTION mkmed.find_drugs(wanted text)
RETURNS TABLE (drug_id bigint, name text, matched text, how text, rank int, is_parent boolean)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    called text := regexp_replace(trim(normalize(wanted, NFC)), '\s+', ' ', 'g');
    low text := lower(called);
    high text := upper(called);
    structure text := regexp_replace(high, '^INCHIKEY[:=]', '');
    space text := lower(split_part(called, ':', 1));
    rest text := substr(called, strpos(called, ':') + 1);
    spellings text[] := ARRAY[upper(rest), rest];
    own text := CASE WHEN space = 'user' THEN substr(called, 6) END;
    numbers text[] := ARRAY['drugbank', 'cas'];
BEGIN
    RETURN QUERY
    WITH hits AS (
        SELECT d.drug_id AS id, d.inchikey AS matched, 'InChIKey' AS how, 0 AS rank FROM mkmed.drugs d
        WHERE d.inchikey = structure
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 1 FROM mkmed.identifiers i
        WHERE i.namespace = space AND i.value = ANY (spellings)
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'key of a user''s table', 1 FROM mkmed.identifiers i
        WHERE i.value = own AND i.namespace LIKE 'user.%'
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 2 FROM mkmed.identifiers i
        WHERE i.namespace = ANY (numbers) AND i.value = high
        UNION ALL
        SELECT n.drug_id, n.name, CASE n.kind WHEN 'preferred' THEN 'name' ELSE n.kind END,
               CASE n.kind WHEN 'preferred' THEN 3 ELSE 4 END FROM mkmed.names n WHERE n.name_key = low
    ), best AS (
        SELECT DISTINCT ON (h.id) h.id, h.matched, h.how, h.rank FROM hits h ORDER BY h.id, h.rank, h.matched
    )
    SELECT b.id, d.name, b.matched, b.how, b.rank,
           d.inchikey IS NOT NULL AND NOT EXISTS (
               SELECT FROM best o WHERE o.rank = b.rank AND o.id <> b.id AND NOT EXISTS (
                   SELECT FROM mkmed.readable_relation r WHERE r.drug_id = o.id AND r.inchikey = d.inchikey))
    FROM best b JOIN LATERAL (SELECT v.name, v.inchikey FROM mkmed.drugs v WHERE v.drug_id = b.id) d ON true ORDER BY 5, 6 DESC, 1;
END
$$;

CREATE OR REPLACE FUNCTION mkmed.nearest(query vector, k int, modality text, atc text, has text[], leave_out bigint)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 200
AS $$
DECLARE
    run mkmed.published_run;
    typed text;
    chosen bigint[];
    filtered boolean := atc IS NOT NULL OR has IS NOT NULL;
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.* INTO run FROM mkmed.published_run r;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no embedding run is published' USING HINT = 'mkmed embed pretrain, or mkmed embed publish RUN';
    END IF;
    IF NOT modality = ANY (run.modalities) THEN
        RAISE EXCEPTION 'the published run has no vectors of modality %', modality
            USING HINT = 'it has: ' || array_to_string(run.modalities, ', '), ERRCODE = 'invalid_parameter_value';
    END IF;
    IF vector_dims(query) <> run.width THEN
        RAISE EXCEPTION 'the query has % dimensions, the published run has %', vector_dims(query), run.width
            USING ERRCODE = 'data_exception';
    END IF;
    typed := format('%s(%s)', run.precision, run.width);
    IF filtered THEN
        chosen := coalesce(mkmed.candidates(atc, has), '{}');
    END IF;
    -- Few candidates: compare with every one of them, which is exact. Many: walk the index until k rows passed.
    -- A reader has no index, since the view that it reads decides first which rows there are; that is exact too.
    RETURN QUERY EXECUTE format(
        'SELECT near.drug_id, d.name, (1 - near.distance)::real, mkmed.modality_names(near.rests_on),
                (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = near.drug_id)
         FROM (SELECT e.drug_id, e.rests_on, (e.embedding)::%1$s <=> $1::%1$s AS distance
               FROM mkmed.%6$s e %2$s
               WHERE e.run_id = %3$L AND e.modality = %4$L AND e.drug_id IS DISTINCT FROM $2 %5$s
               ORDER BY (e.embedding)::%1$s <=> $1::%1$s LIMIT $3) near
         CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = near.drug_id) d
         ORDER BY near.distance, near.drug_id',
        typed,
        CASE WHEN filtered AND cardinality(chosen) <= 50000 THEN 'JOIN unnest($4) AS pick(id) ON pick.id = e.drug_id' ELSE '' END,
        run.run_id, modality,
        CASE WHEN filtered AND cardinality(chosen) > 50000 THEN 'AND e.drug_id = ANY ($4)' ELSE '' END,
        CASE WHEN mkmed.may_read_closed() AND has_table_privilege('mkmed.embedding', 'SELECT') THEN 'embedding'
             ELSE 'published_vector' END)
    USING query, leave_out, k, chosen;
END
$$;

CREATE OR REPLACE FUNCTION mkmed.similar_to_bits(bits bit, k int DEFAULT 10, at_least real DEFAULT 0, leave_out bigint DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, smiles text, atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 200
AS $$
DECLARE
    everything boolean := mkmed.may_read_closed() AND has_table_privilege('mkmed.fingerprint', 'SELECT');
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

CREATE OR REPLACE FUNCTION mkmed.search_text(query text, k int DEFAULT 20)
RETURNS TABLE (drug_id bigint, name text, score real, how text, found text, provider text, licence_id text)
LANGUAGE plpgsql STABLE
SET search_path = mkmed, pg_temp
AS $$
DECLARE
    called text := lower(regexp_replace(trim(normalize(query, NFC)), '\s+', ' ', 'g'));
    words tsquery := websearch_to_tsquery('simple', query);
    meant tsquery := websearch_to_tsquery('english', query);
    everything boolean := mkmed.may_read_closed() AND has_table_privilege('mkmed.text', 'SELECT');
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
