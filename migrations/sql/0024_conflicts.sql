-- The kind of a conflict: an identifier that several structures claim, a structure that several substances claim, or
-- what release 0.1.0 got wrong, which a migration found.

ALTER TABLE mkmed.drug_conflict ADD COLUMN kind text;
COMMENT ON COLUMN mkmed.drug_conflict.kind IS 'what is in conflict; release: what an older mkmed got wrong';
UPDATE mkmed.drug_conflict SET kind = CASE
    WHEN reason LIKE 'release 0.1.0 %' THEN 'release'
    WHEN reason LIKE '%claims the structure' THEN 'structure'
    ELSE 'identifier' END;
ALTER TABLE mkmed.drug_conflict ALTER COLUMN kind SET NOT NULL,
    ADD CONSTRAINT ck_drug_conflict_kind CHECK (kind IN ('identifier', 'structure', 'release'));
