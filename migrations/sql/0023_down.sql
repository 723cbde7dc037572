-- The view of texts as it was, without the column that goes.
DROP VIEW mkmed.texts;
ALTER TABLE mkmed.text DROP COLUMN language;
CREATE VIEW mkmed.texts WITH (security_barrier) AS
SELECT t.drug_id, d.name, t.provider, t.heading, t.content, t.url, t.licence_id, l.share, t.is_note, t.source,
       a.url AS retrieved_from, a.retrieved_at, encode(a.content, 'hex') AS sha256
FROM mkmed.text t JOIN mkmed.readable_drug d ON d.drug_id = t.drug_id JOIN mkmed.licence l ON l.id = t.licence_id
JOIN mkmed.artifact a ON a.id = t.artifact
WHERE t.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.texts IS 'Every description, with who wrote it and under which licence.';
