-- The public views and functions, each documented in docs/sql.md. A reader has these and no table.
--
-- Views read the tables with their owner's rights, and decide by one predicate (mkmed.readable_licence) what the asking
-- role sees. They are security barriers: no condition of the asker's is tried on a row before that predicate is.
-- Views named readable_… are what the others are made of; nobody is granted them.

CREATE FUNCTION mkmed.is_open_share(share text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT coalesce(share IN ('open', 'attribution', 'share-alike'), false) $$;
COMMENT ON FUNCTION mkmed.is_open_share IS 'Whether works of this share may be passed on and used commercially.';

CREATE FUNCTION mkmed.may_read_closed() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
    SELECT coalesce(current_setting('mkmed.open_only', true), '') <> 'on' AND (
        pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'mkmed.licence'::regclass), 'member')
        OR EXISTS (SELECT FROM pg_roles WHERE rolname IN ('mkmed_nc', 'mkmed_ingest') AND pg_has_role(oid, 'member')))
$$;
COMMENT ON FUNCTION mkmed.may_read_closed IS
    'Whether the asking role is the owner, mkmed_nc or mkmed_ingest; SET mkmed.open_only = on gives it up, nothing gives it.';

CREATE VIEW mkmed.readable_licence AS
SELECT l.id FROM mkmed.licence l WHERE mkmed.is_open_share(l.share) OR (SELECT mkmed.may_read_closed());
COMMENT ON VIEW mkmed.readable_licence IS 'The licences of what the asking role may read; everything else is denied.';

CREATE VIEW mkmed.licences WITH (security_barrier) AS
SELECT l.id, l.title, l.url, l.share, l.attribution, mkmed.is_open_share(l.share) AS is_open
FROM mkmed.licence l WHERE l.id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.licences IS 'The licences of what can be seen.';

CREATE FUNCTION mkmed.is_open(licence_id text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = mkmed, pg_temp
AS $$ SELECT EXISTS (SELECT FROM mkmed.licences l WHERE l.id = licence_id AND l.is_open) $$;
COMMENT ON FUNCTION mkmed.is_open IS 'Whether what is under the licence may be passed on and used commercially; false for NULL.';

-- A drug is there for a reader when an open record claims it, with what open records say of it and no more.
-- structure_open: nothing that is computed from its structure gives away what no open record states.
CREATE VIEW mkmed.readable_drug AS
SELECT d.id AS drug_id, d.name, d.kind, d.identity, d.inchikey, d.smiles, d.formula, true AS structure_open
FROM mkmed.drug d WHERE (SELECT mkmed.may_read_closed())
UNION ALL
SELECT d.id, said.name, said.kind,
       CASE WHEN said.same_identity OR (said.same_structure AND d.identity = 'inchikey:' || d.inchikey) THEN d.identity
            ELSE said.key END,
       CASE WHEN said.same_structure THEN d.inchikey END, CASE WHEN said.has_smiles THEN d.smiles END,
       CASE WHEN said.same_formula THEN d.formula END, d.inchikey IS NULL OR said.has_smiles
FROM mkmed.drug d
CROSS JOIN LATERAL (
    SELECT (array_agg(r.name ORDER BY r.name <> d.name, r.source, r.key))[1] AS name,
           (array_agg(r.kind ORDER BY r.kind <> d.kind, r.kind = 'unknown', r.source, r.key))[1] AS kind,
           min(r.key) AS key, coalesce(bool_or(r.inchikey = d.inchikey), false) AS same_structure,
           coalesce(bool_or(r.smiles IS NOT NULL AND r.inchikey = d.inchikey), false) AS has_smiles,
           coalesce(bool_or(r.formula = d.formula), false) AS same_formula,
           coalesce(bool_or(r.key = d.identity OR r.identifiers ? d.identity), false) AS same_identity
    FROM mkmed.drug_record r JOIN mkmed.artifact a ON a.id = r.artifact
    WHERE r.drug_id = d.id AND a.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    HAVING count(*) > 0) said
WHERE NOT (SELECT mkmed.may_read_closed());

-- Where a row came from, for every view to join.
CREATE VIEW mkmed.readable_artifact AS
SELECT a.id, a.source, a.url, a.licence_id, l.share, a.attribution, a.retrieved_at, encode(a.content, 'hex') AS sha256
FROM mkmed.artifact a JOIN mkmed.licence l ON l.id = a.licence_id
WHERE a.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);

