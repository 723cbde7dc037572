-- What each role may do in the schema. Part of `mkmed db roles`, and made anew by every `mkmed db upgrade` where the roles
-- are there, so that new views are granted and nothing else is.

DO $grants$
DECLARE
    public_views constant text[] := ARRAY[
        'atc', 'atc_classes', 'availability', 'bucket', 'conformers', 'ddd', 'documents', 'drug_entities', 'drug_targets',
        'drug_uses', 'drug_vector', 'drugs', 'edge_notes', 'edges', 'entities', 'fingerprints', 'history',
        'identifiers', 'images', 'indications', 'interactions', 'licences', 'modality_vector', 'names', 'products',
        'properties', 'provenance', 'published_run', 'published_vector', 'readable_relation', 'records', 'relations', 'runs',
        'schema_version', 'sources', 'substance_relations', 'texts', 'triples'];
    public_functions constant text[] := ARRAY[
        'action_of', 'candidates', 'facet_features', 'find_drug', 'find_drugs', 'is_open', 'is_open_share', 'late_fusion',
        'may_read_closed', 'modality_names', 'nearest', 'says_use', 'search_text', 'similar_across', 'similar_drugs',
        'similar_structures', 'similar_to', 'similar_to_bits', 'vector_of'];
    target record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mkmed_reader') THEN
        RETURN;
    END IF;
    -- One at a time: two that grant the same at once would be refused as a concurrent update.
    PERFORM pg_advisory_xact_lock(1835559027);
    GRANT USAGE ON SCHEMA mkmed, ext TO mkmed_ingest, mkmed_reader;
    -- Readers: the views and functions named above, and no table, now or later.
    REVOKE ALL ON ALL TABLES IN SCHEMA mkmed FROM mkmed_reader, PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed REVOKE ALL ON TABLES FROM mkmed_reader;
    FOR target IN SELECT relname FROM pg_class WHERE relnamespace = 'mkmed'::regnamespace AND relkind = 'v'
                  AND relname = ANY (public_views) LOOP
        EXECUTE format('GRANT SELECT ON mkmed.%I TO mkmed_reader', target.relname);
    END LOOP;
    REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA mkmed FROM PUBLIC, mkmed_reader;
    FOR target IN SELECT oid::regprocedure AS signature FROM pg_proc WHERE pronamespace = 'mkmed'::regnamespace
                  AND proname = ANY (public_functions) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO mkmed_reader', target.signature);
    END LOOP;
    -- Ingests: every table and routine; what only an owner may do stands in routines with the owner's rights.
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mkmed TO mkmed_ingest;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA mkmed TO mkmed_ingest;
    ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mkmed_ingest;
    GRANT EXECUTE ON ALL ROUTINES IN SCHEMA mkmed TO mkmed_ingest;
    IF to_regprocedure('mkmed.add_reader(text)') IS NOT NULL THEN
        REVOKE EXECUTE ON PROCEDURE mkmed.add_reader FROM mkmed_ingest;
    END IF;
    IF current_setting('server_version_num')::int >= 170000 THEN
        EXECUTE 'GRANT MAINTAIN ON ALL TABLES IN SCHEMA mkmed TO mkmed_ingest';  -- ANALYZE
    END IF;
END
$grants$;
