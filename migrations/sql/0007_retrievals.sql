-- Retrievals apart from content, and a licence per edge.

-- Row policies are replaced by views (0007_views.sql); a reader keeps nothing until the grants are made anew.
DO $policies$
DECLARE
    target record;
BEGIN
    FOR target IN SELECT p.polname, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                  WHERE c.relnamespace = 'mkmed'::regnamespace LOOP
        EXECUTE format('DROP POLICY %I ON mkmed.%I', target.polname, target.relname);
        EXECUTE format('ALTER TABLE mkmed.%I DISABLE ROW LEVEL SECURITY', target.relname);
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mkmed_reader') THEN
        REVOKE ALL ON ALL TABLES IN SCHEMA mkmed FROM mkmed_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed REVOKE ALL ON TABLES FROM mkmed_reader;
    END IF;
END
$policies$;

-- The foreign keys to artifact, to be made anew on its new key.
CREATE TEMP TABLE artifact_key ON COMMIT DROP AS
SELECT c.relname AS target, k.conname AS name, a.attname AS referring, k.confdeltype = 'c' AS cascade
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE k.contype = 'f' AND k.confrelid = 'mkmed.artifact'::regclass;

DO $free$
DECLARE
    key record;
BEGIN
    FOR key IN SELECT * FROM artifact_key LOOP
        EXECUTE format('ALTER TABLE mkmed.%I DROP CONSTRAINT %I', key.target, key.name);
    END LOOP;
END
$free$;

-- The old table keeps the bytes, which are never copied, and a new one takes the rest.
ALTER TABLE mkmed.artifact DROP CONSTRAINT fk_artifact_licence_id, DROP CONSTRAINT fk_artifact_run_id,
    DROP CONSTRAINT fk_artifact_source;
DROP INDEX mkmed.ix_artifact_source;
ALTER TABLE mkmed.artifact RENAME TO content;
ALTER TABLE mkmed.content RENAME CONSTRAINT pk_artifact TO pk_content;
ALTER TABLE mkmed.content RENAME CONSTRAINT ck_artifact_payload_or_uri TO ck_content_payload_or_uri;
ALTER TABLE mkmed.content RENAME CONSTRAINT ck_artifact_sha256_length TO ck_content_sha256_length;
ALTER TABLE mkmed.content RENAME CONSTRAINT ck_artifact_sha256_matches TO ck_content_sha256_matches;

CREATE FUNCTION mkmed.artifact_id(content bytea, source text, url text, licence_id text, http_status int) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
    SELECT sha256(content || sha256(convert_to(source, 'UTF8')) || sha256(convert_to(url, 'UTF8'))
                  || sha256(convert_to(licence_id, 'UTF8')) || sha256(convert_to(coalesce(http_status::text, ''), 'UTF8')))
$$;
COMMENT ON FUNCTION mkmed.artifact_id IS 'The id of a retrieval: a hash over the content''s sha256 and where it came from.';

CREATE OR REPLACE FUNCTION pg_temp.public_url(url text) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE WHEN url ~* '^file:' THEN 'file:' || regexp_replace(url, '^.*/', '')
    ELSE regexp_replace(regexp_replace(url, '^([a-z][a-z0-9+.-]*://)[^/?#]*@', '\1', 'i'),
        '([?&;#][^=&;#]*(?:token|secret|passw|pwd|key|sig|auth|credential|session|jwt|ticket)[^=&;#]*=)[^&;#]*', '\1***', 'gi')
    END
$$;

-- A PubChem answer is under the most restrictive licence of the texts that were read from it.
CREATE TEMP TABLE quoted ON COMMIT DROP AS
SELECT DISTINCT ON (t.artifact) t.artifact AS sha256, t.licence_id
FROM mkmed.text t JOIN mkmed.licence l ON l.id = t.licence_id JOIN mkmed.content a ON a.sha256 = t.artifact
WHERE a.source = 'pubchem' AND l.share <> 'open'
ORDER BY t.artifact, array_position(
    ARRAY['open', 'attribution', 'share-alike', 'non-commercial', 'restricted', 'unknown'], l.share) DESC, t.licence_id;

