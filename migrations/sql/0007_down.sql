-- One table of artifacts again, and one licence a relation.

DROP PROCEDURE mkmed.drop_triple_keys(boolean);
DROP PROCEDURE mkmed.build_triple_keys();

ALTER TABLE mkmed.kg_entity DROP COLUMN label_artifact;
CREATE TABLE mkmed.edge AS SELECT DISTINCT head, relation, tail FROM mkmed.kg_triple ORDER BY head, relation, tail;
DROP TABLE mkmed.kg_triple;
ALTER TABLE mkmed.edge RENAME TO kg_triple;
ALTER TABLE mkmed.kg_relation ADD COLUMN provider text, ADD COLUMN description text, ADD COLUMN licence_id text,
    ADD COLUMN source text, ADD COLUMN artifact bytea;
UPDATE mkmed.kg_relation r SET provider = p.provider, description = p.description, licence_id = p.licence_id,
    source = p.source, artifact = p.artifact
FROM (SELECT DISTINCT ON (relation) * FROM mkmed.kg_provenance ORDER BY relation, id) p WHERE p.relation = r.id;
DELETE FROM mkmed.kg_relation WHERE provider IS NULL;
DROP TABLE mkmed.kg_provenance;
ALTER TABLE mkmed.kg_relation ALTER provider SET NOT NULL, ALTER licence_id SET NOT NULL, ALTER source SET NOT NULL,
    ALTER artifact SET NOT NULL,
    ADD CONSTRAINT fk_kg_relation_licence_id FOREIGN KEY (licence_id) REFERENCES mkmed.licence (id),
    ADD CONSTRAINT fk_kg_relation_source FOREIGN KEY (source) REFERENCES mkmed.source (name),
    ADD CONSTRAINT fk_kg_relation_artifact FOREIGN KEY (artifact) REFERENCES mkmed.artifact (id);
COMMENT ON COLUMN mkmed.kg_relation.provider IS 'the database that the relation was taken from';
ALTER TABLE mkmed.kg_triple ALTER head SET NOT NULL, ALTER relation SET NOT NULL, ALTER tail SET NOT NULL,
    ADD CONSTRAINT pk_kg_triple PRIMARY KEY (head, relation, tail),
    ADD CONSTRAINT fk_kg_triple_head FOREIGN KEY (head) REFERENCES mkmed.kg_entity (id),
    ADD CONSTRAINT fk_kg_triple_relation FOREIGN KEY (relation) REFERENCES mkmed.kg_relation (id),
    ADD CONSTRAINT fk_kg_triple_tail FOREIGN KEY (tail) REFERENCES mkmed.kg_entity (id);
CREATE INDEX ix_kg_triple_tail_relation_head ON mkmed.kg_triple (tail, relation, head);

CREATE TEMP TABLE artifact_key ON COMMIT DROP AS
SELECT c.relname AS target, k.conname AS name, a.attname AS referring, k.confdeltype = 'c' AS cascade
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE k.contype = 'f' AND k.confrelid = 'mkmed.artifact'::regclass;
CREATE TEMP TABLE kept ON COMMIT DROP AS
SELECT DISTINCT ON (content) * FROM mkmed.artifact ORDER BY content, id;

DO $unbind$
DECLARE
    key record;
BEGIN
    FOR key IN SELECT * FROM artifact_key LOOP
        EXECUTE format('ALTER TABLE mkmed.%I DROP CONSTRAINT %I', key.target, key.name);
        IF key.target = 'artifact_seen' THEN
            DELETE FROM mkmed.artifact_seen s USING mkmed.artifact a
            WHERE s.artifact = a.id AND a.id NOT IN (SELECT id FROM kept);
        END IF;
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ('mkmed.' || key.target)::regclass AND tgname = 'retire_changed') THEN
            EXECUTE format('ALTER TABLE mkmed.%I DISABLE TRIGGER retire_changed', key.target);
        END IF;
        EXECUTE format('UPDATE mkmed.%I t SET %I = a.content FROM mkmed.artifact a WHERE t.%I = a.id', key.target,
                       key.referring, key.referring);
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ('mkmed.' || key.target)::regclass AND tgname = 'retire_changed') THEN
            EXECUTE format('ALTER TABLE mkmed.%I ENABLE TRIGGER retire_changed', key.target);
        END IF;
    END LOOP;
    UPDATE mkmed.retired t SET artifact = a.content FROM mkmed.artifact a WHERE t.artifact = a.id;
END
$unbind$;
DELETE FROM mkmed.content WHERE sha256 NOT IN (SELECT content FROM kept);
DROP TABLE mkmed.artifact;
DROP FUNCTION mkmed.artifact_id(bytea, text, text, text, int);
ALTER TABLE mkmed.content RENAME TO artifact;
ALTER TABLE mkmed.artifact RENAME CONSTRAINT pk_content TO pk_artifact;
ALTER TABLE mkmed.artifact RENAME CONSTRAINT ck_content_payload_or_uri TO ck_artifact_payload_or_uri;
ALTER TABLE mkmed.artifact RENAME CONSTRAINT ck_content_sha256_length TO ck_artifact_sha256_length;
ALTER TABLE mkmed.artifact RENAME CONSTRAINT ck_content_sha256_matches TO ck_artifact_sha256_matches;
ALTER TABLE mkmed.artifact ADD COLUMN media_type text, ADD COLUMN source text, ADD COLUMN url text,
    ADD COLUMN http_status integer, ADD COLUMN licence_id text, ADD COLUMN attribution text,
    ADD COLUMN upstream_version text, ADD COLUMN parser text, ADD COLUMN retrieved_at timestamptz, ADD COLUMN run_id uuid;
UPDATE mkmed.artifact a SET media_type = k.media_type, source = k.source, url = k.url, http_status = k.http_status,
    licence_id = k.licence_id, attribution = k.attribution, upstream_version = k.upstream_version, parser = k.parser,
    retrieved_at = k.retrieved_at, run_id = k.run_id
FROM kept k WHERE k.content = a.sha256;
ALTER TABLE mkmed.artifact ALTER media_type SET NOT NULL, ALTER source SET NOT NULL, ALTER url SET NOT NULL,
    ALTER licence_id SET NOT NULL, ALTER attribution SET NOT NULL, ALTER parser SET NOT NULL,
    ALTER retrieved_at SET NOT NULL, ALTER run_id SET NOT NULL,
    ADD CONSTRAINT fk_artifact_licence_id FOREIGN KEY (licence_id) REFERENCES mkmed.licence (id),
    ADD CONSTRAINT fk_artifact_run_id FOREIGN KEY (run_id) REFERENCES mkmed.run (id),
    ADD CONSTRAINT fk_artifact_source FOREIGN KEY (source) REFERENCES mkmed.source (name);
CREATE INDEX ix_artifact_source ON mkmed.artifact (source);
ALTER TABLE mkmed.artifact_seen RENAME COLUMN artifact TO sha256;
DO $rebind$
DECLARE
    key record;
    referring text;
BEGIN
    FOR key IN SELECT * FROM artifact_key WHERE target NOT IN ('kg_provenance', 'kg_entity') LOOP
        referring := CASE key.target WHEN 'artifact_seen' THEN 'sha256' ELSE key.referring END;
        EXECUTE format('ALTER TABLE mkmed.%I ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES mkmed.artifact (sha256)%s', key.target,
                       'fk_' || key.target || '_' || referring, referring, CASE WHEN key.cascade THEN ' ON DELETE CASCADE' ELSE '' END);
    END LOOP;
END
$rebind$;
