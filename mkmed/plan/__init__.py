"""``mkmed plan``: what a size takes, from measured rates. ``rates.json`` holds them; nothing here measures anything."""
