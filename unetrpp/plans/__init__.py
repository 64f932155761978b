"""The records of what was measured (fingerprint) and decided (plans, architecture)."""
