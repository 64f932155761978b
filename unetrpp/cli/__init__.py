"""The commands of the ground floor, one file each. A room keeps its own command."""
