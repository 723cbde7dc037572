-- Products with their ingredients, defined daily doses, and the language of texts.

CREATE TABLE mkmed.product (
    source text NOT NULL CONSTRAINT fk_product_source REFERENCES mkmed.source (name),
    key text NOT NULL,
    name text NOT NULL,
    brand text,
    form text,
    route text,
    labeler text,
    ndc text[] NOT NULL,
    set_id text,
    artifact bytea NOT NULL CONSTRAINT fk_product_artifact REFERENCES mkmed.artifact (id),
    since timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT pk_product PRIMARY KEY (source, key)
);
COMMENT ON COLUMN mkmed.product.key IS 'what the source calls it: rxcui:855332, ndc:0056-0172';
COMMENT ON COLUMN mkmed.product.ndc IS 'packages: National Drug Codes of 11 digits';
COMMENT ON COLUMN mkmed.product.set_id IS 'the label''s, where it has one';
CREATE INDEX ix_product_ndc ON mkmed.product USING gin (ndc);
CREATE INDEX ix_product_brand ON mkmed.product (lower(brand));

CREATE TABLE mkmed.product_part (
    source text NOT NULL,
    product_key text NOT NULL,
    record_key text NOT NULL,
    drug_id bigint NOT NULL,
    strength text,
    substance text,
    artifact bytea NOT NULL CONSTRAINT fk_product_part_artifact REFERENCES mkmed.artifact (id),
    since timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT pk_product_part PRIMARY KEY (source, product_key, record_key),
    CONSTRAINT fk_product_part_source_product_key FOREIGN KEY (source, product_key)
        REFERENCES mkmed.product (source, key) ON DELETE CASCADE,
    CONSTRAINT fk_product_part_source_record_key_drug_id FOREIGN KEY (source, record_key, drug_id)
        REFERENCES mkmed.drug_record (source, key, drug_id) ON UPDATE CASCADE ON DELETE CASCADE
);
COMMENT ON COLUMN mkmed.product_part.record_key IS 'the record of the same source that is the ingredient';
COMMENT ON COLUMN mkmed.product_part.substance IS 'the salt or ester that it is in, as the source calls it';
CREATE INDEX ix_product_part_drug_id ON mkmed.product_part (drug_id);
CREATE INDEX ix_product_part_record ON mkmed.product_part (source, record_key);

CREATE TABLE mkmed.atc_ddd (
    source text NOT NULL CONSTRAINT fk_atc_ddd_source REFERENCES mkmed.source (name),
    code text NOT NULL CONSTRAINT fk_atc_ddd_code REFERENCES mkmed.atc_class (code),
    route text NOT NULL,
    value double precision NOT NULL,
    unit text NOT NULL,
    note text NOT NULL,
    artifact bytea NOT NULL CONSTRAINT fk_atc_ddd_artifact REFERENCES mkmed.artifact (id),
    since timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT pk_atc_ddd PRIMARY KEY (source, code, route, unit, note),
    CONSTRAINT ck_atc_ddd_value CHECK (value > 0)
);
COMMENT ON COLUMN mkmed.atc_ddd.route IS 'of administration, in WHO''s letters: O oral, P parenteral, …';

CREATE TRIGGER retire_deleted BEFORE DELETE ON mkmed.product FOR EACH ROW EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_changed BEFORE UPDATE ON mkmed.product FOR EACH ROW
    WHEN ((OLD.name, OLD.brand, OLD.form, OLD.route, OLD.labeler, OLD.ndc, OLD.set_id) IS DISTINCT FROM
          (NEW.name, NEW.brand, NEW.form, NEW.route, NEW.labeler, NEW.ndc, NEW.set_id))
    EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_deleted BEFORE DELETE ON mkmed.product_part FOR EACH ROW EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_changed BEFORE UPDATE ON mkmed.product_part FOR EACH ROW
    WHEN ((OLD.drug_id, OLD.strength, OLD.substance) IS DISTINCT FROM (NEW.drug_id, NEW.strength, NEW.substance))
    EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_deleted BEFORE DELETE ON mkmed.atc_ddd FOR EACH ROW EXECUTE FUNCTION mkmed.retire();
