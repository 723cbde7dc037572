-- Indications and contraindications: the table, its history, the public view, and the views that look over all facts.

CREATE TABLE mkmed.indication (
    drug_id bigint NOT NULL,
    source text NOT NULL CONSTRAINT fk_indication_source REFERENCES mkmed.source (name),
    record_source text NOT NULL,
    record_key text NOT NULL,
    provider text NOT NULL,
    kind text NOT NULL,
    disease_key text NOT NULL,
    disease text NOT NULL,
    disease_ids text[] NOT NULL,
    icd10 text[] NOT NULL,
    icd10_by text,
    phase double precision,
    evidence text,
    reference text,
    licence_id text NOT NULL CONSTRAINT fk_indication_licence_id REFERENCES mkmed.licence (id),
    artifact bytea NOT NULL CONSTRAINT fk_indication_artifact REFERENCES mkmed.artifact (id),
    since timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT pk_indication PRIMARY KEY (record_source, record_key, source, provider, kind, disease_key),
    CONSTRAINT fk_indication_record_source_record_key_drug_id FOREIGN KEY (record_source, record_key, drug_id)
        REFERENCES mkmed.drug_record (source, key, drug_id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT ck_indication_kind CHECK (kind IN ('indication', 'symptomatic', 'contraindication', 'off-label'))
);
COMMENT ON COLUMN mkmed.indication.record_source IS 'the record that the statement is about';
COMMENT ON COLUMN mkmed.indication.disease_key IS 'the disease''s first id, or its name in small letters';
COMMENT ON COLUMN mkmed.indication.disease_ids IS '{mesh:D003924, doid:9352, …}';
COMMENT ON COLUMN mkmed.indication.icd10 IS 'codes of ICD-10-CM without the dot';
COMMENT ON COLUMN mkmed.indication.icd10_by IS 'what gave the codes: the source, a table, or an equal title';
COMMENT ON COLUMN mkmed.indication.phase IS 'of the trials, 4 for what is approved';
CREATE INDEX ix_indication_drug_id ON mkmed.indication (drug_id);
CREATE INDEX ix_indication_icd10 ON mkmed.indication USING gin (icd10);
CREATE INDEX ix_indication_disease_key ON mkmed.indication (disease_key);

CREATE TRIGGER retire_deleted BEFORE DELETE ON mkmed.indication FOR EACH ROW EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_changed BEFORE UPDATE ON mkmed.indication FOR EACH ROW
    WHEN ((OLD.drug_id, OLD.disease, OLD.disease_ids, OLD.icd10, OLD.phase, OLD.evidence, OLD.reference, OLD.licence_id)
          IS DISTINCT FROM
          (NEW.drug_id, NEW.disease, NEW.disease_ids, NEW.icd10, NEW.phase, NEW.evidence, NEW.reference, NEW.licence_id))
    EXECUTE FUNCTION mkmed.retire();

CREATE VIEW mkmed.indications WITH (security_barrier) AS
SELECT i.drug_id, d.name, i.kind, i.disease, i.disease_ids, i.icd10, i.icd10_by, i.phase, i.evidence, i.reference, i.provider,
       i.source, i.licence_id, l.share, a.url, a.retrieved_at, encode(a.content, 'hex') AS sha256
FROM mkmed.indication i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id
JOIN mkmed.licence l ON l.id = i.licence_id JOIN mkmed.artifact a ON a.id = i.artifact
WHERE i.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.indications IS
    'What a drug is given for, or must not be: disease with ids and ICD-10-CM codes, kind, phase or evidence, who says so.';

CREATE OR REPLACE VIEW mkmed.documents WITH (security_barrier) AS
SELECT a.source, s.origin, a.url, a.http_status, a.media_type, a.licence_id, l.share, a.attribution, a.upstream_version,
       a.parser, a.retrieved_at, encode(a.content, 'hex') AS sha256, b.bytes, b.payload
FROM mkmed.artifact a JOIN mkmed.content b ON b.sha256 = a.content JOIN mkmed.licence l ON l.id = a.licence_id
JOIN mkmed.source s ON s.name = a.source
WHERE (SELECT mkmed.may_read_closed()) OR (
    s.origin <> 'computed' AND a.licence_id IN (SELECT r.id FROM mkmed.readable_licence r)
    AND NOT EXISTS (SELECT FROM mkmed.text t WHERE t.artifact = a.id
                    AND t.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r))
    AND NOT EXISTS (SELECT FROM mkmed.interaction i WHERE i.artifact = a.id
                    AND i.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r))
    AND NOT EXISTS (SELECT FROM mkmed.indication i WHERE i.artifact = a.id
                    AND i.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r))
    AND NOT EXISTS (SELECT FROM mkmed.kg_provenance p WHERE p.artifact = a.id
                    AND p.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r)));

CREATE OR REPLACE VIEW mkmed.history WITH (security_barrier) AS
WITH fact AS (
    SELECT r.kind, r.drug_id, r.source, r.key AS record, r.fact, r.licence_id, r.since, r.until FROM mkmed.retired r
    UNION ALL
    SELECT 'drug_record', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'digest', 'updated_at'], a.licence_id, t.since, NULL
    FROM mkmed.drug_record t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'drug_name', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'name_key'], a.licence_id, t.since, NULL
    FROM mkmed.drug_name t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'identifier', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.identifier t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'drug_atc', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.drug_atc t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'text', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.text t
    UNION ALL
    SELECT 'image', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.image t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'conformer', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.conformer t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'property_set', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact', 'updated_at'], a.licence_id, t.since, NULL
    FROM mkmed.property_set t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'interaction', t.drug_a, t.source, t.a_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.interaction t
    UNION ALL
    SELECT 'indication', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.indication t
)
SELECT f.kind, f.drug_id, f.source, f.record, f.fact, f.licence_id, f.since, f.until FROM fact f
WHERE (SELECT mkmed.may_read_closed()) OR (
    f.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    AND (f.source NOT IN (SELECT s.name FROM mkmed.source s WHERE s.origin = 'computed')
         OR f.until IS NULL AND f.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open)));