CREATE VIEW mkmed.names WITH (security_barrier) AS
SELECT n.drug_id, n.name, n.kind, n.source, n.key, n.name_key, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.drug_name n JOIN mkmed.readable_drug d ON d.drug_id = n.drug_id
JOIN mkmed.readable_artifact a ON a.id = n.artifact;
COMMENT ON VIEW mkmed.names IS 'Every name of a drug with who uses it.';

CREATE VIEW mkmed.identifiers WITH (security_barrier) AS
SELECT i.drug_id, i.namespace, i.value, i.source, i.key, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.identifier i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id
JOIN mkmed.readable_artifact a ON a.id = i.artifact;
COMMENT ON VIEW mkmed.identifiers IS 'Every identifier of a drug with who gives it.';

CREATE VIEW mkmed.records WITH (security_barrier) AS
SELECT r.drug_id, r.source, r.key, r.name, r.kind, r.inchikey, r.smiles, r.formula, r.updated_at,
       a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.drug_record r JOIN mkmed.readable_artifact a ON a.id = r.artifact;
COMMENT ON VIEW mkmed.records IS 'What each source claims of a drug''s identity.';

CREATE VIEW mkmed.atc_classes WITH (security_barrier) AS
SELECT c.code, c.level, c.name, c.parent, c.source, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.atc_class c JOIN mkmed.readable_artifact a ON a.id = c.artifact;
COMMENT ON VIEW mkmed.atc_classes IS 'The ATC classes with their names.';

CREATE VIEW mkmed.atc WITH (security_barrier) AS
SELECT x.drug_id, d.name, x.code, c.level,
       CASE WHEN EXISTS (SELECT FROM mkmed.readable_artifact n WHERE n.id = c.artifact) THEN c.name END AS class_name,
       x.source, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.drug_atc x JOIN mkmed.readable_drug d ON d.drug_id = x.drug_id
JOIN mkmed.readable_artifact a ON a.id = x.artifact JOIN mkmed.atc_class c ON c.code = x.code;
COMMENT ON VIEW mkmed.atc IS 'The ATC codes of drugs at any level.';

CREATE OR REPLACE VIEW mkmed.drugs WITH (security_barrier) AS
SELECT d.drug_id, d.name, d.kind, d.identity, d.inchikey, d.smiles, d.formula,
       (SELECT array_agg(DISTINCT i.namespace || ':' || i.value) FROM mkmed.identifiers i WHERE i.drug_id = d.drug_id) AS identifiers,
       (SELECT array_agg(DISTINCT a.code) FROM mkmed.atc a WHERE a.drug_id = d.drug_id) AS atc,
       (SELECT array_agg(DISTINCT r.source) FROM mkmed.records r WHERE r.drug_id = d.drug_id) AS sources,
       (SELECT array_agg(DISTINCT r.licence_id) FROM mkmed.records r WHERE r.drug_id = d.drug_id) AS licences
FROM mkmed.readable_drug d;
COMMENT ON VIEW mkmed.drugs IS 'One row a drug with its identifiers, ATC codes and the sources and licences of its records.';

CREATE OR REPLACE VIEW mkmed.texts WITH (security_barrier) AS
SELECT t.drug_id, d.name, t.provider, t.heading, t.content, t.url, t.licence_id, l.share, t.is_note, t.source,
       a.url AS retrieved_from, a.retrieved_at, encode(a.content, 'hex') AS sha256
FROM mkmed.text t JOIN mkmed.readable_drug d ON d.drug_id = t.drug_id JOIN mkmed.licence l ON l.id = t.licence_id
JOIN mkmed.artifact a ON a.id = t.artifact
WHERE t.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.texts IS 'Every description, with who wrote it and under which licence.';

CREATE OR REPLACE VIEW mkmed.properties WITH (security_barrier) AS
SELECT p.drug_id, d.name, e.key AS property, (e.value)::float8 AS value, k.unit, p.source, s.origin,
       a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.property_set p
JOIN mkmed.readable_drug d ON d.drug_id = p.drug_id
JOIN mkmed.source s ON s.name = p.source
JOIN mkmed.readable_artifact a ON a.id = p.artifact
CROSS JOIN LATERAL jsonb_each_text(p.values) e
LEFT JOIN mkmed.property_kind k ON k.name = e.key
WHERE s.origin <> 'computed' OR d.structure_open;
COMMENT ON VIEW mkmed.properties IS 'One row a number: property, value, unit, and whether it was fetched or computed.';

