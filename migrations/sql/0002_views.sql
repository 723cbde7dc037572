-- The public views of the knowledge base. Each one is documented in docs/sql.md.

CREATE VIEW mkmed.bucket AS
SELECT d.id AS drug_id, d.name,
       coalesce(bool_or(c.modality = 'image'), false)     AS image,
       coalesce(bool_or(c.modality = 'text'), false)      AS text,
       coalesce(bool_or(c.modality = 'structure'), false) AS structure,
       coalesce(bool_or(c.modality = 'property'), false)  AS property,
       coalesce(bool_or(c.modality = 'graph'), false)     AS graph,
       count(DISTINCT c.modality)::int                    AS modalities
FROM mkmed.drug d
LEFT JOIN mkmed.cell c ON c.drug_id = d.id AND c.state = 'present' AND c.modality <> 'identity'
GROUP BY d.id, d.name;
COMMENT ON VIEW mkmed.bucket IS 'One row a drug: which of the five modalities any source has, and how many.';

CREATE VIEW mkmed.drugs AS
SELECT d.id AS drug_id, d.name, d.kind, d.identity, d.inchikey, d.smiles, d.formula,
       (SELECT array_agg(DISTINCT i.namespace || ':' || i.value) FROM mkmed.identifier i WHERE i.drug_id = d.id) AS identifiers,
       (SELECT array_agg(DISTINCT a.code) FROM mkmed.drug_atc a WHERE a.drug_id = d.id) AS atc,
       (SELECT array_agg(DISTINCT r.source) FROM mkmed.drug_record r WHERE r.drug_id = d.id) AS sources
FROM mkmed.drug d;
COMMENT ON VIEW mkmed.drugs IS 'One row a drug with its identifiers, ATC codes and the sources that know it.';

CREATE VIEW mkmed.availability AS
SELECT c.drug_id, d.name, c.modality, c.source, s.origin, c.state, c.attempts, c.evidence, c.last_error, c.updated_at
FROM mkmed.cell c JOIN mkmed.drug d ON d.id = c.drug_id JOIN mkmed.source s ON s.name = c.source;
COMMENT ON VIEW mkmed.availability IS 'The ledger: the state of every (drug, modality, source), with what proves it.';

CREATE VIEW mkmed.provenance AS
SELECT c.drug_id, d.name, c.modality, c.source, s.origin, a.url, a.retrieved_at, a.licence_id, l.title AS licence,
       l.share, a.attribution, a.upstream_version, a.parser, encode(a.sha256, 'hex') AS sha256, a.bytes, a.run_id
FROM mkmed.cell c
JOIN mkmed.drug d ON d.id = c.drug_id
JOIN mkmed.source s ON s.name = c.source
JOIN mkmed.artifact a ON a.sha256 = c.artifact
JOIN mkmed.licence l ON l.id = a.licence_id;
COMMENT ON VIEW mkmed.provenance IS 'Where each cell of the bucket matrix came from: URL, time, licence, sha256.';

CREATE VIEW mkmed.texts AS
SELECT t.drug_id, d.name, t.provider, t.heading, t.content, t.url, t.licence_id, l.share, t.is_note, t.source
FROM mkmed.text t JOIN mkmed.drug d ON d.id = t.drug_id JOIN mkmed.licence l ON l.id = t.licence_id;
COMMENT ON VIEW mkmed.texts IS 'Every description, with who wrote it and under which licence.';

CREATE VIEW mkmed.properties AS
SELECT p.drug_id, d.name, e.key AS property, (e.value)::float8 AS value, k.unit, p.source, s.origin
FROM mkmed.property_set p
JOIN mkmed.drug d ON d.id = p.drug_id
JOIN mkmed.source s ON s.name = p.source
CROSS JOIN LATERAL jsonb_each_text(p.values) e
LEFT JOIN mkmed.property_kind k ON k.name = e.key;
COMMENT ON VIEW mkmed.properties IS 'One row a number: property, value, unit, and whether it was fetched or computed.';

CREATE VIEW mkmed.triples AS
SELECT h.name AS head, h.label AS head_label, r.name AS relation, t.name AS tail, t.label AS tail_label,
       h.type AS head_type, t.type AS tail_type, r.provider, r.licence_id
FROM mkmed.kg_triple k
JOIN mkmed.kg_entity h ON h.id = k.head
JOIN mkmed.kg_relation r ON r.id = k.relation
JOIN mkmed.kg_entity t ON t.id = k.tail;
COMMENT ON VIEW mkmed.triples IS 'The knowledge graph by name, with the licence of each relation.';

CREATE VIEW mkmed.interactions AS
SELECT i.drug_a, a.name AS name_a, i.drug_b, b.name AS name_b, i.severity, i.description, i.provider, i.source, i.licence_id
FROM mkmed.interaction i JOIN mkmed.drug a ON a.id = i.drug_a JOIN mkmed.drug b ON b.id = i.drug_b;
COMMENT ON VIEW mkmed.interactions IS 'Drug-drug interactions by name, each pair once.';

CREATE FUNCTION mkmed.find_drug(wanted text) RETURNS bigint
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
