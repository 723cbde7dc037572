-- The search function of revision 0012, in which all vectors have one width.

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
