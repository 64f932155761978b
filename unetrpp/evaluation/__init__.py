"""Evaluation: metrics, summaries, cross-validation, and the choice between models."""
