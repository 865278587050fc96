"""Pictures of results: ``figures``."""
