"""Trainers: plans and preprocessed cases -> a model folder."""
