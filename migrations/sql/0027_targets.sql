-- The rule of 0013, which knew DRKG's and DrugMechDB's relations, with ChEMBL's mechanisms and PrimeKG's targets.
CREATE OR REPLACE FUNCTION mkmed.action_of(relation text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog
AS $$
    SELECT CASE
        WHEN relation ~ '^DGIDB::((PARTIAL )?AGONIST|ACTIVATOR|POSITIVE ALLOSTERIC MODULATOR|POTENTIATOR|STIMULATOR|INDUCER)::'
          OR relation ~ '^ChEMBL::(partial_agonist|agonist|activator|opener|positive_allosteric_modulator)::Compound:'
          OR relation ~ '^DrugMechDB::(increases activity of|positively regulates)::Compound:(Protein|Gene Family|Complex)$'
          OR relation = 'GNBR::A+::Compound:Gene' THEN 1
        WHEN relation ~ '^DGIDB::(ANTAGONIST|(NEGATIVE |ALLOSTERIC |GATING |CHANNEL |INVERSE )*(INHIBITOR|BLOCKER|AGONIST|MODULATOR))::'
             AND relation !~ '^DGIDB::(AGONIST|MODULATOR|ALLOSTERIC MODULATOR)::'
          OR relation ~ '^ChEMBL::((allosteric_)?antagonist|inverse_agonist|blocker|inhibitor|negative_allosteric_modulator)::Compound:'
          OR relation ~ '^DrugMechDB::(decreases activity of|negatively regulates)::Compound:(Protein|Gene Family|Complex)$'
          OR relation IN ('GNBR::A-::Compound:Gene', 'GNBR::N::Compound:Gene') THEN -1
        WHEN relation ~ '^DGIDB::(BINDER|MODULATOR|ALLOSTERIC MODULATOR|ANTIBODY)::'
          OR relation ~ '^ChEMBL::(active_at|acts_on|binding_agent|modulator)::Compound:'
          OR relation IN ('DrugCentral::target::Compound:Gene', 'Hetionet::CbG::Compound:Gene', 'GNBR::B::Compound:Gene',
                          'DRUGBANK::target::Compound:Gene', 'PrimeKG::drug_protein::Compound:Gene') THEN 0
    END::smallint
$$;
