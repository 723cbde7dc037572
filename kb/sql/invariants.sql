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

-- I3a: every image, text, conformer and property set has its present cell
SELECT p.drug_id, p.modality, p.source, 'data without a present cell' AS problem FROM (
    SELECT drug_id, 'image' AS modality, source FROM mkmed.image
    UNION SELECT drug_id, 'text', source FROM mkmed.text
    UNION SELECT drug_id, 'structure', source FROM mkmed.conformer
    UNION SELECT drug_id, 'property', source FROM mkmed.property_set) p
LEFT JOIN mkmed.cell c USING (drug_id, modality, source)
WHERE c.state IS DISTINCT FROM 'present';

-- I3b: every present cell has its data
SELECT c.drug_id, c.modality, c.source, 'present cell without data' AS problem
FROM mkmed.cell c
WHERE c.state = 'present' AND NOT CASE c.modality
    WHEN 'image' THEN EXISTS (SELECT 1 FROM mkmed.image p WHERE p.drug_id = c.drug_id AND p.source = c.source)
    WHEN 'text' THEN EXISTS (SELECT 1 FROM mkmed.text p WHERE p.drug_id = c.drug_id AND p.source = c.source)
    WHEN 'structure' THEN EXISTS (SELECT 1 FROM mkmed.conformer p WHERE p.drug_id = c.drug_id AND p.source = c.source)
    WHEN 'property' THEN EXISTS (SELECT 1 FROM mkmed.property_set p WHERE p.drug_id = c.drug_id AND p.source = c.source)
    WHEN 'graph' THEN EXISTS (SELECT 1 FROM mkmed.drug_entity p WHERE p.drug_id = c.drug_id)
    ELSE EXISTS (SELECT 1 FROM mkmed.drug_record p WHERE p.drug_id = c.drug_id)
END;

-- I4: the data of a cell and the cell name the same artifact (a text cell: one of its texts')
SELECT c.drug_id, c.modality, c.source, 'cell and data name different artifacts' AS problem
FROM mkmed.cell c
WHERE c.state = 'present' AND NOT CASE c.modality
    WHEN 'image' THEN EXISTS (SELECT 1 FROM mkmed.image p WHERE p.drug_id = c.drug_id AND p.source = c.source AND p.artifact = c.artifact)
    WHEN 'text' THEN EXISTS (SELECT 1 FROM mkmed.text p WHERE p.drug_id = c.drug_id AND p.source = c.source AND p.artifact = c.artifact)
    WHEN 'structure' THEN EXISTS (SELECT 1 FROM mkmed.conformer p WHERE p.drug_id = c.drug_id AND p.source = c.source AND p.artifact = c.artifact)
    WHEN 'property' THEN EXISTS (SELECT 1 FROM mkmed.property_set p WHERE p.drug_id = c.drug_id AND p.source = c.source AND p.artifact = c.artifact)
    ELSE true
END;

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

-- I8: every row has a licence, its own or that of the retrieval that it was read from
SELECT t.kind, t.row, 'no licence' AS problem FROM (
    SELECT 'artifact' AS kind, encode(id, 'hex') AS row, licence_id FROM mkmed.artifact
    UNION ALL SELECT 'text', id::text, licence_id FROM mkmed.text
    UNION ALL SELECT 'interaction', drug_a || ' ' || drug_b, licence_id FROM mkmed.interaction
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
    UNION ALL SELECT 'atc_class', code, artifact FROM mkmed.atc_class
    UNION ALL SELECT 'drug_atc', drug_id || ' ' || code, artifact FROM mkmed.drug_atc
    UNION ALL SELECT 'kg_provenance', id::text, artifact FROM mkmed.kg_provenance
    UNION ALL SELECT 'kg_entity', name, label_artifact FROM mkmed.kg_entity WHERE label IS NOT NULL) t
LEFT JOIN mkmed.artifact a ON a.id = t.artifact WHERE a.id IS NULL
UNION ALL
SELECT 'kg_triple', min(k.head || ' ' || k.relation || ' ' || k.tail), 'no provenance' FROM mkmed.kg_triple k
LEFT JOIN mkmed.kg_provenance p ON p.id = k.provenance AND p.relation = k.relation WHERE p.id IS NULL HAVING count(*) > 0;
