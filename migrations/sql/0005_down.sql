-- Back to the shape of 0003; of several rows of one drug and source the one of the first record stays.
DROP VIEW mkmed.history, mkmed.substance_relations;
CREATE OR REPLACE FUNCTION mkmed.find_drug(wanted text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
    SELECT drug_id FROM (
        SELECT id AS drug_id, 0 AS rank FROM mkmed.drug WHERE inchikey = regexp_replace(upper(wanted), '^INCHIKEY:', '')
        UNION ALL
        SELECT drug_id, 1 FROM mkmed.identifier
        WHERE namespace = lower(split_part(wanted, ':', 1))
          AND value IN (upper(substr(wanted, strpos(wanted, ':') + 1)), substr(wanted, strpos(wanted, ':') + 1))
        UNION ALL
        SELECT drug_id, 2 FROM mkmed.identifier WHERE namespace = 'drugbank' AND value = upper(wanted)
        UNION ALL
        SELECT drug_id, CASE kind WHEN 'preferred' THEN 3 ELSE 4 END FROM mkmed.drug_name WHERE name_key = lower(wanted)
    ) hits ORDER BY rank, drug_id LIMIT 1
$$;
COMMENT ON FUNCTION mkmed.find_drug IS
    'The id of the drug with this InChIKey, namespace:value, DrugBank id, name or synonym; NULL where there is none.';
DROP FUNCTION mkmed.find_drugs(text);
CREATE OR REPLACE VIEW mkmed.interactions AS
SELECT i.drug_a, a.name AS name_a, i.drug_b, b.name AS name_b, i.severity, i.description, i.provider, i.source, i.licence_id
FROM mkmed.interaction i JOIN mkmed.drug a ON a.id = i.drug_a JOIN mkmed.drug b ON b.id = i.drug_b;
COMMENT ON VIEW mkmed.interactions IS 'Drug-drug interactions by name, each pair once.';
DO $$
DECLARE facts text;
BEGIN
    FOREACH facts IN ARRAY ARRAY['drug', 'drug_record', 'drug_name', 'identifier', 'drug_atc', 'text', 'image', 'conformer',
                                 'property_set', 'interaction'] LOOP
        EXECUTE format('DROP TRIGGER retire_deleted ON mkmed.%1$I; DROP TRIGGER retire_changed ON mkmed.%1$I', facts);
    END LOOP;
END $$;
DROP FUNCTION mkmed.retire();
DROP TABLE mkmed.substance_relation, mkmed.retired, mkmed.snapshot;

ALTER TABLE mkmed.drug_name DROP CONSTRAINT pk_drug_name, DROP CONSTRAINT fk_drug_name_source_key_drug_id;
ALTER TABLE mkmed.identifier DROP CONSTRAINT pk_identifier, DROP CONSTRAINT fk_identifier_source_key_drug_id;
ALTER TABLE mkmed.drug_atc DROP CONSTRAINT pk_drug_atc, DROP CONSTRAINT fk_drug_atc_record_source_record_key_drug_id;
ALTER TABLE mkmed.interaction DROP CONSTRAINT pk_interaction, DROP CONSTRAINT fk_interaction_a_source_a_key_drug_a,
    DROP CONSTRAINT fk_interaction_b_source_b_key_drug_b;
DROP INDEX mkmed.ix_drug_name_drug_id, mkmed.ix_identifier_drug_id, mkmed.ix_drug_atc_drug_id, mkmed.ix_interaction_drug_a,
    mkmed.ix_interaction_b;
DO $$
DECLARE hung text;
        sole text;
BEGIN
    FOR hung, sole IN VALUES ('text', 'source, provider, content_sha256'), ('property_set', 'source'), ('conformer', 'source'),
                             ('image', 'source'), ('cell', 'modality, source'), ('drug_name', 'name, source'),
                             ('identifier', 'namespace, value, source'), ('drug_atc', 'code, source') LOOP
        EXECUTE format('DELETE FROM mkmed.%1$I t USING (SELECT ctid AS place, row_number() OVER (
                PARTITION BY drug_id, %2$s ORDER BY artifact, %3$s) AS place_of FROM mkmed.%1$I) d
            WHERE d.place = t.ctid AND d.place_of > 1', hung, sole,
            CASE WHEN hung IN ('drug_name', 'identifier') THEN 'key' ELSE 'record_source, record_key' END);
    END LOOP;
    FOREACH hung IN ARRAY ARRAY['text', 'property_set', 'conformer', 'image', 'cell'] LOOP
        EXECUTE format('ALTER TABLE mkmed.%1$I DROP CONSTRAINT fk_%1$s_record_source_record_key_drug_id', hung);
        EXECUTE format('DROP INDEX mkmed.ix_%1$s_drug_id, mkmed.uq_%1$s_place', hung);
        EXECUTE format('ALTER TABLE mkmed.%I DROP COLUMN record_source, DROP COLUMN record_key', hung);
        IF hung <> 'text' THEN
            EXECUTE format('ALTER TABLE mkmed.%I DROP COLUMN input', hung);
        END IF;
        IF hung <> 'cell' THEN
            EXECUTE format('ALTER TABLE mkmed.%I DROP COLUMN since', hung);
        END IF;
    END LOOP;