CREATE VIEW mkmed.conformers WITH (security_barrier) AS
SELECT c.drug_id, d.name, c.source, s.origin, c.molblock, c.heavy_atoms, c.method, c.energy, c.note,
       a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.conformer c JOIN mkmed.readable_drug d ON d.drug_id = c.drug_id JOIN mkmed.source s ON s.name = c.source
JOIN mkmed.readable_artifact a ON a.id = c.artifact
WHERE s.origin <> 'computed' OR d.structure_open;
COMMENT ON VIEW mkmed.conformers IS 'Every 3D conformer as an MDL V2000 block, coordinates in ångström.';

CREATE VIEW mkmed.images WITH (security_barrier) AS
SELECT i.drug_id, d.name, i.source, s.origin, i.width, i.height, i.media_type, b.payload AS picture,
       a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.image i JOIN mkmed.readable_drug d ON d.drug_id = i.drug_id JOIN mkmed.source s ON s.name = i.source
JOIN mkmed.readable_artifact a ON a.id = i.artifact JOIN mkmed.artifact o ON o.id = i.artifact
JOIN mkmed.content b ON b.sha256 = o.content
WHERE s.origin <> 'computed' OR d.structure_open;
COMMENT ON VIEW mkmed.images IS 'Every picture of a structure, with its bytes.';

CREATE OR REPLACE VIEW mkmed.interactions WITH (security_barrier) AS
SELECT x.drug_id AS drug_a, x.name AS name_a, y.drug_id AS drug_b, y.name AS name_b, i.severity, i.description, i.provider,
       i.source, i.licence_id, l.share, a.url, a.retrieved_at, encode(a.content, 'hex') AS sha256
FROM mkmed.interaction i
JOIN mkmed.readable_drug x ON x.drug_id = least(i.drug_a, i.drug_b)
JOIN mkmed.readable_drug y ON y.drug_id = greatest(i.drug_a, i.drug_b)
JOIN mkmed.licence l ON l.id = i.licence_id JOIN mkmed.artifact a ON a.id = i.artifact
WHERE i.drug_a <> i.drug_b AND i.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.interactions IS 'Drug-drug interactions by name, one row a statement; drug_a < drug_b.';

-- Which substance is related to which was computed from its structure.
CREATE VIEW mkmed.readable_relation WITH (security_barrier) AS
SELECT r.drug_id, r.relation, r.inchikey
FROM mkmed.substance_relation r JOIN mkmed.readable_drug d ON d.drug_id = r.drug_id WHERE d.structure_open;

CREATE OR REPLACE VIEW mkmed.substance_relations WITH (security_barrier) AS
SELECT d.drug_id, d.name, r.relation, o.drug_id AS other_id, o.name AS other_name, coalesce(o.inchikey, r.inchikey) AS other_inchikey
FROM mkmed.readable_relation r JOIN mkmed.readable_drug d ON d.drug_id = r.drug_id
LEFT JOIN mkmed.readable_drug o ON o.inchikey = r.inchikey
WHERE r.relation <> 'stereo-unspecified of'
UNION ALL
SELECT f.drug_id, f.name, r.relation, d.drug_id, d.name, d.inchikey
FROM mkmed.readable_relation r JOIN mkmed.readable_drug d ON d.drug_id = r.drug_id
JOIN mkmed.readable_drug f ON f.inchikey = r.inchikey
WHERE r.relation = 'stereo-unspecified of';
COMMENT ON VIEW mkmed.substance_relations IS
    'Which substance is a salt, hydrate, labelled form or stereo-unspecified form of which other, or has it in a mixture.';

CREATE VIEW mkmed.readable_provenance AS
SELECT p.id, p.relation, p.provider, p.description, p.licence_id, l.share, p.source, p.artifact, a.url, a.retrieved_at,
       encode(a.content, 'hex') AS sha256
FROM mkmed.kg_provenance p JOIN mkmed.licence l ON l.id = p.licence_id JOIN mkmed.artifact a ON a.id = p.artifact
WHERE p.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);

CREATE VIEW mkmed.entities WITH (security_barrier) AS
SELECT e.id AS entity_id, e.name, e.type,
       CASE WHEN e.label_artifact IS NULL OR EXISTS (SELECT FROM mkmed.readable_artifact a WHERE a.id = e.label_artifact)
            THEN e.label END AS label
