-- An index may compare signs only, one bit a number: a thirty-second of the vectors' size, whose answers are ranked anew.

CREATE OR REPLACE PROCEDURE mkmed.index_vector_table(run uuid, modality text, precision_ text, width int, m int, ef_construction int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $index$
DECLARE
    whole constant text := 'embedding_' || replace(run::text, '-', '');
    home constant text := (SELECT n.nspname FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
                           WHERE x.extname = 'vector');
BEGIN
    EXECUTE format('ALTER TABLE mkmed.%I ADD PRIMARY KEY (run_id, modality, drug_id)', whole || '_' || modality);
    IF m > 0 THEN
        IF precision_ NOT IN ('vector', 'halfvec', 'bit') THEN
            RAISE EXCEPTION 'no index is of precision %', quote_literal(precision_) USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('CREATE INDEX ON mkmed.%I USING hnsw ((%s) %I.%I) WITH (m = %s, ef_construction = %s)',
                       whole || '_' || modality,
                       CASE precision_ WHEN 'bit' THEN format('%I.binary_quantize(embedding)::bit(%s)', home, width)
                       ELSE format('embedding::%I.%I(%s)', home, precision_, width) END,
                       home, CASE precision_ WHEN 'bit' THEN 'bit_hamming_ops' ELSE precision_ || '_cosine_ops' END,
                       m, ef_construction);
    END IF;
    EXECUTE format('ALTER TABLE mkmed.%I ATTACH PARTITION mkmed.%I FOR VALUES IN (%L)', whole, whole || '_' || modality, modality);
    EXECUTE format('ANALYZE mkmed.%I', whole || '_' || modality);
END
$index$;

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
    table_read text := CASE WHEN mkmed.may_read_closed() AND has_table_privilege('mkmed.embedding', 'SELECT') THEN 'embedding'
                       ELSE 'published_vector' END;
    among text;
    many int;
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
    typed := format('%s(%s)', CASE run.precision WHEN 'bit' THEN 'vector' ELSE run.precision END, wide);
    IF filtered THEN
        chosen := coalesce(mkmed.candidates(atc, has), '{}');
    END IF;
    -- Few candidates: compare with every one of them, which is exact. Many: walk the index until k rows passed.
    -- A reader has no index, since the view that it reads decides first which rows there are; that is exact too.
    among := format('mkmed.%s e %s WHERE e.run_id = %L AND e.modality = %L AND e.drug_id IS DISTINCT FROM $2 %s', table_read,
        CASE WHEN filtered AND cardinality(chosen) <= 50000 THEN 'JOIN unnest($4) AS pick(id) ON pick.id = e.drug_id' ELSE '' END,
        run.run_id, modality,
        CASE WHEN filtered AND cardinality(chosen) > 50000 THEN 'AND e.drug_id = ANY ($4)' ELSE '' END);
    -- An index of signs finds many that may be near (a thousand hold .99 of the ten nearest: bench_store.py), and their
    -- vectors say which are.
    many := greatest(40 * k, 1000);
    IF run.precision = 'bit' AND table_read = 'embedding' AND NOT (filtered AND cardinality(chosen) <= 50000)
       AND EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
                   WHERE a.amname = 'hnsw' AND i.indrelid
                       = to_regclass(format('mkmed.%I', 'embedding_' || replace(run.run_id::text, '-', '') || '_' || modality))) THEN
        PERFORM set_config('hnsw.ef_search', least(many, 1000)::text, true);
        among := format('(SELECT e.drug_id, e.rests_on, e.embedding FROM %1$s
            ORDER BY binary_quantize(e.embedding)::bit(%2$s) <~> binary_quantize($1)::bit(%2$s) LIMIT $5) e', among, wide);
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT near.drug_id, d.name, (1 - near.distance)::real, mkmed.modality_names(near.rests_on),
                (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = near.drug_id)
         FROM (SELECT e.drug_id, e.rests_on, (e.embedding)::%1$s <=> $1::%1$s AS distance FROM %2$s
               ORDER BY (e.embedding)::%1$s <=> $1::%1$s LIMIT $3) near
         CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = near.drug_id) d
         ORDER BY near.distance, near.drug_id',
        typed, among)
    USING query, leave_out, k, chosen, many;
END
$$;
