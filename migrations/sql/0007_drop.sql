-- The views and functions of 0007_views.sql.

DROP FUNCTION mkmed.similar_across(text, text, text, int);
DROP FUNCTION mkmed.similar_drugs(text, int, text, text, text[]);
DROP FUNCTION mkmed.vector_of(text, text);
DROP FUNCTION mkmed.similar_to(vector, int, text, text, text[]);
DROP FUNCTION mkmed.nearest(vector, int, text, text, text[], bigint);
DROP FUNCTION mkmed.candidates(text, text[]);
DROP FUNCTION mkmed.find_drug(text);
DROP FUNCTION mkmed.find_drugs(text);
DROP VIEW mkmed.drug_vector, mkmed.modality_vector;
DROP VIEW mkmed.published_vector, mkmed.published_run;
DROP VIEW mkmed.history, mkmed.substance_relations, mkmed.readable_relation;
DROP VIEW mkmed.schema_version, mkmed.runs, mkmed.sources, mkmed.documents, mkmed.bucket, mkmed.provenance,
    mkmed.availability, mkmed.readable_cell, mkmed.drug_entities, mkmed.triples, mkmed.readable_label, mkmed.relations,
    mkmed.entities, mkmed.readable_provenance, mkmed.interactions, mkmed.images, mkmed.conformers, mkmed.properties,
    mkmed.texts, mkmed.drugs, mkmed.atc, mkmed.atc_classes, mkmed.records, mkmed.identifiers, mkmed.names,
    mkmed.readable_artifact, mkmed.readable_drug;
DROP FUNCTION mkmed.is_open(text);
DROP VIEW mkmed.licences, mkmed.readable_licence;
DROP FUNCTION mkmed.may_read_closed();
DROP FUNCTION mkmed.is_open_share(text);