FROM mkmed.kg_entity e
WHERE (SELECT mkmed.may_read_closed())
   OR EXISTS (SELECT FROM mkmed.kg_triple k WHERE k.head = e.id AND k.provenance IN (SELECT p.id FROM mkmed.readable_provenance p))
   OR EXISTS (SELECT FROM mkmed.kg_triple k WHERE k.tail = e.id AND k.provenance IN (SELECT p.id FROM mkmed.readable_provenance p));
COMMENT ON VIEW mkmed.entities IS 'What the knowledge graph is about.';

CREATE VIEW mkmed.relations WITH (security_barrier) AS
SELECT r.name AS relation, r.head_type, r.tail_type, p.provider, p.description, p.licence_id, p.share, p.source, p.url,
       p.retrieved_at, p.sha256
FROM mkmed.readable_provenance p JOIN mkmed.kg_relation r ON r.id = p.relation;
COMMENT ON VIEW mkmed.relations IS 'The relations of the knowledge graph, once for every provider and licence that they come with.';

CREATE VIEW mkmed.readable_label AS
SELECT e.id, e.name, e.type,
       CASE WHEN e.label_artifact IS NULL OR e.label_artifact IN (SELECT a.id FROM mkmed.readable_artifact a)
            THEN e.label END AS label
FROM mkmed.kg_entity e;

CREATE OR REPLACE VIEW mkmed.triples WITH (security_barrier) AS
SELECT h.name AS head, h.label AS head_label, r.name AS relation, t.name AS tail, t.label AS tail_label,
       h.type AS head_type, t.type AS tail_type, p.provider, p.licence_id, p.share, p.source, p.url, p.retrieved_at, p.sha256
FROM mkmed.kg_triple k
JOIN mkmed.readable_provenance p ON p.relation = k.relation AND p.id = k.provenance
JOIN mkmed.readable_label h ON h.id = k.head
JOIN mkmed.kg_relation r ON r.id = k.relation
JOIN mkmed.readable_label t ON t.id = k.tail;
COMMENT ON VIEW mkmed.triples IS
    'The knowledge graph by name, a row a statement: a triple that two files have under two licences has two rows.';

CREATE VIEW mkmed.drug_entities WITH (security_barrier) AS
SELECT l.drug_id, d.name, l.entity_id, e.name AS entity, l.method, l.weak
FROM mkmed.drug_entity l JOIN mkmed.readable_drug d ON d.drug_id = l.drug_id JOIN mkmed.kg_entity e ON e.id = l.entity_id
WHERE (SELECT mkmed.may_read_closed()) OR (
    CASE WHEN l.method IN ('inchikey', 'skeleton') THEN d.inchikey IS NOT NULL
         WHEN l.method = 'name' THEN EXISTS (
             SELECT FROM mkmed.names n WHERE n.drug_id = l.drug_id AND n.name_key = lower(l.via))
         ELSE EXISTS (SELECT FROM mkmed.identifiers i WHERE i.drug_id = l.drug_id AND i.namespace || ':' || i.value = l.via) END
    AND EXISTS (SELECT FROM mkmed.entities v WHERE v.entity_id = l.entity_id));
COMMENT ON VIEW mkmed.drug_entities IS 'Which entity of the knowledge graph a drug is, and by what they were matched.';

-- A cell is readable when what it vouches for is; what a source does not have is a statement of the source's.
CREATE VIEW mkmed.readable_cell AS
SELECT c.drug_id, d.name, c.modality, c.source, s.origin, c.state, c.attempts, c.evidence, c.last_error, c.updated_at, c.artifact
FROM mkmed.cell c JOIN mkmed.drug d ON d.id = c.drug_id JOIN mkmed.source s ON s.name = c.source
WHERE (SELECT mkmed.may_read_closed())
UNION ALL
SELECT c.drug_id, d.name, c.modality, c.source, s.origin, c.state, c.attempts,
       CASE c.modality WHEN 'graph' THEN split_part(c.evidence, ' ', 1) ELSE c.evidence END, c.last_error, c.updated_at, c.artifact
