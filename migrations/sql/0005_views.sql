-- The views and functions that read claims: interactions by pair, look-up with all candidates, relations, history.

CREATE OR REPLACE VIEW mkmed.interactions AS
SELECT a.id AS drug_a, a.name AS name_a, b.id AS drug_b, b.name AS name_b, i.severity, i.description, i.provider, i.source, i.licence_id
FROM mkmed.interaction i
JOIN mkmed.drug a ON a.id = least(i.drug_a, i.drug_b)
JOIN mkmed.drug b ON b.id = greatest(i.drug_a, i.drug_b)
WHERE i.drug_a <> i.drug_b;
COMMENT ON VIEW mkmed.interactions IS 'Drug-drug interactions by name, one row a statement; drug_a < drug_b.';

CREATE VIEW mkmed.substance_relations AS
SELECT d.id AS drug_id, d.name, r.relation, o.id AS other_id, o.name AS other_name, coalesce(o.inchikey, r.inchikey) AS other_inchikey
FROM mkmed.substance_relation r JOIN mkmed.drug d ON d.id = r.drug_id LEFT JOIN mkmed.drug o ON o.inchikey = r.inchikey
WHERE r.relation <> 'stereo-unspecified of'
UNION ALL
SELECT f.id, f.name, r.relation, d.id, d.name, d.inchikey
FROM mkmed.substance_relation r JOIN mkmed.drug d ON d.id = r.drug_id JOIN mkmed.drug f ON f.inchikey = r.inchikey
WHERE r.relation = 'stereo-unspecified of';
COMMENT ON VIEW mkmed.substance_relations IS
    'Which substance is a salt, hydrate, labelled form or stereo-unspecified form of which other, or has it in a mixture.';

CREATE FUNCTION mkmed.find_drugs(wanted text)
RETURNS TABLE (drug_id bigint, name text, matched text, how text, rank int, is_parent boolean)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
    WITH asked AS (
        SELECT regexp_replace(trim(normalize(wanted, NFC)), '\s+', ' ', 'g') AS called
    ), hits AS (
        SELECT d.id, d.inchikey AS matched, 'InChIKey' AS how, 0 AS rank FROM mkmed.drug d, asked
        WHERE d.inchikey = regexp_replace(upper(called), '^INCHIKEY[:=]', '')
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 1 FROM mkmed.identifier i, asked
        WHERE i.namespace = lower(split_part(called, ':', 1))
          AND i.value IN (upper(substr(called, strpos(called, ':') + 1)), substr(called, strpos(called, ':') + 1))
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'key of a user''s table', 1 FROM mkmed.identifier i, asked
        WHERE lower(split_part(called, ':', 1)) = 'user' AND i.value = substr(called, 6) AND i.namespace LIKE 'user.%'
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 2 FROM mkmed.identifier i, asked
        WHERE i.namespace IN ('drugbank', 'cas') AND i.value = upper(called)
        UNION ALL
        SELECT n.drug_id, n.name, CASE n.kind WHEN 'preferred' THEN 'name' ELSE n.kind END,
               CASE n.kind WHEN 'preferred' THEN 3 ELSE 4 END FROM mkmed.drug_name n, asked WHERE n.name_key = lower(called)
    ), best AS (
        SELECT DISTINCT ON (h.id) h.id, h.matched, h.how, h.rank FROM hits h ORDER BY h.id, h.rank, h.matched
    )
    SELECT b.id, d.name, b.matched, b.how, b.rank,
           d.inchikey IS NOT NULL AND NOT EXISTS (
               SELECT FROM best o WHERE o.rank = b.rank AND o.id <> b.id AND NOT EXISTS (
                   SELECT FROM mkmed.substance_relation r WHERE r.drug_id = o.id AND r.inchikey = d.inchikey))
    FROM best b JOIN mkmed.drug d ON d.id = b.id ORDER BY 5, 6 DESC, 1
$$;
COMMENT ON FUNCTION mkmed.find_drugs IS
    'Every drug with this InChIKey, namespace:value, DrugBank id, CAS number, name or synonym: how each matched, the best
    first. is_parent: the others of the same rank are its salts, hydrates, mixtures or labelled forms.';

CREATE OR REPLACE FUNCTION mkmed.find_drug(wanted text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$ SELECT drug_id FROM mkmed.find_drugs(wanted) LIMIT 1 $$;
COMMENT ON FUNCTION mkmed.find_drug IS
    'The id of the first of find_drugs(wanted): the best match, of equal ones the parent substance, then the lowest id; NULL
    where there is none. Where several match equally well, find_drugs shows them all.';

CREATE VIEW mkmed.history AS
SELECT r.kind, r.drug_id, r.source, r.key AS record, r.fact, r.licence_id, r.since, r.until FROM mkmed.retired r
UNION ALL
SELECT 'drug_record', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'digest', 'updated_at'], a.licence_id, t.since, NULL
FROM mkmed.drug_record t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'drug_name', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'name_key'], a.licence_id, t.since, NULL
FROM mkmed.drug_name t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'identifier', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
FROM mkmed.identifier t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'drug_atc', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
FROM mkmed.drug_atc t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'text', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL FROM mkmed.text t
UNION ALL
SELECT 'image', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
FROM mkmed.image t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'conformer', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
FROM mkmed.conformer t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'property_set', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact', 'updated_at'], a.licence_id, t.since, NULL
FROM mkmed.property_set t JOIN mkmed.artifact a ON a.sha256 = t.artifact
UNION ALL
SELECT 'interaction', t.drug_a, t.source, t.a_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
FROM mkmed.interaction t;
COMMENT ON VIEW mkmed.history IS
    'What was true when: every fact as a row of JSON with the time since which it was here, and until when (NULL: still).';
