-- Roles for an external PostgreSQL: run once as a superuser or the database's owner, and again after every
-- `mkmed db upgrade`; running it again changes nothing. The embedded server needs none of this: it has one user.
--
--   psql -v ON_ERROR_STOP=1 -d mkmed -f roles.sql        (or: mkmed db roles)
--
-- mkmed_ingest  reads and writes every table, but owns none
-- mkmed_reader  reads what its licence lets anybody read
-- mkmed_nc      given in addition: reads non-commercial and restricted material too
--
-- A person gets a login that belongs to a role:  CALL mkmed.add_reader('alice');  \password alice
-- What a reader may still do, so do not rely on it: raise its own statement_timeout and work_mem, and take advisory
-- locks. Hard limits are CONNECTION LIMIT, temp_file_limit, the missing grants, and what stands before the server.

DO $roles$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['mkmed_ingest', 'mkmed_reader', 'mkmed_nc'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO mkmed_ingest', current_database());
END
$roles$;

REVOKE ALL ON SCHEMA public, mkmed, ext FROM PUBLIC;
GRANT USAGE ON SCHEMA mkmed, ext TO mkmed_ingest, mkmed_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA mkmed TO mkmed_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mkmed TO mkmed_ingest;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA mkmed TO mkmed_ingest;
-- Views that are made anew (when a run of another width is published) stay readable.
ALTER DEFAULT PRIVILEGES IN SCHEMA mkmed GRANT SELECT ON TABLES TO mkmed_reader, mkmed_ingest;

-- Functions of the public interface may be called; procedures that define or change things may not.
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA mkmed FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mkmed TO mkmed_reader, mkmed_ingest;
GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA mkmed TO mkmed_ingest;

-- A row is open when its licence is; a row without a licence of its own follows the artifact that it was read from.
-- The policies ask for membership in a role, never for a setting that a reader could change.
DO $policies$
DECLARE
    target record;
    open_licence constant text :=
        '(SELECT l.id FROM mkmed.licence l WHERE l.share IN (''open'', ''attribution'', ''share-alike''))';
    allowed text;
BEGIN
    FOR target IN
        SELECT c.relname AS name,
               bool_or(a.attname = 'licence_id') AS licensed,
               bool_or(a.attname = 'artifact') AS derived
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'mkmed'::regnamespace AND c.relkind = 'r' AND c.relname <> 'source'
        GROUP BY c.relname
    LOOP
        CONTINUE WHEN NOT (target.licensed OR target.derived);
        allowed := CASE WHEN target.licensed THEN 'licence_id IN ' || open_licence
                        ELSE 'artifact IS NULL OR artifact IN (SELECT o.sha256 FROM mkmed.artifact o)' END;
        EXECUTE format('ALTER TABLE mkmed.%I ENABLE ROW LEVEL SECURITY', target.name);
        EXECUTE format('DROP POLICY IF EXISTS reader_licence ON mkmed.%I', target.name);
        EXECUTE format('DROP POLICY IF EXISTS ingest_all ON mkmed.%I', target.name);
        EXECUTE format(
            'CREATE POLICY reader_licence ON mkmed.%I FOR SELECT TO mkmed_reader USING '
            '(pg_has_role(current_user, ''mkmed_nc'', ''member'') OR (%s))', target.name, allowed);
        EXECUTE format('CREATE POLICY ingest_all ON mkmed.%I TO mkmed_ingest USING (true) WITH CHECK (true)',
                       target.name);
    END LOOP;
    -- A view asks with its reader's rights, or it would show what the policies hide.
    FOR target IN SELECT relname AS name FROM pg_class WHERE relnamespace = 'mkmed'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('ALTER VIEW mkmed.%I SET (security_invoker = true)', target.name);
    END LOOP;
END
$policies$;

CREATE OR REPLACE PROCEDURE mkmed.add_reader(login text)
LANGUAGE plpgsql SET search_path = pg_catalog
AS $add$
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN IN ROLE mkmed_reader CONNECTION LIMIT 4', login);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''5s''', login);
    IF current_setting('server_version_num')::int >= 170000 THEN
        EXECUTE format('ALTER ROLE %I SET transaction_timeout = ''15s''', login);
    END IF;
    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''10s''', login);
    EXECUTE format('ALTER ROLE %I SET search_path = mkmed, ext', login);
    -- Only a superuser may set this one, and so the reader cannot raise it.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('ALTER ROLE %I SET temp_file_limit = ''256MB''', login);
    END IF;
END
$add$;
REVOKE EXECUTE ON PROCEDURE mkmed.add_reader FROM PUBLIC, mkmed_ingest;