CREATE TEMP TABLE retrieval ON COMMIT DROP AS
SELECT mkmed.artifact_id(c.sha256, c.source, c.url, c.licence_id, c.http_status) AS id, c.*
FROM (SELECT c.sha256, c.media_type, c.source, pg_temp.public_url(c.url) AS url, c.http_status,
             coalesce(q.licence_id, c.licence_id) AS licence_id, c.attribution, c.upstream_version, c.parser,
             c.retrieved_at, c.run_id
      FROM mkmed.content c LEFT JOIN quoted q USING (sha256)) c;

CREATE TABLE mkmed.artifact (
    id bytea NOT NULL,
    content bytea NOT NULL,
    media_type text NOT NULL,
    source text NOT NULL,
    url text NOT NULL,
    http_status integer,
    licence_id text NOT NULL,
    attribution text NOT NULL,
    upstream_version text,
    parser text NOT NULL,
    retrieved_at timestamptz NOT NULL,
    run_id uuid NOT NULL,
    CONSTRAINT pk_artifact PRIMARY KEY (id),
    CONSTRAINT ck_artifact_id_length CHECK (octet_length(id) = 32)
);
COMMENT ON COLUMN mkmed.artifact.id IS 'a hash over content, source, url, licence and status';
COMMENT ON COLUMN mkmed.artifact.url IS 'without credentials; of a local file its name alone';
INSERT INTO mkmed.artifact
SELECT id, sha256, media_type, source, url, http_status, licence_id, attribution, upstream_version, parser, retrieved_at,
       run_id FROM retrieval;
ALTER TABLE mkmed.content DROP COLUMN media_type, DROP COLUMN source, DROP COLUMN url, DROP COLUMN http_status,
    DROP COLUMN licence_id, DROP COLUMN attribution, DROP COLUMN upstream_version, DROP COLUMN parser,
    DROP COLUMN retrieved_at, DROP COLUMN run_id;
ALTER TABLE mkmed.artifact
    ADD CONSTRAINT fk_artifact_content FOREIGN KEY (content) REFERENCES mkmed.content (sha256),
    ADD CONSTRAINT fk_artifact_licence_id FOREIGN KEY (licence_id) REFERENCES mkmed.licence (id),
    ADD CONSTRAINT fk_artifact_run_id FOREIGN KEY (run_id) REFERENCES mkmed.run (id),
    ADD CONSTRAINT fk_artifact_source FOREIGN KEY (source) REFERENCES mkmed.source (name);
CREATE INDEX ix_artifact_source ON mkmed.artifact (source);
CREATE INDEX ix_artifact_content ON mkmed.artifact (content);
ANALYZE mkmed.artifact;

DO $rebind$
DECLARE
    key record;
    referring text;
BEGIN
    ALTER TABLE mkmed.artifact_seen RENAME COLUMN sha256 TO artifact;
    FOR key IN SELECT * FROM artifact_key LOOP
        referring := CASE key.target WHEN 'artifact_seen' THEN 'artifact' ELSE key.referring END;
        -- A row that is only told where its retrieval stands has not changed, so it is not retired.
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ('mkmed.' || key.target)::regclass AND tgname = 'retire_changed') THEN
            EXECUTE format('ALTER TABLE mkmed.%I DISABLE TRIGGER retire_changed', key.target);
        END IF;
        EXECUTE format('UPDATE mkmed.%I t SET %I = r.id FROM retrieval r WHERE t.%I = r.sha256', key.target, referring,
                       referring);
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ('mkmed.' || key.target)::regclass AND tgname = 'retire_changed') THEN
            EXECUTE format('ALTER TABLE mkmed.%I ENABLE TRIGGER retire_changed', key.target);
        END IF;
        EXECUTE format('ALTER TABLE mkmed.%I ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES mkmed.artifact (id)%s', key.target,
                       'fk_' || key.target || '_' || referring, referring, CASE WHEN key.cascade THEN ' ON DELETE CASCADE' ELSE '' END);
    END LOOP;
    UPDATE mkmed.retired t SET artifact = r.id FROM retrieval r WHERE t.artifact = r.sha256;
