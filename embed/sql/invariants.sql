-- The invariants of the embedding store; the form is that of kb/sql/invariants.sql.

-- I5a: every vector belongs to a complete run and has that run's width (predicted ones: all the same) and a finite norm that is not zero
SELECT e.run_id::text AS run, e.drug_id, e.modality, 'width, norm or run' AS problem
FROM mkmed.embedding e LEFT JOIN mkmed.embedding_run r USING (run_id)
WHERE r.state IS DISTINCT FROM 'complete'
   OR vector_dims(e.embedding) <> CASE e.modality WHEN 'predicted' THEN (
          SELECT vector_dims(o.embedding) FROM mkmed.embedding o
          WHERE o.run_id = e.run_id AND o.modality = 'predicted' LIMIT 1) ELSE r.width END
   OR NOT vector_norm(e.embedding) BETWEEN 1e-6 AND 1e6;

-- I5b: the published run is complete
SELECT p.run_id::text AS run, 'published but not complete' AS problem
FROM mkmed.published p JOIN mkmed.embedding_run r USING (run_id) WHERE r.state <> 'complete';

-- I5c: a fused vector says what it rests on
SELECT e.run_id::text AS run, e.drug_id, 'fused vector that rests on nothing' AS problem
FROM mkmed.embedding e WHERE e.modality = 'fused' AND e.rests_on = 0;
