-- The public views of the vectors without a width: a run of any width can be published, and views that people built on
-- them stay as they are. Such views are saved, and made again with owner, comment and grants.

CREATE FUNCTION mkmed.replace_vector_views(definitions text[]) RETURNS void
LANGUAGE plpgsql
AS $replace$
DECLARE
    public_views CONSTANT oid[] := ARRAY['mkmed.drug_vector'::regclass::oid, 'mkmed.modality_vector'::regclass::oid];
    saved jsonb;
    one jsonb;
    right_ record;
    statement text;
BEGIN
    WITH RECURSIVE users(oid, depth) AS (
        SELECT o, 0 FROM unnest(public_views) o
        UNION
        SELECT r.ev_class, u.depth + 1 FROM users u
        JOIN pg_depend d ON d.refobjid = u.oid AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> u.oid
    ), deepest AS (SELECT oid, max(depth) AS depth FROM users GROUP BY oid)
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', format('%I.%I', n.nspname, c.relname), 'kind', c.relkind, 'oid', c.oid::bigint,
        'owner', pg_get_userbyid(c.relowner), 'definition', pg_get_viewdef(c.oid), 'comment', obj_description(c.oid, 'pg_class'),
        'options', array_to_string(c.reloptions, ', '),
        'rights', (SELECT jsonb_agg(jsonb_build_object('to', CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                                                             ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                                                       'right', a.privilege_type))
                   FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)) ORDER BY x.depth), '[]')
    INTO saved FROM deepest x JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace;
    FOR one IN SELECT jsonb_array_elements(saved) LOOP
        IF one->>'kind' <> 'v' THEN
            RAISE EXCEPTION '% is built on mkmed''s vector views and is no plain view', one->>'name'
                USING HINT = 'drop it, run mkmed db upgrade, and create it again';
        END IF;
    END LOOP;
    DROP VIEW mkmed.drug_vector, mkmed.modality_vector CASCADE;
    FOREACH statement IN ARRAY definitions LOOP
        EXECUTE statement;
    END LOOP;
    FOR one IN SELECT jsonb_array_elements(saved) LOOP
        IF NOT (one->>'oid')::bigint::oid = ANY (public_views) THEN
            EXECUTE format('CREATE VIEW %s AS %s', one->>'name', one->>'definition');
        END IF;
        EXECUTE format('ALTER VIEW %s OWNER TO %I', one->>'name', one->>'owner');
        IF one->>'options' <> '' THEN
            EXECUTE format('ALTER VIEW %s SET (%s)', one->>'name', one->>'options');
        END IF;
        IF NOT (one->>'oid')::bigint::oid = ANY (public_views) THEN
            IF one->>'comment' IS NOT NULL THEN
                EXECUTE format('COMMENT ON VIEW %s IS %L', one->>'name', one->>'comment');
            END IF;
        END IF;
        FOR right_ IN SELECT r->>'to' AS grantee, r->>'right' AS privilege
                      FROM jsonb_array_elements(coalesce(nullif(one->'rights', 'null'), '[]')) r LOOP
            EXECUTE format('GRANT %s ON %s TO %s', right_.privilege, one->>'name', right_.grantee);
        END LOOP;
    END LOOP;
END
$replace$;