CREATE TRIGGER retire_changed BEFORE UPDATE ON mkmed.atc_ddd FOR EACH ROW
    WHEN (OLD.value IS DISTINCT FROM NEW.value) EXECUTE FUNCTION mkmed.retire();

CREATE VIEW mkmed.products WITH (security_barrier) AS
SELECT t.drug_id, d.name, p.name AS product, p.brand, p.form, p.route, t.strength, t.substance,
       (SELECT count(*) FROM mkmed.product_part o WHERE o.source = p.source AND o.product_key = p.key) AS ingredients,
       p.ndc, p.labeler, p.set_id, p.key, p.source, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.product_part t JOIN mkmed.product p ON p.source = t.source AND p.key = t.product_key
JOIN mkmed.readable_drug d ON d.drug_id = t.drug_id JOIN mkmed.readable_artifact a ON a.id = p.artifact;
COMMENT ON VIEW mkmed.products IS
    'One row a product and ingredient: brand, form, strength, the number of its ingredients, and the NDCs of its packages.';

CREATE VIEW mkmed.ddd WITH (security_barrier) AS
SELECT x.code, CASE WHEN EXISTS (SELECT FROM mkmed.readable_artifact n WHERE n.id = c.artifact) THEN c.name END AS class_name,
       x.value, x.unit, x.route, x.note, x.source, a.licence_id, a.share, a.url, a.retrieved_at, a.sha256
FROM mkmed.atc_ddd x JOIN mkmed.atc_class c ON c.code = x.code JOIN mkmed.readable_artifact a ON a.id = x.artifact;
COMMENT ON VIEW mkmed.ddd IS 'Defined daily doses of ATC codes by route of administration.';

ALTER TABLE mkmed.text ADD COLUMN language text;
COMMENT ON COLUMN mkmed.text.language IS 'ISO 639-1, as its source says or the words tell; NULL where neither does';
CREATE OR REPLACE VIEW mkmed.texts WITH (security_barrier) AS
SELECT t.drug_id, d.name, t.provider, t.heading, t.content, t.url, t.licence_id, l.share, t.is_note, t.source,
       a.url AS retrieved_from, a.retrieved_at, encode(a.content, 'hex') AS sha256, t.language
FROM mkmed.text t JOIN mkmed.readable_drug d ON d.drug_id = t.drug_id JOIN mkmed.licence l ON l.id = t.licence_id
JOIN mkmed.artifact a ON a.id = t.artifact
WHERE t.licence_id IN (SELECT r.id FROM mkmed.readable_licence r);

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
    UNION ALL
    SELECT 'indication', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], t.licence_id, t.since, NULL
    FROM mkmed.indication t
    UNION ALL
    SELECT 'kg_provenance', NULL, t.source, NULL,
           to_jsonb(t) - ARRAY['since', 'artifact'] || jsonb_build_object('relation', r.name), t.licence_id, t.since, NULL
    FROM mkmed.kg_provenance t JOIN mkmed.kg_relation r ON r.id = t.relation
    UNION ALL
    SELECT 'product', NULL, t.source, t.key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.product t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'product_part', t.drug_id, t.source, t.record_key, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.product_part t JOIN mkmed.artifact a ON a.id = t.artifact
    UNION ALL
    SELECT 'atc_ddd', NULL, t.source, t.code, to_jsonb(t) - ARRAY['since', 'artifact'], a.licence_id, t.since, NULL
    FROM mkmed.atc_ddd t JOIN mkmed.artifact a ON a.id = t.artifact
)
SELECT f.kind, f.drug_id, f.source, f.record, f.fact, f.licence_id, f.since, f.until FROM fact f
WHERE (SELECT mkmed.may_read_closed()) OR (
    f.licence_id IN (SELECT l.id FROM mkmed.readable_licence l)
    AND (f.source NOT IN (SELECT s.name FROM mkmed.source s WHERE s.origin = 'computed')
         OR f.until IS NULL AND f.drug_id IN (SELECT d.drug_id FROM mkmed.readable_drug d WHERE d.structure_open)));
