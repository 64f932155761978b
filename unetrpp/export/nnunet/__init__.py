"""Trained models of nnU-Net v2 as model folders that predict what nnU-Net predicts."""
