-- Vectors of two widths, and facets: alike by mechanism, by structure, by use, or by all vectors at once.

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
    wide int;
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
    -- Predicted vectors have a width of their own, which any of them tells.
    wide := CASE modality WHEN 'predicted' THEN coalesce(
        (SELECT vector_dims(e.embedding) FROM mkmed.published_vector e WHERE e.modality = 'predicted' LIMIT 1), run.width)
        ELSE run.width END;
    IF vector_dims(query) <> wide THEN
        RAISE EXCEPTION 'the query has % dimensions, the published run''s % vectors have %', vector_dims(query), modality, wide
            USING ERRCODE = 'data_exception';
    END IF;
    typed := format('%s(%s)', run.precision, wide);
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

-- What a relation between a drug and its target says of the effect: 1 activates, -1 inhibits, 0 binds, NULL something else.
CREATE FUNCTION mkmed.action_of(relation text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog
AS $$
    SELECT CASE
        WHEN relation ~ '^DGIDB::((PARTIAL )?AGONIST|ACTIVATOR|POSITIVE ALLOSTERIC MODULATOR|POTENTIATOR|STIMULATOR|INDUCER)::'
          OR relation ~ '^DrugMechDB::(increases activity of|positively regulates)::Compound:(Protein|Gene Family|Complex)$'
          OR relation = 'GNBR::A+::Compound:Gene' THEN 1
        WHEN relation ~ '^DGIDB::(ANTAGONIST|(NEGATIVE |ALLOSTERIC |GATING |CHANNEL |INVERSE )*(INHIBITOR|BLOCKER|AGONIST|MODULATOR))::'
             AND relation !~ '^DGIDB::(AGONIST|MODULATOR|ALLOSTERIC MODULATOR)::'
          OR relation ~ '^DrugMechDB::(decreases activity of|negatively regulates)::Compound:(Protein|Gene Family|Complex)$'
          OR relation IN ('GNBR::A-::Compound:Gene', 'GNBR::N::Compound:Gene') THEN -1
        WHEN relation ~ '^DGIDB::(BINDER|MODULATOR|ALLOSTERIC MODULATOR|ANTIBODY)::'
          OR relation IN ('DrugCentral::target::Compound:Gene', 'Hetionet::CbG::Compound:Gene', 'GNBR::B::Compound:Gene',
                          'DRUGBANK::target::Compound:Gene') THEN 0
    END::smallint
$$;
COMMENT ON FUNCTION mkmed.action_of IS 'What a relation says a drug does to its target: 1 activates, -1 inhibits, 0 binds, NULL none of it.';

CREATE FUNCTION mkmed.says_use(relation text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog
AS $$ SELECT relation ~ '::(CtD|CpD|indication|treats|T|Pa)::Compound:(Disease|Phenotype)$' $$;
COMMENT ON FUNCTION mkmed.says_use IS 'Whether a relation says what a drug is given for.';

CREATE VIEW mkmed.drug_targets WITH (security_barrier) AS
SELECT l.drug_id, l.name, e.name AS target, e.label AS target_label,
       CASE mkmed.action_of(r.name) WHEN 1 THEN 'activates' WHEN -1 THEN 'inhibits' ELSE 'binds' END AS action,
       r.name AS relation, p.provider, p.licence_id, p.share, p.source, p.url, p.retrieved_at, p.sha256
FROM mkmed.kg_relation r
JOIN mkmed.kg_triple k ON k.relation = r.id
JOIN mkmed.readable_provenance p ON p.relation = k.relation AND p.id = k.provenance
JOIN mkmed.drug_entities l ON l.entity_id = CASE r.head_type WHEN 'Compound' THEN k.head ELSE k.tail END AND NOT l.weak
JOIN mkmed.readable_label e ON e.id = CASE r.head_type WHEN 'Compound' THEN k.tail ELSE k.head END
WHERE mkmed.action_of(r.name) IS NOT NULL;
COMMENT ON VIEW mkmed.drug_targets IS 'What each drug does to which target, a row a statement.';

CREATE VIEW mkmed.drug_uses WITH (security_barrier) AS
SELECT l.drug_id, l.name, e.name AS disease, e.label AS disease_label, r.name AS relation,
       p.provider, p.licence_id, p.share, p.source, p.url, p.retrieved_at, p.sha256
FROM mkmed.kg_relation r
JOIN mkmed.kg_triple k ON k.relation = r.id
JOIN mkmed.readable_provenance p ON p.relation = k.relation AND p.id = k.provenance
JOIN mkmed.drug_entities l ON l.entity_id = k.head AND NOT l.weak
JOIN mkmed.readable_label e ON e.id = k.tail
WHERE mkmed.says_use(r.name);
COMMENT ON VIEW mkmed.drug_uses IS 'What each drug is given for, a row a statement.';

-- A feature has coordinates (x, y) of length 1: (1, 0) where only binding is known, (.5, .87) for activating it and
-- (.5, -.87) for inhibiting it, so that two that do the same agree by 1, opposites by -.5, and one of unknown effect
-- agrees with either by .5. What is merely bound counts less than what is acted on, and rare targets count more.
CREATE FUNCTION mkmed.facet_features(facet text)
RETURNS TABLE (drug_id bigint, feature text, shown text, x float8, y float8)
LANGUAGE plpgsql STABLE ROWS 20000
SET search_path = mkmed, pg_temp
AS $$
BEGIN
    IF facet = 'mechanism' THEN
        RETURN QUERY
        WITH told AS (
            SELECT t.drug_id, t.target, min(coalesce(t.target_label, split_part(t.target, '::', 2))) AS label,
                   avg(CASE t.action WHEN 'activates' THEN 1 WHEN 'inhibits' THEN -1 END)::float8 AS sign
            FROM mkmed.drug_targets t
            -- What clears a drug is bound by it and is not what it acts on.
            WHERE t.action <> 'binds' OR coalesce(t.target_label, '') !~ '^(CYP[0-9]|UGT[0-9]|SULT[0-9]|ABC[A-G][0-9]|SLCO|SLC22A|ALB$|ORM[12]$)'
            GROUP BY t.drug_id, t.target),
        rare AS (
            SELECT o.target, ln(1 + (SELECT count(DISTINCT a.drug_id) FROM told a)::float8 / count(*)) AS idf
            FROM told o GROUP BY o.target)
        SELECT o.drug_id, o.target,
               o.label || CASE WHEN o.sign > 0 THEN ' +' WHEN o.sign < 0 THEN ' -' ELSE '' END,
               CASE WHEN o.sign IS NULL THEN 0.4 ELSE 1 - 0.5 * abs(o.sign) END * r.idf,
               CASE WHEN o.sign IS NULL THEN 0 ELSE sqrt(0.75) * o.sign END * r.idf
        FROM told o JOIN rare r USING (target);
    ELSE
        RETURN QUERY
        WITH named AS (  -- one disease has several names and numbers: its words, sorted, are what they share
            SELECT u.drug_id, coalesce((
                SELECT string_agg(DISTINCT w, ' ' ORDER BY w) FROM regexp_split_to_table(lower(u.disease_label), '[^a-z0-9]+') w
                WHERE w <> ''), u.disease) AS disease, min(coalesce(u.disease_label, u.disease)) AS label
            FROM mkmed.drug_uses u GROUP BY 1, 2)
        SELECT n.drug_id, n.disease, n.label, 1::float8, 0::float8 FROM named n;
    END IF;
END
$$;
COMMENT ON FUNCTION mkmed.facet_features IS 'What the facets mechanism and use compare: each drug''s targets with what it does to them, or its uses.';

CREATE FUNCTION mkmed.late_fusion(wanted bigint, kinds text[])
RETURNS TABLE (drug_id bigint, similarity float8, shared text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
    WITH near AS (
        SELECT e.modality, e.drug_id, 1 - (e.embedding <=> own.embedding) AS cosine
        FROM mkmed.published_vector own JOIN mkmed.published_vector e USING (modality)
        WHERE own.drug_id = wanted AND own.modality = ANY (kinds) AND e.drug_id <> wanted),
    spread AS (SELECT n.modality, avg(n.cosine) AS mean, greatest(stddev_pop(n.cosine), 1e-9) AS width FROM near n GROUP BY 1)
    SELECT n.drug_id, sum((n.cosine - s.mean) / s.width) / (SELECT count(*) FROM spread), array_agg(n.modality ORDER BY n.modality)
    FROM near n JOIN spread s USING (modality) GROUP BY n.drug_id
$$;
COMMENT ON FUNCTION mkmed.late_fusion IS
    'Every drug''s mean standardised similarity to one drug over its kinds of vectors; a kind that either lacks counts as average.';

CREATE FUNCTION mkmed.similar_drugs(drug text, by text, k int DEFAULT 10, atc text DEFAULT NULL, has text[] DEFAULT NULL)
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
        FROM shared s JOIN length l USING (drug_id) LEFT JOIN (
            SELECT e.drug_id, e.embedding <=> m.embedding AS distance
            FROM mkmed.published_vector m JOIN mkmed.published_vector e USING (modality)
            WHERE m.modality = 'fused' AND m.drug_id = wanted) v USING (drug_id)
        ORDER BY similarity DESC, v.distance, s.drug_id LIMIT k)  -- of equals, those with the nearer fused vectors
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
COMMENT ON FUNCTION mkmed.similar_drugs(text, text, int, text, text[]) IS
    'The k drugs most like a drug by one facet (mechanism, structure, use) or by late fusion of its vectors, and because of what.';
