"""Training patches: where they are drawn, and the loader that reads them."""
