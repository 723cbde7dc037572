-- What a record of another substance lists with the structure that its source drew for it (the CID and CAS number of
-- heparin, at enoxaparin) names the structure's drug, which has it too.

CREATE OR REPLACE VIEW mkmed.identifiers WITH (security_barrier) AS
SELECT i.drug_id, i.namespace, i.value, i.source, i.key, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.identifier i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id
JOIN mkmed.readable_artifact a ON a.id = i.artifact
-- Two subplans, not a join: few records are parted, and whoever reads every identifier shall not join for them.
WHERE (i.source, i.key) NOT IN (SELECT c.source, c.key FROM mkmed.drug_conflict c WHERE c.kind = 'structure')
   OR NOT EXISTS (
    SELECT FROM mkmed.drug_conflict c JOIN mkmed.drug o ON o.identity = c.identifier
    JOIN mkmed.identifier s ON s.drug_id = o.id
    WHERE c.kind = 'structure' AND c.source = i.source AND c.key = i.key AND o.id <> i.drug_id
      AND s.namespace = i.namespace AND s.value = i.value);
COMMENT ON VIEW mkmed.identifiers IS 'Every identifier of a drug with who gives it.';
