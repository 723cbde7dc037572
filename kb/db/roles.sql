-- Roles for an external PostgreSQL: run once as a superuser or the database's owner, and again after every
-- `mkmed db upgrade`; running it again changes nothing. The embedded server needs none of this: it has one user.
--
--   psql -v ON_ERROR_STOP=1 -d mkmed -f roles.sql        (or: mkmed db roles)
--
-- mkmed_ingest  reads and writes every table, but owns none
-- mkmed_reader  reads views, which show it what an open licence lets anybody read; it has no table
-- mkmed_nc      given in addition: the views show non-commercial, restricted and unlicensed material too
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
