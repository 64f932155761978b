"""Measuring a dataset: fingerprint extraction, label structures, foreground occupancy, groups of cases."""
