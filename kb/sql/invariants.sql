-- The invariants of the knowledge base. Every query returns the rows that break it; a sound database returns none.
-- Each begins with a line "-- I<n>[letter]: what must hold".

-- I1a: a present cell has an artifact whose bytes have the sha256 that they are filed under
SELECT c.drug_id, c.modality, c.source, 'artifact missing or altered' AS problem
FROM mkmed.cell c LEFT JOIN mkmed.artifact a ON a.id = c.artifact LEFT JOIN mkmed.content b ON b.sha256 = a.content
WHERE c.state = 'present' AND (b.sha256 IS NULL OR (b.payload IS NOT NULL AND sha256(b.payload) <> b.sha256));

-- I1b: an artifact is filed under the hash of its content, source, URL, licence and status, so that none can be exchanged
SELECT encode(a.id, 'hex') AS artifact, a.source, a.url, 'not the id of this retrieval' AS problem
FROM mkmed.artifact a WHERE a.id <> mkmed.artifact_id(a.content, a.source, a.url, a.licence_id, a.http_status);

-- I2: an absent cell says what proves it, and the document that was the proof is kept where there was one
SELECT c.drug_id, c.modality, c.source, 'no evidence' AS problem
FROM mkmed.cell c LEFT JOIN mkmed.artifact a ON a.id = c.artifact
WHERE c.state = 'absent' AND (coalesce(c.evidence, '') = '' OR (c.evidence NOT LIKE 'rule:%' AND a.id IS NULL));

-- I3a: every image, text, conformer and property set has its present cell, on the same record
SELECT p.drug_id, p.modality, p.source, p.record_key, 'data without a present cell' AS problem FROM (
    SELECT drug_id, 'image' AS modality, source, record_source, record_key, artifact FROM mkmed.image
    UNION ALL SELECT drug_id, 'text', source, record_source, record_key, artifact FROM mkmed.text
    UNION ALL SELECT drug_id, 'structure', source, record_source, record_key, artifact FROM mkmed.conformer
    UNION ALL SELECT drug_id, 'property', source, record_source, record_key, artifact FROM mkmed.property_set) p
WHERE NOT EXISTS (SELECT FROM mkmed.cell c WHERE c.drug_id = p.drug_id AND c.modality = p.modality AND c.source = p.source
    AND c.record_source IS NOT DISTINCT FROM p.record_source AND c.record_key IS NOT DISTINCT FROM p.record_key
    AND c.state = 'present');

-- I3b: every present cell has its data, on the same record
SELECT c.drug_id, c.modality, c.source, c.record_key, 'present cell without data' AS problem
FROM mkmed.cell c
WHERE c.state = 'present' AND NOT CASE c.modality
    WHEN 'graph' THEN EXISTS (SELECT 1 FROM mkmed.drug_entity p WHERE p.drug_id = c.drug_id)
    WHEN 'identity' THEN EXISTS (SELECT 1 FROM mkmed.drug_record p WHERE p.source = c.record_source AND p.key = c.record_key)
    ELSE EXISTS (SELECT FROM (
    SELECT drug_id, 'image' AS modality, source, record_source, record_key, artifact FROM mkmed.image
    UNION ALL SELECT drug_id, 'text', source, record_source, record_key, artifact FROM mkmed.text
    UNION ALL SELECT drug_id, 'structure', source, record_source, record_key, artifact FROM mkmed.conformer
    UNION ALL SELECT drug_id, 'property', source, record_source, record_key, artifact FROM mkmed.property_set) p
        WHERE p.drug_id = c.drug_id AND p.modality = c.modality AND p.source = c.source
        AND p.record_source IS NOT DISTINCT FROM c.record_source AND p.record_key IS NOT DISTINCT FROM c.record_key)
END;

