"""Experiment planning: a raw dataset folder -> fingerprint, plans, preprocessed cases."""
