-- The views and functions of 0002 and 0003.

DROP FUNCTION mkmed.similar_across(text, text, text, int);
DROP FUNCTION mkmed.similar_drugs(text, int, text, text, text[]);
DROP FUNCTION mkmed.vector_of(text, text);
DROP FUNCTION mkmed.similar_to(vector, int, text, text, text[]);
DROP FUNCTION mkmed.nearest(vector, int, text, text, text[], bigint);
DROP FUNCTION mkmed.candidates(text, text[]);
DROP FUNCTION mkmed.find_drug(text);
DROP PROCEDURE mkmed.define_vector_views(text, int);
DROP VIEW mkmed.drug_vector, mkmed.modality_vector;
DROP VIEW mkmed.interactions, mkmed.triples, mkmed.properties, mkmed.texts, mkmed.provenance, mkmed.availability,
    mkmed.drugs, mkmed.bucket;
DROP FUNCTION mkmed.modality_names(smallint);
