-- What a file stated of a relation, and for how long, is history too: how many triples, whose, under which licence.

ALTER TABLE mkmed.kg_provenance ADD COLUMN triples integer NOT NULL DEFAULT 0,
    ADD COLUMN since timestamptz NOT NULL DEFAULT statement_timestamp();
COMMENT ON COLUMN mkmed.kg_provenance.triples IS 'how many were written of it';
UPDATE mkmed.kg_provenance p SET since = a.retrieved_at FROM mkmed.artifact a WHERE a.id = p.artifact;
UPDATE mkmed.kg_provenance p SET triples = k.n
FROM (SELECT provenance, count(*) AS n FROM mkmed.kg_triple GROUP BY 1) k WHERE k.provenance = p.id;

CREATE OR REPLACE FUNCTION mkmed.retire() RETURNS trigger
LANGUAGE plpgsql
SET search_path = mkmed, pg_temp
AS $$
DECLARE
    old_row jsonb := to_jsonb(OLD);
BEGIN
    IF TG_TABLE_NAME = 'kg_provenance' THEN  -- the relation's number may be another's one day
        old_row := old_row || jsonb_build_object('relation',
            (SELECT r.name FROM mkmed.kg_relation r WHERE r.id = (old_row ->> 'relation')::int));
    END IF;
    INSERT INTO mkmed.retired (kind, drug_id, source, key, fact, artifact, licence_id, since, until)
    VALUES (TG_TABLE_NAME,
            coalesce(old_row ->> 'drug_id', old_row ->> 'drug_a', CASE TG_TABLE_NAME WHEN 'drug' THEN old_row ->> 'id' END)::bigint,
            old_row ->> 'source', coalesce(old_row ->> 'key', old_row ->> 'record_key', old_row ->> 'a_key'),
            old_row - ARRAY['since', 'artifact', 'run_id', 'name_key', 'related_from', 'inchikey_block', 'digest', 'updated_at'],
            (old_row ->> 'artifact')::bytea,
            coalesce(old_row ->> 'licence_id',
                     (SELECT a.licence_id FROM mkmed.artifact a WHERE a.id = (old_row ->> 'artifact')::bytea)),
            OLD.since, greatest(statement_timestamp(), OLD.since));
    IF TG_OP = 'UPDATE' THEN
        NEW.since := statement_timestamp();
        RETURN NEW;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER retire_deleted BEFORE DELETE ON mkmed.kg_provenance FOR EACH ROW EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_changed BEFORE UPDATE ON mkmed.kg_provenance FOR EACH ROW
    WHEN (OLD.provider IS DISTINCT FROM NEW.provider OR OLD.licence_id IS DISTINCT FROM NEW.licence_id)
    EXECUTE FUNCTION mkmed.retire();

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
    UNION ALL
    SELECT 'kg_provenance', NULL, t.source, NULL,
           to_jsonb(t) - ARRAY['since', 'artifact'] || jsonb_build_object('relation', r.name), t.licence_id, t.since, NULL
    FROM mkmed.kg_provenance t JOIN mkmed.kg_relation r ON r.id = t.relation
)
SELECT f.kind, f.drug_id, f.source, f.record, f.fact, f.licence_id, f.since, f.until FROM fact f
WHERE (SELECT mkmed.may_read_closed()) OR (
    f.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    AND (f.source NOT IN (SELECT s.name FROM mkmed.source s WHERE s.origin = 'computed')
         OR f.until IS NULL AND f.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open)));
