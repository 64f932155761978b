"""Evaluation: metrics, summaries, cross-validation."""
