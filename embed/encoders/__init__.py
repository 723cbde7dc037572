"""The trained towers, one modality a file; ``embed.registry`` finds them by name."""
