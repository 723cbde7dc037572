-- What a source says of a single edge, and one vocabulary for the relations of all graphs.

ALTER TABLE mkmed.kg_relation ADD COLUMN word text;
COMMENT ON COLUMN mkmed.kg_relation.word IS 'what it is called in the one vocabulary of all graphs';

CREATE TABLE mkmed.kg_note (
    head integer NOT NULL,
    relation integer NOT NULL,
    tail integer NOT NULL,
    provenance smallint NOT NULL,
    score double precision,
    evidence text,
    reference text,
    properties jsonb NOT NULL,
    CONSTRAINT pk_kg_note PRIMARY KEY (head, relation, tail, provenance),
    CONSTRAINT fk_kg_note_relation_provenance FOREIGN KEY (relation, provenance)
        REFERENCES mkmed.kg_provenance (relation, id) ON DELETE CASCADE
);
COMMENT ON COLUMN mkmed.kg_note.score IS 'in the terms of its source';

CREATE OR REPLACE VIEW mkmed.relations WITH (security_barrier) AS
SELECT r.name AS relation, r.head_type, r.tail_type, p.provider, p.description, p.licence_id, p.share, p.source, p.url,
       p.retrieved_at, p.sha256, r.word
FROM mkmed.readable_provenance p JOIN mkmed.kg_relation r ON r.id = p.relation;

CREATE VIEW mkmed.edge_notes WITH (security_barrier) AS
SELECT h.name AS head, r.name AS relation, t.name AS tail, n.score, n.evidence, n.reference, n.properties, p.provider,
       p.licence_id, p.share, p.source, p.url, p.retrieved_at, p.sha256
FROM mkmed.kg_note n
JOIN mkmed.kg_triple k ON k.head = n.head AND k.relation = n.relation AND k.tail = n.tail AND k.provenance = n.provenance
JOIN mkmed.readable_provenance p ON p.relation = n.relation AND p.id = n.provenance
JOIN mkmed.kg_entity h ON h.id = n.head
JOIN mkmed.kg_relation r ON r.id = n.relation
JOIN mkmed.kg_entity t ON t.id = n.tail;
COMMENT ON VIEW mkmed.edge_notes IS 'What sources say of single edges of the knowledge graph: score, evidence, reference, the rest.';

CREATE VIEW mkmed.edges WITH (security_barrier) AS
SELECT h.name AS head, h.label AS head_label, r.word, r.name AS relation, t.name AS tail, t.label AS tail_label,
       n.score, n.evidence, n.reference, n.properties, p.provider, p.licence_id, p.share, p.source, p.url, p.retrieved_at,
       p.sha256
FROM mkmed.kg_triple k
JOIN mkmed.readable_provenance p ON p.relation = k.relation AND p.id = k.provenance
JOIN mkmed.readable_label h ON h.id = k.head
JOIN mkmed.kg_relation r ON r.id = k.relation
JOIN mkmed.readable_label t ON t.id = k.tail
LEFT JOIN mkmed.kg_note n ON n.head = k.head AND n.relation = k.relation AND n.tail = k.tail AND n.provenance = k.provenance;
COMMENT ON VIEW mkmed.edges IS
    'The knowledge graph with one word for what a relation means, and what its source says of the edge: score, evidence, reference.';
