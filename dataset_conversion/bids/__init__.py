"""What `datasets/bids.py` needs: the parts of names, which files belong together, and tables of classes."""
