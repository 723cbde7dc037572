-- Spreads the triples of a large graph over the workers of a Citus cluster, by their head entity: what starts from a drug
-- is answered by one worker. Run it once, as the owner of mkmed's tables, after `mkmed db upgrade`, on the coordinator:
--
--     psql "$(mkmed db url)" -v ON_ERROR_STOP=1 -f docs/deploy/citus.sql
--
-- `CREATE EXTENSION citus` and citus_add_node for every worker come before it; CREATE EXTENSION vector on every worker, too.
-- mkmed's authors had no Citus: these statements were checked against stand-ins of its two functions, never on a cluster.
-- Try it on a copy.

BEGIN;

DO $spread$
DECLARE
    needed regclass;
BEGIN
    -- What the triples refer to, and what that refers to, lies whole on every worker; what is referred to comes first.
    FOR needed IN
        WITH RECURSIVE behind (relation, depth) AS (
            SELECT 'mkmed.kg_triple'::regclass::oid, 0
            UNION
            SELECT c.confrelid, b.depth + 1
            FROM behind b JOIN pg_constraint c ON c.conrelid = b.relation AND c.contype = 'f' AND c.confrelid <> c.conrelid
            WHERE b.depth < 20
        )
        SELECT relation::regclass FROM behind WHERE depth > 0 GROUP BY relation ORDER BY max(depth) DESC, relation
    LOOP
        PERFORM create_reference_table(needed);
        RAISE NOTICE '% lies on every worker', needed;
    END LOOP;
    PERFORM create_distributed_table('mkmed.kg_triple', 'head');
    RAISE NOTICE 'mkmed.kg_triple is spread by head';
END
$spread$;

COMMIT;
