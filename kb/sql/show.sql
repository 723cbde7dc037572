-- What `mkmed kb show` prints of the drug :id, a query a section. All of it comes from the public views, which decide what
-- the asking role may see.

-- records
SELECT source, key, name, inchikey, licence_id, url, retrieved_at, sha256 FROM mkmed.records WHERE drug_id = :id
ORDER BY source, key LIMIT 40;

-- names
SELECT name, kind, source, licence_id, url, retrieved_at, sha256 FROM mkmed.names WHERE drug_id = :id
ORDER BY kind <> 'preferred', source, name LIMIT 40;

-- identifiers
SELECT namespace, value, string_agg(source, ', ' ORDER BY source) AS source,
       string_agg(DISTINCT licence_id, ', ' ORDER BY licence_id) AS licence_id, min(url) AS url,
       min(retrieved_at) AS retrieved_at, min(sha256) AS sha256
FROM mkmed.identifiers WHERE drug_id = :id GROUP BY namespace, value ORDER BY namespace, value LIMIT 60;

-- relations
SELECT CASE drug_id WHEN :id THEN relation ELSE 'has ' || split_part(relation, ' ', 1) END AS relation,
       CASE drug_id WHEN :id THEN coalesce(other_name, other_inchikey) ELSE name END AS substance,
       CASE drug_id WHEN :id THEN other_id ELSE drug_id END AS drug_id
FROM (SELECT * FROM mkmed.substance_relations WHERE drug_id = :id
      UNION SELECT * FROM mkmed.substance_relations WHERE other_id = :id) one  -- two looks by index, where OR reads all
ORDER BY 1, 2 LIMIT 40;

-- availability
SELECT modality, source, origin, state, coalesce(evidence, last_error, '') AS because, url, updated_at
FROM mkmed.availability WHERE drug_id = :id ORDER BY modality, source;

-- products
SELECT product, brand, form, route, strength, substance, ingredients, array_to_string(ndc, ' ') AS ndc, labeler, source,
       licence_id, url, retrieved_at, sha256
FROM mkmed.products WHERE drug_id = :id ORDER BY brand NULLS FIRST, product, source, key LIMIT 40;

-- texts
SELECT provider, heading, content, language, licence_id, source, retrieved_from AS url, retrieved_at, sha256 FROM mkmed.texts
WHERE drug_id = :id AND NOT is_note ORDER BY provider, content;

-- properties
SELECT property, value, unit, source, origin, licence_id, url, retrieved_at, sha256 FROM mkmed.properties
WHERE drug_id = :id ORDER BY property, source;

-- conformers
SELECT source, heavy_atoms, method, energy, note, licence_id, url, retrieved_at, sha256 FROM mkmed.conformers
WHERE drug_id = :id ORDER BY source;

-- images
SELECT source, width, height, media_type, licence_id, url, retrieved_at, sha256 FROM mkmed.images
WHERE drug_id = :id ORDER BY source;

-- atc
SELECT code, class_name AS name, source, (
    SELECT max(o.upstream_version) FROM mkmed.documents o
    WHERE o.source = a.source AND o.url = a.url AND o.retrieved_at = a.retrieved_at) AS version,
    licence_id, url, retrieved_at, sha256
FROM mkmed.atc a WHERE drug_id = :id ORDER BY code, source;

-- indications
SELECT kind, disease, disease_ids, icd10, phase, evidence, provider, source, licence_id, url, retrieved_at, sha256
FROM mkmed.indications WHERE drug_id = :id ORDER BY kind, disease, provider LIMIT 60;

-- interactions
SELECT CASE drug_a WHEN :id THEN name_b ELSE name_a END AS with_drug, severity, provider, source, licence_id, url,
       retrieved_at, sha256
FROM (SELECT * FROM mkmed.interactions WHERE drug_a = :id UNION ALL SELECT * FROM mkmed.interactions WHERE drug_b = :id) one
ORDER BY severity, 1 LIMIT 40;

-- graph
SELECT relation, count(*) AS triples, (array_agg(DISTINCT other))[1:4] AS examples, provider, licence_id, source, url,
       retrieved_at, sha256
FROM mkmed.drug_entities l CROSS JOIN LATERAL (
    SELECT t.relation, coalesce(t.tail_label, t.tail) AS other, t.provider, t.licence_id, t.source, t.url, t.retrieved_at, t.sha256
    FROM mkmed.triples t WHERE t.head = l.entity
    UNION ALL
    SELECT t.relation, coalesce(t.head_label, t.head), t.provider, t.licence_id, t.source, t.url, t.retrieved_at, t.sha256
    FROM mkmed.triples t WHERE t.tail = l.entity AND t.head <> t.tail) t
WHERE l.drug_id = :id
GROUP BY relation, provider, licence_id, source, url, retrieved_at, sha256 ORDER BY count(*) DESC, relation LIMIT 30;

-- provenance
SELECT modality, source, url, retrieved_at, licence_id, attribution, sha256 FROM mkmed.provenance
WHERE drug_id = :id ORDER BY modality, source;