FROM mkmed.cell c JOIN mkmed.readable_drug d ON d.drug_id = c.drug_id JOIN mkmed.source s ON s.name = c.source
WHERE NOT (SELECT mkmed.may_read_closed()) AND CASE
    WHEN c.state = 'present' AND c.modality = 'text' THEN EXISTS (
        SELECT FROM mkmed.text t WHERE t.drug_id = c.drug_id AND t.source = c.source
        AND t.licence_id IN (SELECT l.id FROM mkmed.readable_licence l))
    WHEN c.state = 'present' AND c.modality = 'identity' THEN EXISTS (
        SELECT FROM mkmed.records r WHERE r.drug_id = c.drug_id AND r.source = c.source)
    WHEN c.state = 'present' AND c.modality = 'graph' THEN EXISTS (
        SELECT FROM mkmed.drug_entities l WHERE l.drug_id = c.drug_id AND (
            EXISTS (SELECT FROM mkmed.kg_triple k WHERE k.head = l.entity_id AND k.provenance IN (
                        SELECT p.id FROM mkmed.readable_provenance p WHERE p.source = c.source))
            OR EXISTS (SELECT FROM mkmed.kg_triple k WHERE k.tail = l.entity_id AND k.provenance IN (
                        SELECT p.id FROM mkmed.readable_provenance p WHERE p.source = c.source))))
    ELSE (s.origin <> 'computed' OR d.structure_open)
        AND (c.state = 'present' OR s.licence_id IN (SELECT l.id FROM mkmed.readable_licence l))
        AND (c.artifact IS NULL OR EXISTS (SELECT FROM mkmed.readable_artifact a WHERE a.id = c.artifact)) END;

CREATE OR REPLACE VIEW mkmed.availability WITH (security_barrier) AS
SELECT c.drug_id, c.name, c.modality, c.source, c.origin, c.state, c.attempts, c.evidence, c.last_error, c.updated_at,
       a.url, a.retrieved_at, a.licence_id, a.sha256
FROM mkmed.readable_cell c LEFT JOIN mkmed.readable_artifact a ON a.id = c.artifact;
COMMENT ON VIEW mkmed.availability IS 'The ledger: the state of every (drug, modality, source), with what proves it.';

CREATE OR REPLACE VIEW mkmed.provenance WITH (security_barrier) AS
SELECT c.drug_id, c.name, c.modality, c.source, c.origin, a.url, a.retrieved_at, a.licence_id, l.title AS licence,
       l.share, a.attribution, a.upstream_version, a.parser, encode(a.content, 'hex') AS sha256, b.bytes, a.run_id
FROM mkmed.readable_cell c
JOIN mkmed.artifact a ON a.id = c.artifact
JOIN mkmed.content b ON b.sha256 = a.content
JOIN mkmed.licence l ON l.id = a.licence_id
WHERE a.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.provenance IS 'Where each cell of the bucket matrix came from: URL, time, licence, sha256.';

CREATE OR REPLACE VIEW mkmed.bucket WITH (security_barrier) AS
SELECT d.drug_id, d.name,
       coalesce(bool_or(c.modality = 'image'), false)     AS image,
       coalesce(bool_or(c.modality = 'text'), false)      AS text,
       coalesce(bool_or(c.modality = 'structure'), false) AS structure,
       coalesce(bool_or(c.modality = 'property'), false)  AS property,
       coalesce(bool_or(c.modality = 'graph'), false)     AS graph,
       count(DISTINCT c.modality)::int                    AS modalities
FROM mkmed.readable_drug d
LEFT JOIN mkmed.readable_cell c ON c.drug_id = d.drug_id AND c.state = 'present' AND c.modality <> 'identity'
GROUP BY d.drug_id, d.name;
COMMENT ON VIEW mkmed.bucket IS 'One row a drug: which of the five modalities any source has, and how many.';

-- Bytes as they came. What was computed from a structure is shown with its drug, where the drug's licences count.
CREATE VIEW mkmed.documents WITH (security_barrier) AS
SELECT a.source, s.origin, a.url, a.http_status, a.media_type, a.licence_id, l.share, a.attribution, a.upstream_version,
       a.parser, a.retrieved_at, encode(a.content, 'hex') AS sha256, b.bytes, b.payload
FROM mkmed.artifact a JOIN mkmed.content b ON b.sha256 = a.content JOIN mkmed.licence l ON l.id = a.licence_id
JOIN mkmed.source s ON s.name = a.source
WHERE (SELECT mkmed.may_read_closed()) OR (
    s.origin <> 'computed' AND a.licence_id IN (SELECT r.id FROM mkmed.readable_licence r)
    AND NOT EXISTS (SELECT FROM mkmed.text t WHERE t.artifact = a.id
                    AND t.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r))
    AND NOT EXISTS (SELECT FROM mkmed.interaction i WHERE i.artifact = a.id
                    AND i.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r))
    AND NOT EXISTS (SELECT FROM mkmed.kg_provenance p WHERE p.artifact = a.id
                    AND p.licence_id NOT IN (SELECT r.id FROM mkmed.readable_licence r)));
