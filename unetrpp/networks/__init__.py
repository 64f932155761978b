"""Networks: blocks, efficient paired attention, UNETR++, U-Nets, and what they cost."""
