"""One adapter per provider or dialect."""