COMMENT ON VIEW mkmed.documents IS 'What was retrieved: address, time, licence and the bytes as they came.';

CREATE VIEW mkmed.sources WITH (security_barrier) AS
SELECT s.name, s.title, s.url, s.origin, s.licence_id
FROM mkmed.source s WHERE s.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);
COMMENT ON VIEW mkmed.sources IS 'The sources that have written something.';

-- Without configuration, errors, hosts and process ids, which hold local paths and addresses.
CREATE VIEW mkmed.runs WITH (security_barrier) AS
SELECT r.id, r.stage,
       CASE WHEN (SELECT mkmed.may_read_closed()) OR r.name IN (SELECT s.name FROM mkmed.sources s) THEN r.name END AS name,
       r.status, r.version, r.started_at, r.finished_at
FROM mkmed.run r;
COMMENT ON VIEW mkmed.runs IS 'Who wrote what and when: stage, name of the source, state and times of every run.';

CREATE VIEW mkmed.schema_version AS SELECT version_num FROM mkmed.alembic_version;
COMMENT ON VIEW mkmed.schema_version IS 'The migration that the database is at.';

CREATE OR REPLACE FUNCTION mkmed.find_drugs(wanted text)
RETURNS TABLE (drug_id bigint, name text, matched text, how text, rank int, is_parent boolean)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
    WITH asked AS (
        SELECT regexp_replace(trim(normalize(wanted, NFC)), '\s+', ' ', 'g') AS called
    ), hits AS (
        SELECT d.drug_id AS id, d.inchikey AS matched, 'InChIKey' AS how, 0 AS rank FROM mkmed.drugs d, asked
        WHERE d.inchikey = regexp_replace(upper(called), '^INCHIKEY[:=]', '')
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 1 FROM mkmed.identifiers i, asked
        WHERE i.namespace = lower(split_part(called, ':', 1))
          AND i.value IN (upper(substr(called, strpos(called, ':') + 1)), substr(called, strpos(called, ':') + 1))
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'key of a user''s table', 1 FROM mkmed.identifiers i, asked
        WHERE lower(split_part(called, ':', 1)) = 'user' AND i.value = substr(called, 6) AND i.namespace LIKE 'user.%'
        UNION ALL
        SELECT i.drug_id, i.namespace || ':' || i.value, 'identifier', 2 FROM mkmed.identifiers i, asked
        WHERE i.namespace IN ('drugbank', 'cas') AND i.value = upper(called)
        UNION ALL
        SELECT n.drug_id, n.name, CASE n.kind WHEN 'preferred' THEN 'name' ELSE n.kind END,
               CASE n.kind WHEN 'preferred' THEN 3 ELSE 4 END FROM mkmed.names n, asked WHERE n.name_key = lower(called)
    ), best AS (
        SELECT DISTINCT ON (h.id) h.id, h.matched, h.how, h.rank FROM hits h ORDER BY h.id, h.rank, h.matched
    )
    SELECT b.id, d.name, b.matched, b.how, b.rank,
           d.inchikey IS NOT NULL AND NOT EXISTS (
               SELECT FROM best o WHERE o.rank = b.rank AND o.id <> b.id AND NOT EXISTS (
                   SELECT FROM mkmed.readable_relation r WHERE r.drug_id = o.id AND r.inchikey = d.inchikey))
    FROM best b JOIN LATERAL (SELECT v.name, v.inchikey FROM mkmed.drugs v WHERE v.drug_id = b.id) d ON true ORDER BY 5, 6 DESC, 1
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

