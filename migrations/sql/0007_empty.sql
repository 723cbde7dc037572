-- The public views keep their names and columns while the tables below them change, so that what people built on them
-- stays; each shows nothing until it is defined anew.
DO $empty$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT c.relname AS name, string_agg(format('NULL::%s AS %I', format_type(a.atttypid, a.atttypmod), a.attname), ', '
                                             ORDER BY a.attnum) AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = 'mkmed'::regnamespace AND c.relkind = 'v' AND c.relname IN (
            'bucket', 'drugs', 'availability', 'provenance', 'texts', 'properties', 'triples', 'interactions', 'history',
            'substance_relations', 'drug_vector', 'modality_vector')
        GROUP BY c.relname
    LOOP
        EXECUTE format('CREATE OR REPLACE VIEW mkmed.%I AS SELECT %s WHERE false', target.name, target.columns);
    END LOOP;
END
$empty$;
