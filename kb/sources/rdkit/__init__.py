"""What RDKit computes where no source has it: properties, depictions, conformers.

Import from it: ``source``, ``compute``.
"""