-- What is true now is shown as in its own view; of what was, nothing that was computed from a structure of then.
CREATE OR REPLACE VIEW mkmed.history WITH (security_barrier) AS
WITH fact AS (
    SELECT r.kind, r.drug_id, r.source, r.key AS record, r.fact, r.licence_id, r.since, r.until FROM mkmed.retired r
    UNION ALL
    SELECT 'drug_record', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'digest', 'updated_at'], a.licence_id, t.since, NULL
    FROM mkmed.drug_record t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'drug_name', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact', 'name_key'], a.licence_id, t.since, NULL
    FROM mkmed.drug_name t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'identifier', t.drug_id, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.identifier t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'drug_atc', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.drug_atc t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'text', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.text t
    UNION ALL
    SELECT 'image', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.image t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'conformer', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.conformer t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'property_set', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact', 'updated_at'], a.licence_id, t.since, NULL
    FROM mkmed.property_set t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'interaction', t.drug_a, t.source, t.a_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.interaction t
)
SELECT f.kind, f.drug_id, f.source, f.record, f.fact, f.licence_id, f.since, f.until FROM fact f
WHERE (SELECT mkmed.may_read_closed()) OR (
    f.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    AND (f.source NOT IN (SELECT s.name FROM mkmed.source s WHERE s.origin = 'computed')
         OR f.until IS NULL AND f.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open)));
COMMENT ON VIEW mkmed.history IS
    'What was true when: every fact as a row of JSON with the time since which it was here, and until when (NULL: still).';

-- Drug vectors: the views of the published run, and the functions that search them.

CREATE VIEW mkmed.published_run AS
SELECT r.run_id, r.width, r.precision, r.modalities, r.drugs, r.created_at
FROM mkmed.embedding_run r JOIN mkmed.published p ON p.run_id = r.run_id;
COMMENT ON VIEW mkmed.published_run IS 'The embedding run that the functions of similarity read.';

CREATE VIEW mkmed.published_vector WITH (security_barrier) AS
SELECT e.run_id, e.modality, e.drug_id, e.rests_on, e.embedding
FROM mkmed.embedding e
WHERE e.run_id = (SELECT p.run_id FROM mkmed.published p) AND ((SELECT mkmed.may_read_closed())
    OR e.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open));
COMMENT ON VIEW mkmed.published_vector IS 'The vectors of the published run, whatever their width.';

CREATE OR REPLACE VIEW mkmed.drug_vector WITH (security_barrier) AS
SELECT e.drug_id, e.embedding, mkmed.modality_names(e.rests_on) AS rests_on, e.run_id
FROM mkmed.published_vector e WHERE e.modality = 'fused';
CREATE OR REPLACE VIEW mkmed.modality_vector WITH (security_barrier) AS
SELECT e.drug_id, e.modality, e.embedding, e.run_id FROM mkmed.published_vector e WHERE e.modality <> 'fused';

