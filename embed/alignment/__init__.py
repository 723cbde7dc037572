"""What aligns the towers: the contrastive losses, the objective of a step, and the fusion.

Import from it: ``loss``, ``objective``, ``fusion``. It must not know files or databases.
"""