-- I4: the data of a cell and the cell name the same artifact (a text cell: one of its texts')
SELECT c.drug_id, c.modality, c.source, c.record_key, 'cell and data name different artifacts' AS problem
FROM mkmed.cell c
WHERE c.state = 'present' AND c.modality IN ('image', 'text', 'structure', 'property') AND NOT EXISTS (SELECT FROM (
    SELECT drug_id, 'image' AS modality, source, record_source, record_key, artifact FROM mkmed.image
    UNION ALL SELECT drug_id, 'text', source, record_source, record_key, artifact FROM mkmed.text
    UNION ALL SELECT drug_id, 'structure', source, record_source, record_key, artifact FROM mkmed.conformer
    UNION ALL SELECT drug_id, 'property', source, record_source, record_key, artifact FROM mkmed.property_set) p
    WHERE p.drug_id = c.drug_id AND p.modality = c.modality AND p.source = c.source
    AND p.record_source IS NOT DISTINCT FROM c.record_source AND p.record_key IS NOT DISTINCT FROM c.record_key
    AND p.artifact = c.artifact);

-- I6: a source whose last run was complete and unlimited has nothing left to ask for, so running it again asks nothing
SELECT c.drug_id, c.modality, c.source, 'unknown after a complete run' AS problem
FROM mkmed.cell c
JOIN LATERAL (SELECT r.status, r.config, r.started_at FROM mkmed.run r
              WHERE r.stage = 'ingest' AND r.name = c.source ORDER BY r.started_at DESC LIMIT 1) last ON true
WHERE c.state = 'unknown' AND last.status = 'complete' AND c.updated_at < last.started_at
  AND last.config ->> 'limit' IS NULL AND last.config ->> 'ids' IS NULL AND last.config ->> 'modalities' IS NULL;

-- I7: every record belongs to a drug, and every drug has a record
SELECT r.source, r.key, 'record without a drug' AS problem FROM mkmed.drug_record r WHERE r.drug_id IS NULL
UNION ALL
SELECT d.identity, d.name, 'drug without a record' FROM mkmed.drug d
WHERE NOT EXISTS (SELECT 1 FROM mkmed.drug_record r WHERE r.drug_id = d.id);

-- I7c: every index is finished, so that none lets through what it should forbid (mkmed db upgrade mends them)
SELECT c.relname AS index, i.indrelid::regclass::text AS "table", 'unfinished index' AS problem
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'mkmed'::regnamespace AND c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready)
  AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid);

-- I9: every row has a licence, its own or that of the retrieval that it was read from
SELECT t.kind, t.row, 'no licence' AS problem FROM (
    SELECT 'artifact' AS kind, encode(id, 'hex') AS row, licence_id FROM mkmed.artifact
    UNION ALL SELECT 'text', id::text, licence_id FROM mkmed.text
    UNION ALL SELECT 'interaction', drug_a || ' ' || drug_b, licence_id FROM mkmed.interaction
    UNION ALL SELECT 'indication', drug_id || ' ' || disease, licence_id FROM mkmed.indication
    UNION ALL SELECT 'kg_provenance', id::text, licence_id FROM mkmed.kg_provenance
    UNION ALL SELECT 'source', name, licence_id FROM mkmed.source) t
LEFT JOIN mkmed.licence l ON l.id = t.licence_id WHERE l.id IS NULL
UNION ALL
SELECT t.kind, t.row, 'no retrieval' FROM (
    SELECT 'drug_record' AS kind, source || ' ' || key AS row, artifact FROM mkmed.drug_record
    UNION ALL SELECT 'drug_name', drug_id || ' ' || name, artifact FROM mkmed.drug_name
    UNION ALL SELECT 'identifier', namespace || ':' || value, artifact FROM mkmed.identifier
    UNION ALL SELECT 'image', drug_id || ' ' || source, artifact FROM mkmed.image
    UNION ALL SELECT 'text', id::text, artifact FROM mkmed.text
    UNION ALL SELECT 'conformer', drug_id || ' ' || source, artifact FROM mkmed.conformer
    UNION ALL SELECT 'property_set', drug_id || ' ' || source, artifact FROM mkmed.property_set
    UNION ALL SELECT 'interaction', drug_a || ' ' || drug_b, artifact FROM mkmed.interaction
    UNION ALL SELECT 'indication', drug_id || ' ' || disease, artifact FROM mkmed.indication
    UNION ALL SELECT 'atc_class', code, artifact FROM mkmed.atc_class
    UNION ALL SELECT 'drug_atc', drug_id || ' ' || code, artifact FROM mkmed.drug_atc
    UNION ALL SELECT 'kg_provenance', id::text, artifact FROM mkmed.kg_provenance
    UNION ALL SELECT 'kg_entity', name, label_artifact FROM mkmed.kg_entity WHERE label IS NOT NULL) t
LEFT JOIN mkmed.artifact a ON a.id = t.artifact WHERE a.id IS NULL
UNION ALL
SELECT 'kg_triple', min(k.head || ' ' || k.relation || ' ' || k.tail), 'no provenance' FROM mkmed.kg_triple k
LEFT JOIN mkmed.kg_provenance p ON p.id = k.provenance AND p.relation = k.relation WHERE p.id IS NULL HAVING count(*) > 0
UNION ALL
SELECT 'kg_triple', min(k.head || ' ' || k.relation || ' ' || k.tail), 'no entity' FROM mkmed.kg_triple k
LEFT JOIN mkmed.kg_entity h ON h.id = k.head LEFT JOIN mkmed.kg_entity t ON t.id = k.tail
WHERE h.id IS NULL OR t.id IS NULL HAVING count(*) > 0;

