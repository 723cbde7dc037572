-- The vector views in the width of the published run.
DO $views$
DECLARE
    run record;
BEGIN
    SELECT r.precision, r.width INTO run FROM mkmed.embedding_run r JOIN mkmed.published p ON p.run_id = r.run_id;
    CALL mkmed.define_vector_views(coalesce(run.precision, 'vector'), coalesce(run.width, 64));
END
$views$;
