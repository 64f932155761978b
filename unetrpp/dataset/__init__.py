"""Raw datasets: dataset.json, cases, labels, folds, verification, and a synthetic dataset."""