CREATE OR REPLACE FUNCTION mkmed.candidates(atc text, has text[]) RETURNS bigint[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = mkmed, pg_temp
AS $$
    SELECT array_agg(d.drug_id) FROM mkmed.drugs d
    WHERE ($1 IS NULL OR d.drug_id IN (SELECT a.drug_id FROM mkmed.atc a WHERE starts_with(a.code, upper($1))))
      AND ($2 IS NULL OR cardinality($2) = 0 OR d.drug_id IN (
          SELECT c.drug_id FROM mkmed.availability c WHERE c.state = 'present' AND c.modality = ANY ($2)
          GROUP BY c.drug_id HAVING count(DISTINCT c.modality) = (SELECT count(DISTINCT h) FROM unnest($2) h)))
$$;
COMMENT ON FUNCTION mkmed.candidates IS 'The ids of the drugs in an ATC class (any level) that have all the named modalities.';

CREATE OR REPLACE FUNCTION mkmed.nearest(query vector, k int, modality text, atc text, has text[], leave_out bigint)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
SET hnsw.iterative_scan = 'relaxed_order'
SET hnsw.ef_search = 200
AS $$
DECLARE
    run mkmed.published_run;
    typed text;
    chosen bigint[];
    filtered boolean := atc IS NOT NULL OR has IS NOT NULL;
BEGIN
    IF k IS NULL OR k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.* INTO run FROM mkmed.published_run r;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no embedding run is published' USING HINT = 'mkmed embed pretrain, or mkmed embed publish RUN';
    END IF;
    IF NOT modality = ANY (run.modalities) THEN
        RAISE EXCEPTION 'the published run has no vectors of modality %', modality
            USING HINT = 'it has: ' || array_to_string(run.modalities, ', '), ERRCODE = 'invalid_parameter_value';
    END IF;
    IF vector_dims(query) <> run.width THEN
        RAISE EXCEPTION 'the query has % dimensions, the published run has %', vector_dims(query), run.width
            USING ERRCODE = 'data_exception';
    END IF;
    typed := format('%s(%s)', run.precision, run.width);
    IF filtered THEN
        chosen := coalesce(mkmed.candidates(atc, has), '{}');
    END IF;
    -- Few candidates: compare with every one of them, which is exact. Many: walk the index until k rows passed.
    -- A reader has no index, since the view that it reads decides first which rows there are; that is exact too.
    RETURN QUERY EXECUTE format(
        'SELECT near.drug_id, d.name, (1 - near.distance)::real, mkmed.modality_names(near.rests_on),
                (SELECT array_agg(DISTINCT c.code ORDER BY c.code) FROM mkmed.atc c WHERE c.drug_id = near.drug_id)
         FROM (SELECT e.drug_id, e.rests_on, (e.embedding)::%1$s <=> $1::%1$s AS distance
               FROM mkmed.%6$s e %2$s
               WHERE e.run_id = %3$L AND e.modality = %4$L AND e.drug_id IS DISTINCT FROM $2 %5$s
               ORDER BY (e.embedding)::%1$s <=> $1::%1$s LIMIT $3) near
         CROSS JOIN LATERAL (SELECT v.name FROM mkmed.drugs v WHERE v.drug_id = near.drug_id) d
         ORDER BY near.distance, near.drug_id',
        typed,
        CASE WHEN filtered AND cardinality(chosen) <= 50000 THEN 'JOIN unnest($4) AS pick(id) ON pick.id = e.drug_id' ELSE '' END,
        run.run_id, modality,
        CASE WHEN filtered AND cardinality(chosen) > 50000 THEN 'AND e.drug_id = ANY ($4)' ELSE '' END,
        CASE WHEN mkmed.may_read_closed() THEN 'embedding' ELSE 'published_vector' END)
    USING query, leave_out, k, chosen;
END
$$;
COMMENT ON FUNCTION mkmed.nearest IS 'What similar_to, similar_drugs and similar_across share.';

CREATE OR REPLACE FUNCTION mkmed.similar_to(query vector, k int DEFAULT 10, modality text DEFAULT 'fused', atc text DEFAULT NULL,
                                 has text[] DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$ SELECT * FROM mkmed.nearest(query, k, modality, atc, has, NULL) $$;
COMMENT ON FUNCTION mkmed.similar_to IS
    'The k drugs nearest to a vector by cosine similarity, optionally only in an ATC class or with given modalities.';

CREATE OR REPLACE FUNCTION mkmed.vector_of(drug text, modality text DEFAULT 'fused') RETURNS vector
LANGUAGE plpgsql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
DECLARE
    wanted bigint := mkmed.find_drug(drug);
    found vector;
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'no drug % in the knowledge base', quote_literal(drug)
            USING HINT = 'find it by a part of its name: mkmed kb search TEXT', ERRCODE = 'no_data_found';
    END IF;
    SELECT e.embedding INTO found FROM mkmed.published_vector e WHERE e.modality = vector_of.modality AND e.drug_id = wanted;
    IF found IS NULL THEN
        RAISE EXCEPTION '% has no % vector in the published run', quote_literal(drug), modality
            USING HINT = 'SELECT * FROM mkmed.availability shows what it lacks', ERRCODE = 'no_data_found';
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION mkmed.vector_of IS 'The published vector of a drug, found by name, synonym, InChIKey or namespace:value.';

CREATE OR REPLACE FUNCTION mkmed.similar_drugs(drug text, k int DEFAULT 10, modality text DEFAULT 'fused', atc text DEFAULT NULL,
                                    has text[] DEFAULT NULL)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$
    SELECT * FROM mkmed.nearest(mkmed.vector_of(drug, modality), k, modality, atc, has, mkmed.find_drug(drug))
$$;
COMMENT ON FUNCTION mkmed.similar_drugs IS 'The k drugs most like a drug, in one modality''s vectors or in the fused ones.';

CREATE OR REPLACE FUNCTION mkmed.similar_across(drug text, from_modality text, to_modality text, k int DEFAULT 10)
RETURNS TABLE (drug_id bigint, name text, similarity real, rests_on text[], atc_codes text[])
LANGUAGE sql STABLE
SET search_path = mkmed, ext, public, pg_temp
AS $$ SELECT * FROM mkmed.nearest(mkmed.vector_of(drug, from_modality), k, to_modality, NULL, NULL, NULL) $$;
COMMENT ON FUNCTION mkmed.similar_across IS
    'Cross-modal search: the drugs whose to_modality vector is nearest to the drug''s from_modality vector.';