END
$rebind$;

CREATE OR REPLACE FUNCTION mkmed.retire() RETURNS trigger
LANGUAGE plpgsql
SET search_path = mkmed, pg_temp
AS $$
DECLARE
    old_row jsonb := to_jsonb(OLD);
BEGIN
    INSERT INTO mkmed.retired (kind, drug_id, source, key, fact, artifact, licence_id, since, until)
    VALUES (TG_TABLE_NAME,
            coalesce(old_row ->> 'drug_id', old_row ->> 'drug_a', CASE TG_TABLE_NAME WHEN 'drug' THEN old_row ->> 'id' END)::bigint,
            old_row ->> 'source', coalesce(old_row ->> 'key', old_row ->> 'record_key', old_row ->> 'a_key'),
            old_row - ARRAY['since', 'artifact', 'run_id', 'name_key', 'related_from', 'inchikey_block', 'digest', 'updated_at'],
            (old_row ->> 'artifact')::bytea,
            coalesce(old_row ->> 'licence_id',
                     (SELECT a.licence_id FROM mkmed.artifact a WHERE a.id = (old_row ->> 'artifact')::bytea)),
            OLD.since, greatest(statement_timestamp(), OLD.since));
    IF TG_OP = 'UPDATE' THEN
        NEW.since := statement_timestamp();
        RETURN NEW;
    END IF;
    RETURN OLD;
END $$;

-- Secrets and local paths that older runs kept.
UPDATE mkmed.run SET config = regexp_replace(regexp_replace(config::text,
    '([a-z][a-z0-9+.-]*://)[^/?#"\s]*@', '\1', 'gi'),
    '([?&;][^=&;"]*(?:token|secret|passw|pwd|key|sig|auth|credential|session|jwt|ticket)[^=&;"]*=)[^&;"]*', '\1***', 'gi')::jsonb
WHERE config::text ~ '://';

-- Whose an edge is stands with the edge: a relation of two files has two provenances.
CREATE TABLE mkmed.kg_provenance (
    id smallint NOT NULL,
    relation integer NOT NULL,
    provider text NOT NULL,
    description text,
    licence_id text NOT NULL,
    source text NOT NULL,
    artifact bytea NOT NULL,
    CONSTRAINT pk_kg_provenance PRIMARY KEY (id),
    CONSTRAINT uq_kg_provenance_relation_id UNIQUE (relation, id),
    CONSTRAINT fk_kg_provenance_relation FOREIGN KEY (relation) REFERENCES mkmed.kg_relation (id),
    CONSTRAINT fk_kg_provenance_licence_id FOREIGN KEY (licence_id) REFERENCES mkmed.licence (id),
    CONSTRAINT fk_kg_provenance_source FOREIGN KEY (source) REFERENCES mkmed.source (name),
    CONSTRAINT fk_kg_provenance_artifact FOREIGN KEY (artifact) REFERENCES mkmed.artifact (id)
);
COMMENT ON COLUMN mkmed.kg_provenance.provider IS 'the database that the triples were taken from';
COMMENT ON COLUMN mkmed.kg_provenance.description IS 'what the relation means there';
CREATE UNIQUE INDEX uq_kg_provenance_statement ON mkmed.kg_provenance (relation, source, provider, licence_id, artifact);
INSERT INTO mkmed.kg_provenance
SELECT row_number() OVER (ORDER BY id), id, provider, description, licence_id, source, artifact FROM mkmed.kg_relation;
ALTER TABLE mkmed.kg_relation DROP COLUMN provider, DROP COLUMN description, DROP COLUMN licence_id, DROP COLUMN source,
    DROP COLUMN artifact;

