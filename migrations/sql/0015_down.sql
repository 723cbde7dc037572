-- Takes indications away again: the two views as they were, then view and table.

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
)
SELECT f.kind, f.drug_id, f.source, f.record, f.fact, f.licence_id, f.since, f.until FROM fact f
WHERE (SELECT mkmed.may_read_closed()) OR (
    f.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    AND (f.source NOT IN (SELECT s.name FROM mkmed.source s WHERE s.origin = 'computed')
         OR f.until IS NULL AND f.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open)));

DROP VIEW mkmed.indications;
DROP TABLE mkmed.indication;
