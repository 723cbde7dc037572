-- What `mkmed kb show` prints of the drug :id, a query a section.

-- names
SELECT name, kind, source FROM mkmed.drug_name WHERE drug_id = :id
ORDER BY kind <> 'preferred', source, name LIMIT 40;

-- identifiers
SELECT namespace, value, string_agg(source, ', ' ORDER BY source) AS source FROM mkmed.identifier
WHERE drug_id = :id GROUP BY namespace, value ORDER BY namespace, value LIMIT 60;

-- relations
SELECT CASE drug_id WHEN :id THEN relation ELSE 'has ' || split_part(relation, ' ', 1) END AS relation,
       CASE drug_id WHEN :id THEN coalesce(other_name, other_inchikey) ELSE name END AS substance,
       CASE drug_id WHEN :id THEN other_id ELSE drug_id END AS drug_id
FROM mkmed.substance_relations WHERE :id IN (drug_id, other_id) ORDER BY 1, 2 LIMIT 40;

-- availability
SELECT modality, source, origin, state, coalesce(evidence, last_error, '') AS because, updated_at
FROM mkmed.availability WHERE drug_id = :id ORDER BY modality, source;

-- texts
SELECT provider, heading, content, licence_id FROM mkmed.texts
WHERE drug_id = :id AND NOT is_note ORDER BY provider, content;

-- properties
SELECT property, value, unit, source, origin FROM mkmed.properties WHERE drug_id = :id ORDER BY property, source;

-- conformers
SELECT source, heavy_atoms, method, energy, note FROM mkmed.conformer WHERE drug_id = :id ORDER BY source;

-- images
SELECT source, width, height, media_type FROM mkmed.image WHERE drug_id = :id ORDER BY source;

-- atc
SELECT a.code, c.name, a.source FROM mkmed.drug_atc a JOIN mkmed.atc_class c USING (code)
WHERE a.drug_id = :id ORDER BY code;

-- interactions
SELECT CASE drug_a WHEN :id THEN name_b ELSE name_a END AS with_drug, severity, provider, licence_id
FROM mkmed.interactions WHERE :id IN (drug_a, drug_b) ORDER BY severity, 1 LIMIT 40;

-- graph
SELECT r.name AS relation, count(*) AS triples, (array_agg(coalesce(o.label, o.name) ORDER BY o.id))[1:4] AS examples,
       r.provider, r.licence_id
FROM mkmed.drug_entity l
JOIN mkmed.kg_triple t ON l.entity_id IN (t.head, t.tail)
JOIN mkmed.kg_relation r ON r.id = t.relation
JOIN mkmed.kg_entity o ON o.id = CASE t.head WHEN l.entity_id THEN t.tail ELSE t.head END
WHERE l.drug_id = :id GROUP BY r.name, r.provider, r.licence_id ORDER BY count(*) DESC LIMIT 30;

-- provenance
SELECT modality, source, url, retrieved_at, licence_id, attribution, sha256 FROM mkmed.provenance
WHERE drug_id = :id ORDER BY modality, source;