CREATE TABLE mkmed.edge AS
SELECT k.head, k.relation, k.tail, p.id AS provenance
FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.relation = k.relation ORDER BY k.head, k.relation, k.tail;
DROP TABLE mkmed.kg_triple;
ALTER TABLE mkmed.edge RENAME TO kg_triple;
ALTER TABLE mkmed.kg_triple ALTER head SET NOT NULL, ALTER relation SET NOT NULL, ALTER tail SET NOT NULL,
    ALTER provenance SET NOT NULL;

ALTER TABLE mkmed.kg_entity ADD COLUMN label_artifact bytea
    CONSTRAINT fk_kg_entity_label_artifact REFERENCES mkmed.artifact (id);
UPDATE mkmed.kg_entity SET label_artifact =
    (SELECT p.artifact FROM mkmed.kg_provenance p JOIN mkmed.licence l ON l.id = p.licence_id
     ORDER BY p.source <> 'corpus', p.id LIMIT 1) WHERE label IS NOT NULL;

-- A bulk load takes the keys off and builds them again, which only the owner may; these let the ingest role do it too.
CREATE PROCEDURE mkmed.drop_triple_keys(emptied boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $drop$
BEGIN
    ALTER TABLE mkmed.kg_triple DROP CONSTRAINT fk_kg_triple_head, DROP CONSTRAINT fk_kg_triple_relation_provenance,
        DROP CONSTRAINT fk_kg_triple_tail, DROP CONSTRAINT pk_kg_triple;
    DROP INDEX mkmed.ix_kg_triple_tail_relation_head;
    IF emptied THEN
        IF EXISTS (SELECT FROM mkmed.kg_triple) THEN
            RAISE EXCEPTION 'kg_triple has rows';
        END IF;
        TRUNCATE mkmed.kg_triple;
    END IF;
END
$drop$;
COMMENT ON PROCEDURE mkmed.drop_triple_keys IS
    'Takes the keys off kg_triple before a bulk load; an empty table is truncated, so that COPY may freeze its rows.';

-- The foreign keys are not valid in PostgreSQL's sense: whatever is written later is held to them, and a bulk load, whose
-- numbers come from the tables themselves, is not read three times more. I9 of mkmed kb verify reads it.
CREATE PROCEDURE mkmed.build_triple_keys()
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $build$
BEGIN
    ALTER TABLE mkmed.kg_triple ADD CONSTRAINT pk_kg_triple PRIMARY KEY (head, relation, tail, provenance);
    CREATE INDEX ix_kg_triple_tail_relation_head ON mkmed.kg_triple (tail, relation, head);
    ANALYZE mkmed.kg_entity, mkmed.kg_relation, mkmed.kg_provenance, mkmed.kg_triple;
    ALTER TABLE mkmed.kg_triple
        ADD CONSTRAINT fk_kg_triple_head FOREIGN KEY (head) REFERENCES mkmed.kg_entity (id) NOT VALID,
        ADD CONSTRAINT fk_kg_triple_tail FOREIGN KEY (tail) REFERENCES mkmed.kg_entity (id) NOT VALID,
        ADD CONSTRAINT fk_kg_triple_relation_provenance
            FOREIGN KEY (relation, provenance) REFERENCES mkmed.kg_provenance (relation, id) NOT VALID;
END
$build$;
COMMENT ON PROCEDURE mkmed.build_triple_keys IS 'Builds the keys of kg_triple again after a bulk load, and its statistics.';
REVOKE EXECUTE ON PROCEDURE mkmed.drop_triple_keys, mkmed.build_triple_keys FROM PUBLIC;
CALL mkmed.build_triple_keys();
