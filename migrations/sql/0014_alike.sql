-- What disagrees on the whole is no neighbour: by mechanism an antagonist is not listed, however few drugs share a target.

CREATE OR REPLACE FUNCTION mkmed.similar_drugs(drug text, by text, k int DEFAULT 10, atc text DEFAULT NULL, has text[] DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, facet text, because text[], atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted bigint := mkmed.find_drug(drug);
    run mkmed.published_run;
    kind text;
    chosen bigint[];
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF by IS NULL OR by NOT IN ('mechanism', 'structure', 'use', 'late') THEN
        RAISE EXCEPTION 'drugs are not compared by %', quote_nullable(by)
            USING HINT = 'by mechanism, structure, use or late', ERRCODE = 'invalid_parameter_value';
    END IF;
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'no drug % in the knowledge base', quote_literal(drug)
            USING HINT = 'find it by a part of its name: mkmed kb search TEXT', ERRCODE = 'no_data_found';
    END IF;
    IF atc IS NOT NULL OR has IS NOT NULL THEN
        chosen := coalesce(mkmed.candidates(atc, has), '{}');
    END IF;
    IF by IN ('structure', 'late') THEN
        SELECT r.* INTO run FROM mkmed.published_run r;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no embedding run is published' USING HINT = 'mkmed embed pretrain, or mkmed embed publish RUN';
        END IF;
    END IF;
    IF by = 'structure' THEN
        kind := CASE WHEN 'predicted' = ANY (run.modalities) THEN 'predicted' ELSE 'molecule' END;
        RETURN QUERY SELECT n.drug_id, n.name, n.similarity, by, ARRAY[kind || ' vectors'], n.atc_codes
            FROM mkmed.nearest(mkmed.vector_of(drug, kind), k, kind, atc, has, wanted) n;
        RETURN;
    END IF;
    IF by = 'late' THEN
        RETURN QUERY
        SELECT f.drug_id, d.name, f.similarity::real, by, f.shared, (
            SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = f.drug_id)
        FROM (SELECT l.* FROM mkmed.late_fusion(wanted, array_remove(array_remove(run.modalities, 'fused'), 'predicted')) l
              WHERE chosen IS NULL OR l.drug_id = ANY (chosen) ORDER BY l.similarity DESC, l.drug_id LIMIT k) f
        CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = f.drug_id) d
        ORDER BY f.similarity DESC, f.drug_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION '% has no vector in the published run', quote_literal(drug)
                USING HINT = 'SELECT * FROM mkmed.availability shows what it lacks', ERRCODE = 'no_data_found';
        END IF;
        RETURN;
    END IF;
    RETURN QUERY
    WITH f AS MATERIALIZED (SELECT * FROM mkmed.facet_features(by)),
    own AS (SELECT * FROM f WHERE f.drug_id = wanted),
    length AS (SELECT f.drug_id, sqrt(sum(f.x * f.x + f.y * f.y)) AS norm FROM f GROUP BY 1),
    shared AS (
        SELECT f.drug_id, sum(f.x * o.x + f.y * o.y) AS product,
               (array_agg(CASE WHEN f.shown = o.shown THEN f.shown ELSE o.shown || ' / ' || f.shown END
                          ORDER BY abs(f.x * o.x + f.y * o.y) DESC, f.feature))[1:3] AS because
        FROM f JOIN own o USING (feature) WHERE f.drug_id <> wanted AND (chosen IS NULL OR f.drug_id = ANY (chosen))
        GROUP BY 1),
    best AS (
        SELECT s.drug_id, s.because, v.distance,
               round((s.product / (l.norm * (SELECT w.norm FROM length w WHERE w.drug_id = wanted)))::numeric, 6) AS similarity
        FROM shared s JOIN length l ON l.drug_id = s.drug_id AND s.product > 0 LEFT JOIN (
            SELECT e.drug_id, e.embedding <=> m.embedding AS distance
            FROM mkmed.published_vector m JOIN mkmed.published_vector e USING (modality)
            WHERE m.modality = 'fused' AND m.drug_id = wanted) v ON v.drug_id = s.drug_id
        ORDER BY similarity DESC, v.distance, s.drug_id LIMIT k)  -- what disagrees is not alike; of equals the nearer fused
    SELECT b.drug_id, d.name, b.similarity::real, by, b.because, (
        SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = b.drug_id)
    FROM best b CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = b.drug_id) d
    ORDER BY b.similarity DESC, b.distance, b.drug_id;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM mkmed.facet_features(by) o WHERE o.drug_id = wanted) THEN
        RAISE EXCEPTION 'the graph says nothing of the % of %', by, quote_literal(drug)
            USING HINT = 'by => ''structure'' needs only its structure', ERRCODE = 'no_data_found';
    END IF;
END
$$;
