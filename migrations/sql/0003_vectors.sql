-- Drug vectors: the views of the published run, and the functions that search them.

INSERT INTO mkmed.published (singleton, run_id) VALUES (true, NULL);

CREATE FUNCTION mkmed.modality_names(mask smallint) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog
AS $$
    SELECT array_agg(name ORDER BY bit) FROM unnest(ARRAY['image', 'text', 'structure', 'property', 'graph', 'molecule'])
        WITH ORDINALITY AS known(name, bit) WHERE (mask >> (bit - 1)::int) & 1 = 1
$$;
COMMENT ON FUNCTION mkmed.modality_names IS 'The names of the modalities whose bits are set.';

-- A view's column cannot change its type, so the views are made anew when a run of another width is published.
CREATE PROCEDURE mkmed.define_vector_views("precision" text, width int)
LANGUAGE plpgsql
AS $define$
DECLARE
    published_rows text := 'FROM mkmed.embedding e WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p)';
BEGIN
    IF "precision" NOT IN ('vector', 'halfvec') THEN
        RAISE EXCEPTION 'unknown precision %', "precision";
    END IF;
    DROP VIEW IF EXISTS mkmed.drug_vector, mkmed.modality_vector;
    EXECUTE format(
        $view$CREATE VIEW mkmed.drug_vector AS SELECT e.drug_id, (e.embedding)::%s(%s) AS embedding,
        mkmed.modality_names(e.rests_on) AS rests_on, e.run_id %s AND e.modality = 'fused'$view$,
        "precision", width, published_rows);
    EXECUTE format(
        $view$CREATE VIEW mkmed.modality_vector AS SELECT e.drug_id, e.modality, (e.embedding)::%s(%s) AS embedding,
        e.run_id %s AND e.modality <> 'fused'$view$,
        "precision", width, published_rows);
    COMMENT ON VIEW mkmed.drug_vector IS 'The published fused vector of every drug, and the modalities that it rests on.';
    COMMENT ON VIEW mkmed.modality_vector IS 'The published vectors of single modalities (and of the molecule).';
END
$define$;

CALL mkmed.define_vector_views('vector', 64);

CREATE FUNCTION mkmed.candidates(atc text, has text[]) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
    SELECT array_agg(d.id) FROM mkmed.drug d
    WHERE (atc IS NULL OR EXISTS (SELECT 1 FROM mkmed.drug_atc a WHERE a.drug_id = d.id AND starts_with(a.code, upper(atc))))
      AND (has IS NULL OR (SELECT count(DISTINCT c.modality) FROM mkmed.cell c
                           WHERE c.drug_id = d.id AND c.state = 'present' AND c.modality = ANY (has))
                          = (SELECT count(DISTINCT h) FROM unnest(has) h))
$$;
COMMENT ON FUNCTION mkmed.candidates IS 'The ids of the drugs in an ATC class (any level) that have all the named modalities.';

CREATE FUNCTION mkmed.nearest(query vector, k int, modality text, atc text, has text[], leave_out bigint)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 200
AS $$
DECLARE
    run mkmed.embedding_run;
    typed text;
    chosen bigint[];
    filtered boolean := atc IS NOT NULL OR has IS NOT NULL;
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.* INTO run FROM mkmed.embedding_run r JOIN mkmed.published p ON p.run_id = r.run_id;
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
    RETURN QUERY EXECUTE format(
        'SELECT near.drug_id, d.name, (1 - near.distance)::real, mkmed.modality_names(near.rests_on),
                (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.drug_atc c WHERE c.drug_id = near.drug_id)
         FROM (SELECT e.drug_id, e.rests_on, (e.embedding)::%1$s <=> $1::%1$s AS distance
               FROM mkmed.embedding e %2$s
               WHERE e.run_id = %3$L AND e.modality = %4$L AND e.drug_id IS DISTINCT FROM $2 %5$s
               ORDER BY (e.embedding)::%1$s <=> $1::%1$s LIMIT $3) near
         JOIN mkmed.drug d ON d.id = near.drug_id ORDER BY near.distance, near.drug_id',
        typed,
        CASE WHEN filtered AND cardinality(chosen) <= 50000 THEN 'JOIN unnest($4) AS pick(id) ON pick.id = e.drug_id' ELSE '' END,
        run.run_id, modality,
        CASE WHEN filtered AND cardinality(chosen) > 50000 THEN 'AND e.drug_id = ANY ($4)' ELSE '' END)
    USING query, leave_out, k, chosen;
END
$$;
COMMENT ON FUNCTION mkmed.nearest IS 'What similar_to, similar_drugs and similar_across share.';

CREATE FUNCTION mkmed.similar_to(query vector, k int DEFAULT 10, modality text DEFAULT 'fused', atc text DEFAULT NULL,
                                 has text[] DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$ SELECT * FROM mkmed.nearest(query, k, modality, atc, has, NULL) $$;
COMMENT ON FUNCTION mkmed.similar_to IS
    'The k drugs nearest to a vector by cosine similarity, optionally only in an ATC class or with given modalities.';

CREATE FUNCTION mkmed.vector_of(drug text, modality text DEFAULT 'fused') RETURNS vector
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
DECLARE
    wanted bigint := mkmed.find_drug(drug);
    found vector;
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'no drug % in the knowledge base', quote_literal(drug)
            USING HINT = 'find it by a part of its name: mkmed kb search TEXT', ERRCODE = 'no_data_found';
    END IF;
    SELECT e.embedding INTO found FROM mkmed.embedding e
    WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p) AND e.modality = vector_of.modality AND e.drug_id = wanted;
    IF found IS NULL THEN
        RAISE EXCEPTION '% has no % vector in the published run', quote_literal(drug), modality
            USING HINT = 'SELECT * FROM mkmed.availability shows what it lacks', ERRCODE = 'no_data_found';
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION mkmed.vector_of IS 'The published vector of a drug, found by name, synonym, InChIKey or namespace:value.';

CREATE FUNCTION mkmed.similar_drugs(drug text, k int DEFAULT 10, modality text DEFAULT 'fused', atc text DEFAULT NULL,
                                    has text[] DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
    SELECT * FROM mkmed.nearest(mkmed.vector_of(drug, modality), k, modality, atc, has, mkmed.find_drug(drug))
$$;
COMMENT ON FUNCTION mkmed.similar_drugs IS 'The k drugs most like a drug, in one modality''s vectors or in the fused ones.';

CREATE FUNCTION mkmed.similar_across(drug text, from_modality text, to_modality text, k int DEFAULT 10)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$ SELECT * FROM mkmed.nearest(mkmed.vector_of(drug, from_modality), k, to_modality, NULL, NULL, NULL) $$;
COMMENT ON FUNCTION mkmed.similar_across IS
    'Cross-modal search: the drugs whose to_modality vector is nearest to the drug''s from_modality vector.';