-- I8a: whatever hangs on a record is filed under the record's drug
SELECT p.what, p.drug_id, p.source, p.key, 'not where its record is' AS problem FROM (
    SELECT 'name' AS what, drug_id, source, key FROM mkmed.drug_name
    UNION ALL SELECT 'identifier', drug_id, source, key FROM mkmed.identifier
    UNION ALL SELECT 'atc', drug_id, record_source, record_key FROM mkmed.drug_atc
    UNION ALL SELECT 'indication', drug_id, record_source, record_key FROM mkmed.indication
    UNION ALL SELECT 'image', drug_id, record_source, record_key FROM mkmed.image WHERE record_key IS NOT NULL
    UNION ALL SELECT 'text', drug_id, record_source, record_key FROM mkmed.text
    UNION ALL SELECT 'structure', drug_id, record_source, record_key FROM mkmed.conformer WHERE record_key IS NOT NULL
    UNION ALL SELECT 'property', drug_id, record_source, record_key FROM mkmed.property_set WHERE record_key IS NOT NULL
    UNION ALL SELECT 'cell', drug_id, record_source, record_key FROM mkmed.cell WHERE record_key IS NOT NULL
    UNION ALL SELECT 'interaction', drug_a, a_source, a_key FROM mkmed.interaction
    UNION ALL SELECT 'interaction', drug_b, b_source, b_key FROM mkmed.interaction) p
LEFT JOIN mkmed.drug_record r ON r.source = p.source AND r.key = p.key
WHERE r.drug_id IS DISTINCT FROM p.drug_id;

-- I8b: the identifiers of a drug are those that its records state, and no others
SELECT s.source, s.key, s.stated AS identifier, 'stated by the record, but not filed' AS problem FROM (
    SELECT r.source, r.key, i AS stated FROM mkmed.drug_record r CROSS JOIN LATERAL jsonb_array_elements_text(r.identifiers) i) s
WHERE NOT EXISTS (SELECT FROM mkmed.identifier f WHERE f.source = s.source AND f.key = s.key
    AND f.namespace = split_part(s.stated, ':', 1) AND f.value = substr(s.stated, strpos(s.stated, ':') + 1))
UNION ALL
SELECT f.source, f.key, f.namespace || ':' || f.value, 'filed, but not stated by the record' FROM mkmed.identifier f
LEFT JOIN mkmed.drug_record r ON r.source = f.source AND r.key = f.key
WHERE NOT coalesce(r.identifiers ? (f.namespace || ':' || f.value), false);

-- I8c: a drug is the one substance that its records state: one structure, and one drug a structure
SELECT d.identity, r.source, r.key, r.inchikey AS states, 'a record of another structure' AS problem
FROM mkmed.drug_record r JOIN mkmed.drug d ON d.id = r.drug_id
WHERE r.inchikey IS NOT NULL AND r.inchikey IS DISTINCT FROM d.inchikey AND NOT EXISTS (
    SELECT FROM mkmed.drug_conflict c WHERE c.source = r.source AND c.key = r.key AND c.identifier = 'inchikey:' || r.inchikey
    AND c.kind = 'structure')  -- taken without it, and listed
UNION ALL
SELECT d.identity, NULL, NULL, d.inchikey, 'identity and InChIKey differ' FROM mkmed.drug d
WHERE d.inchikey IS NOT NULL AND d.identity <> 'inchikey:' || d.inchikey OR d.inchikey IS NULL AND d.identity LIKE 'inchikey:%'
UNION ALL
SELECT d.identity, NULL, NULL, d.smiles, 'a SMILES that no record states' FROM mkmed.drug d
WHERE d.smiles IS NOT NULL AND NOT EXISTS (
    SELECT FROM mkmed.drug_record r WHERE r.drug_id = d.id AND r.smiles = d.smiles AND r.inchikey = d.inchikey);

-- I8d: what was computed names the SMILES that its drug has now
SELECT p.drug_id, p.modality, p.source, 'computed from another structure' AS problem FROM (
    SELECT drug_id, 'image' AS modality, source, record_key, input FROM mkmed.image
    UNION ALL SELECT drug_id, 'structure', source, record_key, input FROM mkmed.conformer
    UNION ALL SELECT drug_id, 'property', source, record_key, input FROM mkmed.property_set
    UNION ALL SELECT drug_id, modality, source, record_key, input FROM mkmed.cell
    WHERE modality <> 'graph' AND state NOT IN ('unknown', 'absent')
    UNION ALL SELECT drug_id, 'relation', 'rdkit', NULL, input FROM mkmed.substance_relation) p
JOIN mkmed.source s ON s.name = p.source AND s.origin = 'computed'
JOIN mkmed.drug d ON d.id = p.drug_id
WHERE p.record_key IS NULL AND p.input IS DISTINCT FROM sha256(convert_to(d.smiles, 'UTF8'));
