-- A run's vectors lie in tables of their own, which only an owner may make, index, attach and remove. These procedures have
-- the owner's rights and do that for a run that the ledger knows, so that the ingest role can train and publish.

CREATE PROCEDURE mkmed.make_vector_tables(run uuid, modalities text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $make$
DECLARE
    whole constant text := 'embedding_' || replace(run::text, '-', '');
    modality text;
BEGIN
    IF NOT EXISTS (SELECT FROM mkmed.run r WHERE r.id = run) THEN
        RAISE EXCEPTION 'there is no run %', run USING ERRCODE = 'foreign_key_violation';
    END IF;
    EXECUTE format('CREATE TABLE mkmed.%I (LIKE mkmed.embedding INCLUDING DEFAULTS) PARTITION BY LIST (modality)', whole);
    EXECUTE format('ALTER TABLE mkmed.%I ADD PRIMARY KEY (run_id, modality, drug_id)', whole);
    FOREACH modality IN ARRAY modalities LOOP
        IF modality !~ '^[a-z]{1,16}$' THEN
            RAISE EXCEPTION 'no modality is called %', quote_literal(modality) USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('CREATE TABLE mkmed.%I (LIKE mkmed.embedding INCLUDING DEFAULTS)', whole || '_' || modality);
        EXECUTE format('ALTER TABLE mkmed.%I ALTER run_id SET DEFAULT %L, ALTER modality SET DEFAULT %L',
                       whole || '_' || modality, run, modality);
    END LOOP;
END
$make$;
COMMENT ON PROCEDURE mkmed.make_vector_tables IS 'Makes the tables of a run''s vectors, one a modality, which nobody reads yet.';

CREATE PROCEDURE mkmed.index_vector_table(run uuid, modality text, precision_ text, width int, m int, ef_construction int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $index$
DECLARE
    whole constant text := 'embedding_' || replace(run::text, '-', '');
    home constant text := (SELECT n.nspname FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
                           WHERE x.extname = 'vector');
BEGIN
    EXECUTE format('ALTER TABLE mkmed.%I ADD PRIMARY KEY (run_id, modality, drug_id)', whole || '_' || modality);
    IF m > 0 THEN
        IF precision_ NOT IN ('vector', 'halfvec') THEN
            RAISE EXCEPTION 'no index is of precision %', quote_literal(precision_) USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('CREATE INDEX ON mkmed.%I USING hnsw ((embedding::%I.%I(%s)) %I.%I) WITH (m = %s, ef_construction = %s)',
                       whole || '_' || modality, home, precision_, width, home, precision_ || '_cosine_ops', m, ef_construction);
    END IF;
    EXECUTE format('ALTER TABLE mkmed.%I ATTACH PARTITION mkmed.%I FOR VALUES IN (%L)', whole, whole || '_' || modality, modality);
    EXECUTE format('ANALYZE mkmed.%I', whole || '_' || modality);
END
$index$;
COMMENT ON PROCEDURE mkmed.index_vector_table IS
    'Indexes a filled table of a run''s vectors (HNSW where m is above 0) and joins it to the run''s own.';

-- The check constraint spares a scan, the foreign key is validated before, and the primary keys are there: attaching takes
-- no lock that readers wait for.
CREATE PROCEDURE mkmed.attach_vector_tables(run uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $attach$
DECLARE
    whole constant text := 'embedding_' || replace(run::text, '-', '');
BEGIN
    EXECUTE format('ALTER TABLE mkmed.%I ADD CONSTRAINT run CHECK (run_id = %L)', whole, run);
    EXECUTE format('ALTER TABLE mkmed.%I ADD FOREIGN KEY (drug_id) REFERENCES mkmed.drug (id) ON DELETE CASCADE', whole);
    EXECUTE format('ALTER TABLE mkmed.embedding ATTACH PARTITION mkmed.%I FOR VALUES IN (%L)', whole, run);
    EXECUTE format('ALTER TABLE mkmed.%I DROP CONSTRAINT run', whole);
END
$attach$;
COMMENT ON PROCEDURE mkmed.attach_vector_tables IS 'Makes the vectors of a run a part of mkmed.embedding.';

CREATE PROCEDURE mkmed.drop_vector_tables(run uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $drop$
BEGIN
    IF EXISTS (SELECT FROM mkmed.published p WHERE p.run_id = run) THEN
        RAISE EXCEPTION 'run % is published', run USING ERRCODE = 'object_in_use';
    END IF;
    EXECUTE format('DROP TABLE mkmed.%I', 'embedding_' || replace(run::text, '-', ''));
END
$drop$;
COMMENT ON PROCEDURE mkmed.drop_vector_tables IS 'Removes the vectors of a run that is not published.';
REVOKE EXECUTE ON PROCEDURE mkmed.make_vector_tables, mkmed.index_vector_table, mkmed.attach_vector_tables,
    mkmed.drop_vector_tables FROM PUBLIC;
