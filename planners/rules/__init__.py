"""One rule a file: each turns measurements into a part of the plans, with its reason."""
