"""Training: ``config`` (what a run is) → ``state`` → ``step`` → ``checkpoint`` · ``logging`` → ``loop``."""