END $$;
UPDATE mkmed.interaction SET drug_a = drug_b, drug_b = drug_a WHERE drug_a > drug_b;
DELETE FROM mkmed.interaction t USING (
    SELECT ctid AS place, row_number() OVER (PARTITION BY drug_a, drug_b, source, provider ORDER BY a_source, a_key, b_source, b_key) AS n
    FROM mkmed.interaction) d WHERE d.place = t.ctid AND (d.n > 1 OR t.drug_a = t.drug_b);
ALTER TABLE mkmed.drug_record DROP CONSTRAINT uq_drug_record_place, DROP COLUMN digest, DROP COLUMN since;
ALTER TABLE mkmed.drug DROP COLUMN related_from, DROP COLUMN since;
ALTER TABLE mkmed.source DROP COLUMN dataset, DROP COLUMN version;
ALTER TABLE mkmed.drug_merge DROP COLUMN from_drug, DROP COLUMN kept;
ALTER TABLE mkmed.drug_conflict DROP COLUMN reason;
ALTER TABLE mkmed.drug_name DROP COLUMN key, DROP COLUMN since,
    ADD CONSTRAINT pk_drug_name PRIMARY KEY (drug_id, name, source),
    ADD CONSTRAINT fk_drug_name_drug_id FOREIGN KEY (drug_id) REFERENCES mkmed.drug (id) ON DELETE CASCADE,
    ADD CONSTRAINT fk_drug_name_source FOREIGN KEY (source) REFERENCES mkmed.source (name);
ALTER TABLE mkmed.identifier DROP COLUMN key, DROP COLUMN since,
    ADD CONSTRAINT pk_identifier PRIMARY KEY (drug_id, namespace, value, source),
    ADD CONSTRAINT fk_identifier_drug_id FOREIGN KEY (drug_id) REFERENCES mkmed.drug (id) ON DELETE CASCADE,
    ADD CONSTRAINT fk_identifier_source FOREIGN KEY (source) REFERENCES mkmed.source (name);
ALTER TABLE mkmed.drug_atc DROP COLUMN record_source, DROP COLUMN record_key, DROP COLUMN since,
    ADD CONSTRAINT pk_drug_atc PRIMARY KEY (drug_id, code, source),
    ADD CONSTRAINT fk_drug_atc_drug_id FOREIGN KEY (drug_id) REFERENCES mkmed.drug (id) ON DELETE CASCADE;
ALTER TABLE mkmed.interaction DROP COLUMN a_source, DROP COLUMN a_key, DROP COLUMN b_source, DROP COLUMN b_key, DROP COLUMN since,
    ADD CONSTRAINT pk_interaction PRIMARY KEY (drug_a, drug_b, source, provider),
    ADD CONSTRAINT ck_interaction_ordered CHECK (drug_a < drug_b),
    ADD CONSTRAINT fk_interaction_drug_a FOREIGN KEY (drug_a) REFERENCES mkmed.drug (id) ON DELETE CASCADE,
    ADD CONSTRAINT fk_interaction_drug_b FOREIGN KEY (drug_b) REFERENCES mkmed.drug (id) ON DELETE CASCADE;
ALTER TABLE mkmed.cell ADD CONSTRAINT pk_cell PRIMARY KEY (drug_id, modality, source);
ALTER TABLE mkmed.image ADD CONSTRAINT pk_image PRIMARY KEY (drug_id, source);
ALTER TABLE mkmed.conformer ADD CONSTRAINT pk_conformer PRIMARY KEY (drug_id, source);
ALTER TABLE mkmed.property_set ADD CONSTRAINT pk_property_set PRIMARY KEY (drug_id, source);
CREATE UNIQUE INDEX uq_text_drug_id_source_provider_content ON mkmed.text (drug_id, source, provider, content_sha256);
