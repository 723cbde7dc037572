"""Where embarrassingly parallel work is done: this machine's processes, or a Ray cluster, behind one interface.

Import ``open_pool`` from ``kb.compute.places`` and the rest from ``kb.compute.pool``. It knows neither what is computed
nor a database; only ``on_ray`` imports Ray, and only when it is asked for.
"""
