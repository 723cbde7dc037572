CREATE OR REPLACE VIEW mkmed.identifiers WITH (security_barrier) AS
SELECT i.drug_id, i.namespace, i.value, i.source, i.key, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.identifier i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id
JOIN mkmed.readable_artifact a ON a.id = i.artifact;
